"""The interpreter of another environment, with other versions of lmtool and of the runtimes."""

import json
import shutil
import subprocess
from dataclasses import dataclass, fields
from pathlib import Path
from typing import final

from ...runtime.errors import truncated
from ..errors import BenchError
from .job import Job

_FACTS = """
import dataclasses, importlib.metadata as metadata, json, platform
import lmtool, pytest_benchmark
from lmtool.bench.workers.job import Job
names = ("onnxruntime", "onnxruntime-gpu", "torch", "openvino")
found = {name: each.version for name in names for each in metadata.Distribution.discover(name=name)}
versions = {"lmtool": lmtool.__version__, "Python": platform.python_version()} | found
print(json.dumps({"versions": versions, "job": sorted(field.name for field in dataclasses.fields(Job))}))
"""
_TIMEOUT_SECONDS = 60


@final
@dataclass(frozen=True)
class Interpreter:
    """An interpreter that can run lmtool's benchmarks.

    Attributes:
        path: The executable.
        versions: Package -> version.
    """

    path: str
    versions: dict[str, str]

    def __str__(self) -> str:
        return f"{self.path} ({', '.join(f'{name} {version}' for name, version in self.versions.items())})"


def find_interpreter(path: Path) -> Interpreter:
    """The interpreter at `path`, or of the virtual environment there.

    Raises:
        BenchError: There is none, or its environment has no benchmarks of lmtool, or those of too different a version.
    """
    candidates = [path, path / "bin" / "python", path / "Scripts" / "python.exe"]
    executable = next((str(each.absolute()) for each in candidates if each.is_file() and shutil.which(each)), None)
    if executable is None:
        raise BenchError(f"{path} is no Python interpreter, expected one, or the folder of a virtual environment")
    try:
        finished = subprocess.run(  # noqa: S603  # the user chose it
            [executable, "-c", _FACTS], capture_output=True, text=True, check=False, timeout=_TIMEOUT_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"{executable} cannot run: {error}") from error
    if finished.returncode != 0:
        reason = truncated(finished.stderr.strip().rpartition("\n")[2])
        raise BenchError(
            f"{executable} cannot run benchmarks: {reason}; in its environment: pip install 'lmtool[bench,cpu]'"
        )
    facts = json.loads(finished.stdout)
    earlier = Interpreter(executable, facts["versions"])
    if facts["job"] != sorted(field.name for field in fields(Job)):
        raise BenchError(
            f"{earlier} takes other jobs than this lmtool, so the two cannot be measured in turns; install this one "
            "there, beside the earlier runtimes"
        )
    return earlier
