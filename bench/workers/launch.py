"""Run a job in a fresh process and read its report; a refusal and a crash become exceptions."""

import json
import os
import signal
import subprocess
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
from .interpreter import variables_for
from .job import BY_PROVIDER, REFUSED, Job, MlperfTask
from .plugin import BARE, JOULES, PEAK, ROOFLINE

_SUITE = "lmtool.bench.workers.bench_calls"
_LAST_LINES = 12
_TIMEOUT_SECONDS = 3600
_LONGEST_RUNS = 20  # of a job's `seconds`: a search of the highest rate

PYTEST_OPTIONS = f"""
-qx --tb=short -c {os.devnull} -p pytest_benchmark.plugin -p lmtool.bench.workers.plugin -p no:cacheprovider
-o python_files=bench_*.py --import-mode=importlib -o consider_namespace_packages=true
--benchmark-only --benchmark-quiet --benchmark-save-data --benchmark-disable-gc
--benchmark-warmup=on --benchmark-warmup-iterations=200 --benchmark-min-rounds=5
""".split()


@final
class CrashError(Exception):
    """A worker process ended early or did not end."""


@final
class ClockError(Exception):
    """A call took no time, or less."""


@final
class RefusedError(Exception):
    """A backend refuses the job and gives the reason.

    Attributes:
        by_provider: Whether the execution provider is the reason.
    """

    def __init__(self, message: str, by_provider: bool) -> None:
        super().__init__(message)
        self.by_provider = by_provider


def run_verification_job(candidate: Candidate, scenarios: Sequence[Scenario] = ()) -> dict[str, Any]:
    """Verify a candidate; calls of the scenarios' sizes are compared besides the usual ones.

    Raises:
        RefusedError: The candidate cannot run here.
        CrashError: The process ended early.
    """
    return _run_job("lmtool.bench.workers.verify", candidate, scenarios=scenarios)


def run_profile_job(candidate: Candidate, scenarios: Sequence[Scenario], seconds: float) -> list[dict[str, Any]]:
    """Profile a candidate's calls in some scenarios, each for about twice `seconds`.

    Raises:
        RefusedError: It has no profile that can be read, or its profile is damaged.
        CrashError: The process ended early.
    """
    report = _run_job("lmtool.bench.workers.profile", candidate, scenarios=scenarios, seconds=seconds)
    profiles: list[dict[str, Any]] = report["profiles"]
    return profiles


def run_vectors_job(candidate: Candidate) -> dict[str, Any]:
    """Run the test vectors beside a candidate's artifact.

    Raises:
        RefusedError: The candidate cannot run the file.
        CrashError: The process ended early.
    """
    return _run_job("lmtool.bench.workers.run_vectors", candidate)


@final
@dataclass(frozen=True)
class RoundResult:
    """One round of each scenario, and the bound of a step on this machine, if it was measured."""

    rounds: Mapping[Scenario, Round]
    roofline: Roofline | None = None


def run_timing_job(candidate: Candidate, scenarios: Sequence[Scenario], seconds: float) -> RoundResult:
    """Time one round of a candidate; `seconds` is the longest time of a scenario, without its warm-up.

    Raises:
        CrashError: The process ended early.
        ClockError: The clock jumped.
    """
    report = _run_job("pytest", candidate, scenarios=scenarios, seconds=seconds)
    rounds = {
        Scenario.parse(entry["param"]): Round(
            entry["stats"]["data"],
            entry["extra_info"][PEAK],
            bare_seconds=entry["extra_info"].get(BARE, ()),
            joules=entry["extra_info"].get(JOULES),
        )
        for entry in report["benchmarks"]
    }
    for scenario, timed in rounds.items():
        if min(timed.call_seconds) <= 0:
            raise ClockError(f"{scenario}: a call took {min(timed.call_seconds)} s: the clock jumped; measure again")
    return RoundResult(rounds, Roofline(**report[ROOFLINE]) if ROOFLINE in report else None)


