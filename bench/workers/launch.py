"""Runtimes in processes of their own: one verifies, one times calls, one is a server; each writes what it found."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from ...runtime.io.files import temporary_folder
from ..backends.node_process import NODE_FOLDER, node_folder
from ..candidates import Candidate
from ..environment import NO_TF32
from ..roofline import Roofline
from ..scenario import Scenario
from ..timing import Round
from .job import BY_PROVIDER, REFUSED
from .plugin import PEAK, ROOFLINE

_SUITES = tuple(Path(__file__).with_name(name) for name in ("bench_calls.py",))
_LAST_WORDS = 12
_PATIENCE_SECONDS = 3600

PYTEST_OPTIONS = [
    "-qx",
    "--tb=short",
    "--benchmark-quiet",
    "-c",
    os.devnull,
    "-p",
    "lmtool.bench.workers.plugin",
    "-p",
    "no:cacheprovider",
    "-o",
    "python_files=bench_*.py",
    "--import-mode=importlib",
    "-o",
    "consider_namespace_packages=true",
    "--benchmark-only",
    "--benchmark-save-data",
    "--benchmark-disable-gc",
    "--benchmark-warmup=on",
    "--benchmark-warmup-iterations=200",
    "--benchmark-min-rounds=5",
]


@final
class CrashError(Exception):
    """A process of a runtime that did not come to its end; what it says is for people."""


@final
class RefusedError(Exception):
    """A runtime that cannot do what was asked, and said so.

    Attributes:
        by_provider: Whether the execution provider is the reason.
    """

    def __init__(self, message: str, by_provider: bool) -> None:
        """Pass on what it said."""
        super().__init__(message)
        self.by_provider = by_provider


def run_verification_job(candidate: Candidate, shapes: Sequence[str] = ()) -> dict[str, Any]:
    """What the verification of a runtime found.

    Args:
        candidate: The runtime.
        shapes: BATCHxTIME of calls that are compared beside the usual ones.

    Raises:
        RefusedError: It cannot run here: its provider, or another thing that it says.
        CrashError: The process ended before its time.
    """
    with temporary_folder() as folder:
        report = folder / "report.json"
        command = ["lmtool.bench.workers.verify", *candidate.arguments, *(f"--shape={shape}" for shape in shapes)]
        return _report(_run([*command, f"--out={report}"], candidate, folder), report)


def run_vectors_job(candidate: Candidate) -> dict[str, Any]:
    """What a runtime gave for the test vectors beside its artifact.

    Raises:
        RefusedError: It cannot run the file, as it says.
        CrashError: The process ended before its time.
    """
    with temporary_folder() as folder:
        report = folder / "report.json"
        return _report(
            _run(["lmtool.bench.workers.run_vectors", *candidate.arguments, f"--out={report}"], candidate, folder),
            report,
        )


@final
@dataclass(frozen=True)
class RoundResult:
    """What a process timed: a round of each scenario, and what bounds a step on this machine, where that is known."""

    rounds: Mapping[Scenario, Round]
    roofline: Roofline | None = None


def run_timing_job(candidate: Candidate, scenarios: Sequence[Scenario], seconds: float) -> RoundResult:
    """One round of a runtime in these scenarios, which are made of calls, by one pytest-benchmark process.

    Args:
        candidate: The runtime.
        scenarios: What to time.
        seconds: Longest time of one of them, beside its warm-up.

    Raises:
        CrashError: The process ended before its time.
    """
    with temporary_folder() as folder:
        report = folder / "report.json"
        command = ["pytest", *PYTEST_OPTIONS, *map(str, _SUITES), f"--rootdir={_SUITES[0].parent}"]
        command += [*candidate.arguments, *(f"--scenario={scenario}" for scenario in scenarios)]
        command += [f"--benchmark-max-time={seconds}", f"--benchmark-json={report}"]
        found = _report(_run(command, candidate, folder), report)
    rounds = {
        Scenario.parse(entry["param"]): Round(entry["stats"]["data"], entry["extra_info"][PEAK])
        for entry in found["benchmarks"]
    }
    return RoundResult(rounds, Roofline(**found[ROOFLINE]) if ROOFLINE in found else None)


def run_server_job(candidate: Candidate, scenario: Scenario, seconds: float, latency_bound: float) -> Round:
    """One round of a server over a runtime: requests arrive for so many seconds at the scenario's rate.

    Raises:
        RefusedError: It cannot do that, as it says.
        CrashError: The process ended before its time.
    """
    with temporary_folder() as folder:
        report = folder / "report.json"
        command = ["lmtool.bench.load.mlperf_server", *candidate.arguments, f"--rate={scenario.rate}"]
        command += [f"--seconds={seconds}", f"--latency-bound-ms={1000 * latency_bound}", f"--out={report}"]
        content = _report(_run(command, candidate, folder), report)
    (found,) = content["reports"]
    reasons, warnings = found["invalid_reasons"], found["warnings"]
    return Round(found["latencies"], content["peak_bytes"], found["achieved_rate"], reasons, warnings)


def _report(finished: subprocess.CompletedProcess[str], report: Path) -> dict[str, Any]:
    """The report that a process wrote.

    Raises:
        RefusedError: It says that it cannot do what was asked.
        CrashError: It ended before its time.
    """
    content = report.read_text() if report.exists() else ""  # pytest-benchmark opens its file before it measures
    found: dict[str, Any] = json.loads(content or "{}")
    if REFUSED in found:
        raise RefusedError(found[REFUSED], found[BY_PROVIDER])
    if finished.returncode != 0:
        raise CrashError(f"the process {_ending(finished.returncode)}; its last words:\n{_last_words(finished)}")
    return found


def _last_words(finished: subprocess.CompletedProcess[str]) -> str:
    """What the error says, where pytest marks it; else the last lines of all that was said."""
    said = (finished.stdout + finished.stderr).strip().splitlines()
    marked = [line.removeprefix("E").strip() for line in said if line.startswith("E ")]
    return "\n".join((marked or said)[-_LAST_WORDS:]) or "(none)"


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with {code}"
    known = {member.value for member in signal.Signals}
    return f"was killed by {signal.Signals(-code).name if -code in known else f'signal {-code}'}"


def _run(module: list[str], candidate: Candidate, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a module in a process of its own.

    Raises:
        CrashError: It does not end.
    """
    try:
        return subprocess.run(  # noqa: S603  # our own interpreter, suites and modules
            [sys.executable, "-m", *module],
            cwd=folder,
            env=_environment(candidate.source.threads, folder),
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise CrashError(f"the process did not end within {_PATIENCE_SECONDS:,} seconds and was stopped") from error


def _environment(threads: int, folder: Path) -> dict[str, str]:
    """So many threads in every library, no TF32, and temporary files where they go even if the process dies."""
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "PY_COLORS"))}
    counts = {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "MKL", "OPENBLAS")}
    return {**variables, **counts, "TMPDIR": str(folder), NODE_FOLDER: str(node_folder()), **NO_TF32}
