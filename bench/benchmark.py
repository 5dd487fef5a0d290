"""Run a benchmark: verify every candidate, then time them over interleaved rounds, compare and save the results.

Each measurement is a fresh process that loads one backend, because torch and onnxruntime in one process compete for
threads (https://github.com/microsoft/onnxruntime/issues/13808). The candidates alternate (A B C, B C A, ...), because a
shared machine's speed drifts: ratios within a round stay comparable.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, final

from ..runtime.artifact.choice import choose_artifact, latest_artifact
from ..runtime.errors import OptionError, StorageError
from ..runtime.io.files import make_folder, temporary_folder
from ..runtime.session.providers import provider_named, require_provider
from ..runtime.session.session import check_threads
from .backends.node_process import NODE_PACKAGE, WEB_PACKAGE, versions
from .backends.registry import ONNXRUNTIME
from .candidates import FP32, OTHERS, Candidates, by_reason
from .comparison import Comparison, compare, read_results, require_same
from .environment import describe_environment, load_average
from .errors import BenchError
from .load.arrivals import Arrivals
from .load.loadgen import require_loadgen
from .mlperf.results import MlperfResults
from .mlperf.runs import LOGS, run_mlperf
from .mlperf.settings import LOADGEN_NAMES
from .profile.run_profiles import profiled_scenarios, run_profiles
from .report.mlperf import format_mlperf
from .report.save import FAILED_NAME, NAME, save_results
from .report.text import format_table
from .results import Identity, Results
from .roofline import Roofline
from .rounds import Measurements, Schedule, TimingTask, run_rounds
from .run_sweeps import run_sweeps
from .scenario import TOKEN, Scenario, chosen_scenarios
from .stateful.target import StatefulTarget
from .sweep import Sweep
from .target import LanguageModelTarget, Target, reads_tokens
from .verification import Progress, VerificationResults, verify_candidates

_OWN_PRECISION = (ONNXRUNTIME, "openvino-default")
"""Backends that may read weights of fewer than four bytes."""

_NO_SWEEPS: tuple[list[Sweep], VerificationResults] = ([], VerificationResults())


@final
@dataclass(frozen=True)
class BenchOptions:
    """Options of a benchmark.

    Attributes:
        model: The artifact, an ONNX file from elsewhere with the same contract, or any other recurrent ONNX file; None
            for the best artifact. The artifact's siblings in other precisions are measured too.
        providers: Execution providers of the artifact; torch runs on the same kinds of device.
        against: Other backends, of `OTHERS`; the first that can run is the baseline. None: torch for a language model,
            no other backend for another network.
        scenarios: Scenarios to time.
        threads: Threads of one call, for every backend.
        schedule: Rounds and durations.
        profile: Also profile the scenarios whose kind is in `CALL_KINDS`.
        mlperf: Run LoadGen by MLPerf's rules, in its four scenarios; its runs last as long as those rules ask for if
            `schedule.loadgen_seconds` does (`OFFICIAL_SECONDS`).
        max_rate: Search the highest valid rate of a server alone; `mlperf` includes it.
        sweep: Also time every axis of `AXES`, with networks of other sizes.
        states: State input -> the output that holds it after a call, of a network that is no language model; None: as
            its graph and names tell.
        inputs: Input of such a network -> sizes of its axes, or a .npy file (`GivenInput`).

    Raises:
        OptionError: A number is outside its range, there is nothing to measure, or a provider or backend is unknown.
    """

    model: Path | None = None
    providers: Sequence[str] = ("cpu",)
    against: Sequence[str] | None = None
    scenarios: Sequence[Scenario] = field(default_factory=lambda: chosen_scenarios(None, None, None, None))
    threads: int = 1
    schedule: Schedule = field(default_factory=Schedule)
    mlperf: bool = False
    max_rate: bool = False
    sweep: bool = False
    profile: bool = False
    states: Mapping[str, str] | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for provider in self.providers:
            provider_named(provider)
        for name in self.against or ():
            if name not in OTHERS:
                raise OptionError(f"runtime {name!r} is not known, expected one of {', '.join(OTHERS)}")
        for scenario in self.scenarios:
            if scenario.kind == "server":
                Arrivals(scenario.rate, self.schedule.loadgen_seconds, self.schedule.latency_bound)
        check_threads(self.threads)
        if self.profile:
            profiled_scenarios(self.scenarios)
        for name, values in (("provider", self.providers), ("scenario", self.scenarios or self.loadgen_scenarios)):
            if not values:
                raise OptionError(f"there is no {name}, expected one at least")

    @property
    def loadgen_scenarios(self) -> Sequence[str]:
        """The scenarios that LoadGen runs by MLPerf's rules."""
        return tuple(LOADGEN_NAMES) if self.mlperf else ("server",) if self.max_rate else ()