def run_server_job(candidate: Candidate, scenario: Scenario, seconds: float, latency_bound: float) -> Round:
    """Time one round of a server: requests arrive for `seconds` at the scenario's rate.

    Raises:
        RefusedError: The candidate cannot do that.
        CrashError: The process ended early.
    """
    module = "lmtool.bench.load.mlperf_server"
    report = _run_job(module, candidate, scenarios=[scenario], seconds=seconds, latency_bound=latency_bound)
    (server,) = report["reports"]
    reasons, warnings = server["invalid_reasons"], server["warnings"]
    return Round(server["latencies"], report["peak_bytes"], server["achieved_rate"], reasons, warnings)


def run_mlperf_job(candidate: Candidate, task: MlperfTask, seconds: float, latency_bound: float) -> dict[str, Any]:
    """Run LoadGen by MLPerf's rules; its logs are in the task's folder then.

    Raises:
        RefusedError: The candidate cannot do that, or LoadGen gives no verdict.
        CrashError: The process ended early.
    """
    return _run_job("lmtool.bench.mlperf.measure", candidate, seconds=seconds, latency_bound=latency_bound, mlperf=task)


def run_output_audit_job(candidate: Candidate, task: MlperfTask) -> dict[str, Any]:
    """Compare the outputs that LoadGen logged with the reference's.

    Raises:
        RefusedError: They cannot be compared.
        CrashError: The process ended early.
    """
    return _run_job("lmtool.bench.mlperf.check_outputs", candidate, mlperf=task)


def _run_job(module: str, candidate: Candidate, **work: Any) -> dict[str, Any]:
    with temporary_folder() as folder:
        job = Job(candidate.backend, candidate.source, folder / "report.json", **work)
        return _read_report(job.output, _run(candidate.python, _command(module, job), job, folder))


def _command(module: str, job: Job) -> list[str]:
    if module != "pytest":
        return [module, job.to_json()]
    own = [f"--job={job.to_json()}", f"--benchmark-max-time={job.seconds}", f"--benchmark-json={job.output}"]
    return ["pytest", *PYTEST_OPTIONS, "--pyargs", _SUITE, f"--rootdir={job.output.parent}", *own]


def _read_report(path: Path, finished: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    content = path.read_text() if path.exists() else ""  # pytest-benchmark creates its file before it measures
    try:
        report: dict[str, Any] = json.loads(content or "{}")
    except json.JSONDecodeError as error:
        raise CrashError(f"the process wrote half a report ({error}): is the disk full?") from error
    if REFUSED in report:
        raise RefusedError(report[REFUSED], report[BY_PROVIDER])
    if finished.returncode != 0:
        raise CrashError(f"the process {_ending(finished.returncode)}; its last words:\n{_last_lines(finished)}")
    return report


def _last_lines(finished: subprocess.CompletedProcess[str]) -> str:
    """The error where pytest marks it, else the last lines of the output."""
    lines = (finished.stdout + finished.stderr).strip().splitlines()
    marked = [line.removeprefix("E").strip() for line in lines if line.startswith("E ")]
    return "\n".join((marked or lines)[-_LAST_LINES:]) or "(none)"


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with {code}"
    return f"was killed by {signal.Signals(-code).name if -code in set(signal.Signals) else f'signal {-code}'}"


def _run(python: str, command: list[str], job: Job, folder: Path) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(  # noqa: S603  # our own modules, in an interpreter that the user chose
            [python, "-m", *command],
            cwd=folder,
            env=_environment(python, job.source.threads, folder),
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_SECONDS + (1 if job.mlperf is None else _LONGEST_RUNS) * job.seconds,
        )
    except subprocess.TimeoutExpired as error:
        raise CrashError(f"the process did not end within {error.timeout:,g} seconds and was stopped") from error


def _environment(python: str, threads: int, folder: Path) -> dict[str, str]:
    """`threads` in every library, no TF32, and a temporary folder that is removed even if the process dies.

    Of pytest's plugins only those of `PYTEST_OPTIONS` are loaded: others cost a second and would run beside the calls.
    """
    inherited = variables_for(python)
    variables = {key: value for key, value in inherited.items() if not key.startswith(("PYTEST_", "PY_COLORS"))}
    counts = {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "MKL", "OPENBLAS")}
    alone = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "TMPDIR": str(folder), NODE_FOLDER: str(node_folder())}
    return {**variables, **counts, **alone, **NO_TF32}
