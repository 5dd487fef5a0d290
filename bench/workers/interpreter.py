"""The interpreter of another environment, with other versions of lmtool and of the runtimes."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from ...runtime.errors import truncated
from ...runtime.io.files import temporary_folder
from ..errors import BenchError
from .job import JOB_FORMAT

_FACTS = """
import importlib.metadata as metadata, json, platform, sys
import lmtool, pytest_benchmark
from lmtool.bench.backends.registry import BACKENDS
from lmtool.bench.load.loadgen import missing
from lmtool.bench.workers.job import JOB_FORMAT
names = ("onnxruntime", "onnxruntime-gpu", "torch", "openvino")
found = {name: each.version for name in names for each in metadata.Distribution.discover(name=name)}
versions = {"lmtool": lmtool.__version__, "Python": platform.python_version()} | found
reasons = {name: BACKENDS[name].reason_missing() for name in sys.argv[1:] if name in BACKENDS} | {"server": missing()}
missing = {name: reason for name, reason in reasons.items() if reason is not None}
print(json.dumps({"job_format": JOB_FORMAT, "versions": versions, "missing": missing}))
"""
_TIMEOUT_SECONDS = 60
_PLACES = ("PYTHONPATH", "PYTHONHOME")
"""Variables that would give another environment the packages of this one."""


@final
@dataclass(frozen=True)
class Interpreter:
    """An interpreter that can run lmtool's benchmarks.

    Attributes:
        path: The executable.
        versions: Package -> version.
        missing: Backend, or `server`, that cannot run there -> the reason.
    """

    path: str
    versions: Mapping[str, str]
    missing: Mapping[str, str]

    def __str__(self) -> str:
        return ", ".join(f"{name} {version}" for name, version in self.versions.items())


def find_interpreter(path: Path, backends: Iterable[str] = ()) -> Interpreter:
    """The interpreter at `path`, or of the virtual environment there; `backends` are asked whether they can run there.

    Raises:
        BenchError: There is none, or its environment has no benchmarks of lmtool, or those of too different a version.
    """
    candidates = [path, path / "bin" / "python", path / "Scripts" / "python.exe"]
    executable = next((str(each.absolute()) for each in candidates if each.is_file() and shutil.which(each)), None)
    if executable is None:
        raise BenchError(f"{path} is no Python interpreter, expected one, or the folder of a virtual environment")
    facts = _facts(executable, backends)
    if facts.get("job_format") != JOB_FORMAT:
        raise BenchError(
            f"the lmtool of {executable} takes other jobs than this one, so the two cannot be measured in turns; "
            "install this one there, beside the earlier runtimes"
        )
    return Interpreter(executable, facts["versions"], facts["missing"])


def variables_for(python: str) -> dict[str, str]:
    """Environment variables for a process of an interpreter."""
    is_here = python == sys.executable
    return {name: value for name, value in os.environ.items() if is_here or name not in _PLACES}


def _facts(executable: str, backends: Iterable[str]) -> dict[str, Any]:
    try:
        with temporary_folder() as folder:  # a package in the current folder would be imported
            finished = subprocess.run(  # noqa: S603  # the user chose it
                [executable, "-c", _FACTS, *backends],
                cwd=folder,
                env=variables_for(executable),
                capture_output=True,
                text=True,
                check=False,
                timeout=_TIMEOUT_SECONDS,
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"{executable} cannot run: {error}") from error
    if finished.returncode != 0:
        reason = truncated(finished.stderr.strip().rpartition("\n")[2])
        raise BenchError(
            f"{executable} cannot run benchmarks: {reason}; in its environment: this lmtool, pip install '.[bench,cpu]'"
        )
    facts: dict[str, Any] = json.loads(finished.stdout)
    return facts
