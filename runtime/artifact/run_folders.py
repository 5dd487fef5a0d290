"""Run folders in the order in which their runs began, whatever their file times are: a copy changes those.

A run records its start in `config.json`. One of an earlier version records none: it is older than all that do, and
among such runs file times decide.
"""

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from ..errors import JsonError, StorageError
from ..io.files import read_bytes
from ..io.json_reader import parse_json

RUNS = Path("runs")
"""The folder of the runs, in the current folder."""

CONFIG = "config.json"
EXPORTS = "*.onnx"
START_KEY = "started"
_OLDEST = datetime.datetime.min.replace(tzinfo=datetime.UTC)
_TICK = datetime.timedelta(microseconds=1)


@final
@dataclass(frozen=True)
class RunFolder:
    """A run folder.

    Attributes:
        path: The folder.
        started: When its run began; None where that is not recorded.
        modified_ns: The newest file time of the files that were looked for.
    """

    path: Path
    started: datetime.datetime | None
    modified_ns: int

    def format_start(self) -> str:
        """Its start in local time, `2026-11-28 21:32:55`; its file time where no start is recorded."""
        if self.started is not None:
            return f"started {self.started.astimezone():%Y-%m-%d %H:%M:%S}"
        modified = datetime.datetime.fromtimestamp(self.modified_ns / 1e9)
        return f"start not recorded, file time {modified:%Y-%m-%d %H:%M:%S}"


def run_folders(runs: Path = RUNS, pattern: str = CONFIG) -> list[RunFolder]:
    """The folders in `runs` that hold a run, or with another `pattern` such files, in the order of their starts.

    The last one is the latest. Of runs that record the same start, copies of each other, the last one is that whose
    name sorts first.

    Raises:
        StorageError: A `config.json` is damaged or cannot be read, so the order is not known.
    """
    folders = []
    for path, files in _matches(runs, pattern):
        try:
            facts = _facts(path)
        except JsonError as error:
            raise StorageError(
                f"which run in {runs} is the latest is not known: {path / CONFIG} {error}; put a copy of that file "
                "back, or name the run or file: --run DIR, --model FILE"
            ) from error
        if pattern != CONFIG or isinstance(facts.get("training"), dict):
            folders.append(RunFolder(path, _start(facts), max(file.stat().st_mtime_ns for file in files)))
    folders.sort(key=lambda folder: folder.path, reverse=True)
    return sorted(folders, key=_order)


def why_latest(folders: Sequence[RunFolder]) -> str:
    """Why the last one is the latest: `latest of 3, started 2026-11-28 21:32:55`."""
    latest = folders[-1]
    reason = f"latest of {len(folders):,}, {latest.format_start()}" if len(folders) > 1 else latest.format_start()
    if twins := [folder.path.name for folder in folders[:-1] if _order(folder) == _order(latest)]:
        reason += f"; {', '.join(sorted(twins))} began at the same time and may be a copy"
    return reason


def next_start(runs: Path) -> str:
    """The start of a run that begins now in `runs`: the time, but later than every start there.

    So the newest run stays the latest one even if the clock has been set back.
    """
    latest = _OLDEST
    for path, _ in _matches(runs, CONFIG):
        try:
            latest = max(latest, _start(_facts(path)) or _OLDEST)
        except (JsonError, StorageError):
            continue
    return max(datetime.datetime.now(datetime.UTC), latest + _TICK).isoformat()


def _matches(runs: Path, pattern: str) -> Iterator[tuple[Path, list[Path]]]:
    """The folders in `runs` with their files of this pattern, hidden ones excepted."""
    for path in runs.glob("*/"):
        files = [file for file in path.glob(pattern) if file.is_file() and not file.name.startswith(".")]
        if files:
            yield path, files


def _facts(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    value = parse_json(read_bytes(path)) if path.exists() else {}
    return value if isinstance(value, dict) else {}


def _start(facts: dict[str, Any]) -> datetime.datetime | None:
    """The recorded start; None if there is none, or no plausible time with its zone."""
    try:
        start = datetime.datetime.fromisoformat(facts[START_KEY])
    except (KeyError, TypeError, ValueError):
        return None
    return start if start.tzinfo is not None and _OLDEST.year < start.year < datetime.MAXYEAR - 1 else None


def _order(folder: RunFolder) -> tuple[bool, datetime.datetime, int]:
    if folder.started is None:
        return False, _OLDEST, folder.modified_ns
    return True, folder.started, 0
