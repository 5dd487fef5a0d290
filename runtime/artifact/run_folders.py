"""Run folders in the order in which they were trained last, whatever their file times are: a copy changes those.

A run records its start in `config.json`, and the time of each record in `metrics.jsonl`. A run of an earlier version
that records no start is older than all that do, and among such runs file times decide.
"""

import datetime
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from ..errors import JsonError, StorageError
from ..io.files import opened, read_bytes
from ..io.json_reader import parse_json

RUNS = Path("runs")
"""The folder of the runs, in the current folder."""

CONFIG = "config.json"
METRICS = "metrics.jsonl"
EXPORTS = "*.onnx"
START_KEY = "started"
TIME_KEY = "time"
_OLDEST = datetime.datetime.min.replace(tzinfo=datetime.UTC)
_TICK = datetime.timedelta(microseconds=1)
_MOST_RECORD_BYTES = 1 << 12


@final
@dataclass(frozen=True)
class RunFolder:
    """A run folder.

    Attributes:
        path: The folder.
        started: When its run began; None where that is not recorded.
        trained: When its training wrote its last record; None where that is not recorded.
        modified_ns: The newest file time of the files that were looked for.
    """

    path: Path
    started: datetime.datetime | None
    trained: datetime.datetime | None
    modified_ns: int

    @property
    def active(self) -> datetime.datetime | None:
        """When it was trained last: its start or its last record; None where neither is recorded."""
        return max((time for time in (self.started, self.trained) if time is not None), default=None)

    def format_time(self) -> str:
        """When it was trained last, in local time; its file time where that is not recorded."""
        if self.active is not None:
            what = "started" if self.active == self.started else "last trained"
            return f"{what} {self.active.astimezone():%Y-%m-%d %H:%M:%S}"
        modified = datetime.datetime.fromtimestamp(self.modified_ns / 1e9)
        return f"start not recorded, file time {modified:%Y-%m-%d %H:%M:%S}"


def run_folders(runs: Path = RUNS, pattern: str = CONFIG) -> list[RunFolder]:
    """The folders in `runs` that hold a run, or with another `pattern` such files; the one trained last comes last.

    It is the latest run. Of runs that record the same time, copies of each other, the last one is that whose name sorts
    first.

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
            modified_ns = max(file.stat().st_mtime_ns for file in files)
            folders.append(RunFolder(path, _time(facts, START_KEY), _last_record(path), modified_ns))
    folders.sort(key=lambda folder: folder.path, reverse=True)
    return sorted(folders, key=_order)


def why_latest(folders: Sequence[RunFolder]) -> str:
    """Why the last one is the latest: `latest of 3, last trained 2026-11-28 21:32:55`."""
    latest = folders[-1]
    reason = f"latest of {len(folders):,}, {latest.format_time()}" if len(folders) > 1 else latest.format_time()
    if twins := [folder.path.name for folder in folders[:-1] if _order(folder) == _order(latest)]:
        reason += f"; {', '.join(sorted(twins))} has the same time and may be a copy"
    return reason


def next_start(runs: Path) -> str:
    """The start of a run that begins now in `runs`: the time, but later than every start and record there.

    So the newest run stays the latest one even if the clock has been set back.
    """
    latest = _OLDEST
    for path, _ in _matches(runs, CONFIG):
        try:
            latest = max(latest, _time(_facts(path), START_KEY) or _OLDEST, _last_record(path) or _OLDEST)
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


def _last_record(folder: Path) -> datetime.datetime | None:
    """The time of the last record of a training; None if it is not known."""
    path = folder / METRICS
    try:
        with opened(path) as file:
            file.seek(max(file.seek(0, os.SEEK_END) - _MOST_RECORD_BYTES, 0))
            record = parse_json(file.read().rstrip().rpartition(b"\n")[2])
    except (JsonError, StorageError):
        return None
    return _time(record, TIME_KEY)


def _time(facts: Any, key: str) -> datetime.datetime | None:
    """A recorded time; None if there is none, or no plausible one with its zone."""
    try:
        time = datetime.datetime.fromisoformat(facts[key])
    except (KeyError, TypeError, ValueError):
        return None
    return time if time.tzinfo is not None and _OLDEST.year < time.year < datetime.MAXYEAR - 1 else None


def _order(folder: RunFolder) -> tuple[bool, datetime.datetime, int]:
    if folder.started is None or folder.active is None:
        return False, _OLDEST, folder.modified_ns
    return True, folder.active, 0
