"""The folder of a history, in the layout of pytest-benchmark's storage: MACHINE/NNNN_COMMIT_TIME_RANDOM.json."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, final

from pytest_benchmark.utils import get_machine_id

from ...runtime.errors import JsonError, StorageError
from ...runtime.io.files import json_text, make_folder, read_bytes, write_atomically
from ...runtime.io.json_reader import LARGE_BYTES, parse_json
from .run import OWN, HistoryRun

_NUMBERED = re.compile(r"([0-9]{4,})_")


@final
@dataclass(frozen=True)
class StoredRuns:
    """The runs of a history in order, and the files that are left out: path in the history -> reason."""

    runs: Sequence[HistoryRun]
    left_out: Mapping[str, str]


@final
@dataclass(frozen=True)
class HistoryStorage:
    """A folder with a file for each run; files are added, never changed.

    `pytest-benchmark --storage FOLDER` reads it too, and may keep its results there.
    """

    folder: Path

    def prepare(self) -> None:
        """Make the folder, and check that a file can be added and all files can be listed.

        Raises:
            StorageError: It cannot be made, written or read.
        """
        make_folder(self.folder / get_machine_id())
        for folder in (self.folder, self.folder / get_machine_id()):
            probe = folder / f".probe.{os.urandom(4).hex()}.tmp"
            try:
                probe.touch(exist_ok=False)
                probe.unlink()
            except OSError as error:
                raise StorageError(
                    f"cannot write to {folder}: {error.strerror or error}; a history needs a folder that can be written"
                ) from error
        self._files()

    def append(self, run: Mapping[str, Any]) -> Path:
        """Add a run (`to_json`) under the next number. Runs that end at the same moment may share a number.

        Raises:
            StorageError: It cannot be written.
        """
        number = 1 + max((_number(path) or 0 for path in self._files()), default=0)
        time = datetime.fromisoformat(run["datetime"])
        name = f"{number:04}_{run['commit_info']['id']}_{time:%Y%m%d_%H%M%S}_{os.urandom(4).hex()}.json"
        path = self.folder / str(get_machine_id()) / name
        make_folder(path.parent)
        write_atomically(path, f"{json_text(run, indent=1)}\n".encode())
        return path

    def read(self) -> StoredRuns:
        """All runs by number, of one number by time; files that are damaged or no runs of lmtool are left out.

        Raises:
            StorageError: The folder cannot be read.
        """
        runs: list[HistoryRun] = []
        left_out: dict[str, str] = {}
        for path in self._files():
            name = path.relative_to(self.folder).as_posix()
            try:
                runs.append(_read(path, name))
            except _LeftOutError as error:
                left_out[name] = str(error)
        return StoredRuns(sorted(runs, key=lambda run: (run.number, run.time, run.name)), left_out)

    def _files(self) -> list[Path]:
        try:
            folders = [folder for folder in self.folder.iterdir() if folder.is_dir()]
            return sorted(path for folder in folders for path in folder.iterdir() if path.suffix == ".json")
        except OSError as error:
            raise StorageError(f"cannot read {error.filename}: {error.strerror or error}") from error


class _LeftOutError(Exception):
    """A file that is no run of the history."""


def _read(path: Path, name: str) -> HistoryRun:
    number = _number(path)
    if number is None:
        raise _LeftOutError("its name has no number, expected NNNN_...")
    try:
        value = parse_json(read_bytes(path), LARGE_BYTES)
    except StorageError as error:
        raise _LeftOutError("it cannot be read") from error
    except JsonError as error:
        raise _LeftOutError(f"it {error}") from error
    if not isinstance(value, dict) or OWN not in value:
        raise _LeftOutError("lmtool did not write it")
    try:
        return HistoryRun.from_json(number, name, value)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _LeftOutError(f"it is damaged ({type(error).__name__}: {error})") from error


def _number(path: Path) -> int | None:
    match = _NUMBERED.match(path.name)
    return None if match is None else int(match[1])