def run_bench(options: BenchOptions, progress: Progress, loadgen_logs: Path | None = None) -> Results:
    """Verify and time an artifact, its siblings in other precisions, and other backends.

    A candidate that differs from its reference is not timed, one that crashes loses its timings; the results say so.

    Args:
        options: What to measure.
        progress: Called with one line for each step.
        loadgen_logs: Folder for the logs of runs by MLPerf's rules; None drops them.

    Raises:
        ProviderError: A provider is missing or cannot run the artifact.
        ArtifactError: There is no export, or the file breaks the contract.
        BenchError: No artifact runs on a provider.
    """
    for provider in options.providers:
        require_provider(provider_named(provider))
    with temporary_folder() as folder:
        return _measure(options, folder, progress, loadgen_logs)


def _measure(options: BenchOptions, folder: Path, progress: Progress, loadgen_logs: Path | None) -> Results:
    target = _find(options, folder)
    if target.unit != TOKEN and options.sweep:
        raise OptionError("--sweep makes language models of other sizes; for another network name --batch and --time")
    if options.loadgen_scenarios:
        _require_mlperf(target)
    identity = _identity(target, options)
    scenarios, impossible = target.possible(options.scenarios)
    if not scenarios and not options.sweep and not options.loadgen_scenarios:
        reasons = (f"{names}: {reason}" for names, reason in by_reason(impossible).items())
        raise BenchError(f"there is nothing to measure: {'; '.join(reasons)}")
    verification = verify_candidates(target.candidates, progress, scenarios, target.required)
    tasks = {name: TimingTask(candidate, scenarios) for name, candidate in verification.candidates.items()}
    measurements = run_rounds(tasks if scenarios else {}, options.schedule, progress)
    measured = {name: task.candidate for name, task in tasks.items() if name not in measurements.crashed}
    rooflines = _rooflines(verification, measurements)
    profiles = None
    if options.profile:
        profiles = run_profiles(measured, scenarios, rooflines, options.schedule.seconds_per_scenario, progress)
    sweeps, swept = _NO_SWEEPS
    if options.sweep and measured:
        sweeps, swept = run_sweeps(measured, options.schedule, folder, progress)
    mlperf = _run_mlperf(options, measured, folder, loadgen_logs, progress)
    return Results(
        model=target.model,
        identity=identity,
        baseline=next(iter(measured), ""),
        timings=measurements.timings,
        unit=target.unit,
        training=target.training,
        parity=verification.reports,
        placement=verification.placement,
        rooflines=rooflines,
        profiles=profiles,
        failed=verification.failed,
        crashed=verification.crashed | measurements.crashed,
        skipped=target.skipped | impossible | verification.skipped | swept.skipped,
        sweeps=sweeps,
        sweep_failures=swept.crashed | {name: "; ".join(reasons) for name, reasons in swept.failed.items()},
        mlperf=mlperf,
        load_after=load_average(),
    )


def _require_mlperf(target: Target) -> None:
    if target.unit != TOKEN:
        raise OptionError(
            f"--mlperf and --max-rate run language models, and {target.model} is none: its samples would have no text; "
            "leave them out"
        )
    require_loadgen()


def _run_mlperf(
    options: BenchOptions, measured: Candidates, folder: Path, kept: Path | None, progress: Progress
) -> MlperfResults | None:
    if not options.loadgen_scenarios or not measured:
        return None
    seconds, bound = options.schedule.loadgen_seconds, options.schedule.latency_bound
    return run_mlperf(measured, options.loadgen_scenarios, seconds, bound, folder, kept, progress)


def identify(options: BenchOptions) -> Identity:
    """The identity of the results of `run_bench`, before anything is measured.

    Raises:
        ArtifactError: There is no export, or the file breaks the contract.
        BenchError: No artifact runs on a provider.
    """
    with temporary_folder() as folder:
        return _identity(_find(options, folder), options)


def _find(options: BenchOptions, folder: Path) -> Target:
    """The named or the best model as a target, whose files of the moment go into `folder`."""
    model = options.model or latest_artifact()
    chosen = (options.providers, options.against, options.threads, folder)
    if options.states is None and not options.inputs and reads_tokens(model):
        return LanguageModelTarget(model, *chosen)
    return StatefulTarget(model, options.states, options.inputs, *chosen)


def _identity(target: Target, options: BenchOptions) -> Identity:
    hashes = {name: candidate.artifact_sha256 for name, candidate in target.candidates.items()}
    in_node = any(candidate.backend in (NODE_PACKAGE, WEB_PACKAGE) for candidate in target.candidates.values())
    return Identity(
        providers=tuple(options.providers),
        threads=options.threads,
        schedule=asdict(options.schedule),
        original=target.original,
        artifacts={name: sha256 for name, sha256 in hashes.items() if sha256 is not None},
        environment={**describe_environment(), "node": versions() if in_node else {}},
        calls=target.calls,
    )


def _rooflines(verification: VerificationResults, measurements: Measurements) -> dict[str, Roofline]:
    """At the best measured rates; backends that read the same fp32 weights share one."""
    known = measurements.rooflines
    rooflines = {name: roofline.best(known.get(name)) for name, roofline in verification.rooflines.items()}
    shared = rooflines.get(f"onnx {FP32}")
    for name, candidate in verification.candidates.items():
        if shared is not None and candidate.source.provider == "cpu" and candidate.backend not in _OWN_PRECISION:
            rooflines.setdefault(name, shared)
    return rooflines


@final
@dataclass(frozen=True)
class RegressionGate:
    """Earlier results, and how much slower the new ones may be.

    Attributes:
        old: An earlier `bench.json`.
        allowed: Allowed relative increase of a time; None: only report.
        anyway: Also compare results of another machine or artifact.
    """

    old: Path
    allowed: float | None = None
    anyway: bool = False


@final
@dataclass(frozen=True)
class BenchmarkRun:
    """Results, their comparison with earlier ones, and the saved files by kind."""

    results: Results
    comparison: Comparison | None
    files: Mapping[str, Path]

    @property
    def passed(self) -> bool:
        """Whether every candidate passed its verification, none crashed, and none is slower than allowed."""
        return self.results.is_sound and not (self.comparison and self.comparison.failures)

    def format(self, width: int | None = None) -> str:
        """The run as text, in `width` columns; None: no limit."""
        parts = [format_table(self.results, width)]
        if self.results.mlperf is not None:
            parts.append(format_mlperf(self.results.mlperf, width))
        if self.comparison is not None:
            parts.append(self.comparison.format(width))
        files = [f"{kind}: {path}" for kind, path in self.files.items()]
        return "\n\n".join(filter(None, [*parts, "\n".join(files)]))

    def to_json(self) -> dict[str, Any]:
        """The run, ready for JSON."""
        compared = {} if self.comparison is None else {"comparison": self.comparison.to_json()}
        return self.results.to_json() | compared


def run_benchmark(
    options: BenchOptions, folder: Path | None, gate: RegressionGate | None, progress: Progress
) -> BenchmarkRun:
    """Measure, compare, save.

    The gate and the folder are checked before anything is measured. Results that fail the gate do not overwrite the
    results that they are compared with: they are saved as `bench.failed.json` and so on. The folder defaults to the
    artifact's.

    Raises:
        LmtoolError: As for `run_bench`; or the earlier results cannot be read or are not comparable, or the folder
            cannot be made.
    """
    before = None if gate is None else read_results(gate.old)  # read now: the results may overwrite this file
    model = options.model
    if model is None:
        model, reason = choose_artifact()
        options = replace(options, model=model)
        progress(f"model: {model} ({reason})")
    if folder is not None:
        make_folder(folder)
    if gate is not None and before is not None and not gate.anyway:
        require_same(before, identify(options))
    target = folder or model.parent
    results = run_bench(options, progress, target / LOGS)
    comparison = None if gate is None or before is None else compare(before, results, gate.allowed)
    unsaved = BenchmarkRun(results, comparison, {})
    overwrites = gate is not None and (target / f"{NAME}.json").resolve() == gate.old.resolve()
    name = FAILED_NAME if overwrites and not unsaved.passed else NAME
    try:
        return BenchmarkRun(results, comparison, save_results(results, target, comparison, name))
    except StorageError:
        progress(unsaved.format().rstrip())  # print what took minutes to measure
        for name, summary in ({} if results.mlperf is None else results.mlperf.summaries).items():
            progress(f"LoadGen's summary of {name}\n{summary}")
        raise
