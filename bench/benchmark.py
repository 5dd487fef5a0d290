"""Run a benchmark: verify every candidate, then time them over interleaved rounds.

Each measurement is a fresh process that loads one backend, because torch and onnxruntime in one process compete for
threads (https://github.com/microsoft/onnxruntime/issues/13808). The candidates take turns, each round in
another order, because a shared machine's speed drifts: ratios within a round stay comparable.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import final

from ..runtime.artifact.choice import latest_artifact
from ..runtime.errors import OptionError
from ..runtime.io.files import temporary_folder
from ..runtime.session.providers import provider_named, require_provider
from ..runtime.session.session import check_threads
from .backends.browser_process import SOFTWARE, WEBGPU, browser_version
from .backends.node_process import NODE_PACKAGE, WEB_PACKAGE, versions
from .backends.registry import ONNXRUNTIME
from .candidates import FP32, OTHERS, Candidate, Candidates, Skipped, by_reason
from .environment import describe_environment, load_average
from .errors import BenchError
from .load.arrivals import Arrivals
from .load.loadgen import require_loadgen
from .mlperf.results import MlperfResults
from .mlperf.runs import run_mlperf
from .mlperf.settings import LOADGEN_NAMES
from .profile.run_profiles import profiled_scenarios, run_profiles
from .ranking import verdicts
from .report.text import format_table
from .results import Identity, Results
from .roofline import Roofline
from .rounds import Measurements, Schedule, TimingTask, run_rounds
from .run_sweeps import run_sweeps
from .scenario import TOKEN, Scenario, chosen_scenarios
from .stateful.target import StatefulTarget
from .target import LanguageModelTarget, Target, reads_tokens
from .timing import Timing
from .verification import Progress, VerificationResults, verify_candidates
from .workers.interpreter import Interpreter, find_interpreter

_OWN_PRECISION = (ONNXRUNTIME, "openvino-default")
"""Backends that may read weights of fewer than four bytes."""

_OF_SERVERS = ("loadgen_seconds", "latency_bound")
_BEFORE = ", before"
"""End of the name of a runtime in the earlier environment."""

Undecided = Callable[[Results], Sequence[str]]
"""Names what results do not decide."""


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
        before: Interpreter, or virtual environment, with other versions in which everything is measured too, in turns.

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
    before: Path | None = None

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


def run_bench(
    options: BenchOptions,
    progress: Progress,
    loadgen_logs: Path | None = None,
    undecided: Undecided | None = None,
) -> Results:
    """Verify and time an artifact, its siblings in other precisions, and other backends.

    A candidate that differs from its reference is not timed, one that crashes loses its timings; the results say so.

    Args:
        options: What to measure.
        progress: Called with one line for each step.
        loadgen_logs: Folder for the logs of runs by MLPerf's rules; None drops them.
        undecided: Names what results do not decide; the rounds go on within the schedule while it names something.
            None: what is too close to call among the fastest runtimes.

    Raises:
        ProviderError: A provider is missing or cannot run the artifact.
        ArtifactError: There is no export, or the file breaks the contract.
        BenchError: No artifact runs on a provider, or `before` is no environment of lmtool.
    """
    for provider in options.providers:
        require_provider(provider_named(provider))
    with temporary_folder() as folder:
        return _measure(options, folder, progress, loadgen_logs, undecided or undecided_verdicts)


def _measure(
    options: BenchOptions, folder: Path, progress: Progress, loadgen_logs: Path | None, undecided: Undecided
) -> Results:
    target = _find(options, folder)
    backends = {candidate.backend for candidate in target.candidates.values()}
    earlier = None if options.before is None else find_interpreter(options.before, backends)
    if target.unit != TOKEN and options.sweep:
        raise OptionError("--sweep makes language models of other sizes; for another network name --batch and --time")
    if options.loadgen_scenarios:
        _require_mlperf(target)
    identity = _identity(target, options)
    scenarios, impossible = target.possible(options.scenarios)
    if not scenarios and not options.sweep and not options.loadgen_scenarios:
        reasons = (f"{names}: {reason}" for names, reason in by_reason(impossible).items())
        raise BenchError(f"there is nothing to measure: {'; '.join(reasons)}")
    before, absent = ({}, {}) if earlier is None else _earlier(target, earlier)
    verification = verify_candidates({**target.candidates, **before}, progress, scenarios, target.required)
    tasks = {
        name: TimingTask(each, [scenario for scenario in scenarios if not _is_absent(scenario, each, earlier)])
        for name, each in verification.candidates.items()
    }

    def results(measurements: Measurements) -> Results:
        measured = [name for name in tasks if name in target.candidates and name not in measurements.crashed]
        timings = measurements.timings
        return Results(
            model=target.model,
            identity=identity,
            baseline=next(iter(measured), ""),
            timings=[timing for timing in timings if timing.runtime in target.candidates],
            unit=target.unit,
            training=target.training,
            parity=verification.reports,
            placement=verification.placement,
            rooflines=_rooflines(verification, measurements),
            failed=verification.failed,
            crashed=verification.crashed | measurements.crashed,
            skipped=target.skipped | impossible | absent | verification.skipped,
            earlier="" if earlier is None else str(earlier),
            before=[_renamed(timing) for timing in timings if timing.runtime not in target.candidates],
        )

    measurements = run_rounds(
        tasks if scenarios else {}, options.schedule, progress, lambda so_far: undecided(results(so_far))
    )
    whole = results(measurements)
    crashed = measurements.crashed
    measured = {name: tasks[name].candidate for name in target.candidates if name in tasks and name not in crashed}
    try:
        if options.profile:
            seconds = options.schedule.seconds_per_scenario
            whole = replace(whole, profiles=run_profiles(measured, scenarios, whole.rooflines, seconds, progress))
        if options.sweep and measured:
            whole = _with_sweeps(whole, measured, options.schedule, folder, progress)
        whole = replace(whole, mlperf=_run_mlperf(options, measured, folder, loadgen_logs, progress))
    except BaseException:
        if whole.timings:
            progress(format_table(whole))  # what took minutes to measure
        raise
    return replace(whole, load_after=load_average())


def _with_sweeps(
    results: Results, measured: Candidates, schedule: Schedule, folder: Path, progress: Progress
) -> Results:
    sweeps, swept = run_sweeps(measured, schedule, folder, progress)
    failures = swept.crashed | {name: "; ".join(reasons) for name, reasons in swept.failed.items()}
    return replace(results, sweeps=sweeps, sweep_failures=failures, skipped={**results.skipped, **swept.skipped})


def undecided_verdicts(results: Results) -> list[str]:
    """Scenarios whose fastest runtime is too close to call."""
    return [str(verdict.scenario) for verdict in verdicts(results) if not verdict.is_clear]


def _earlier(target: Target, earlier: Interpreter) -> tuple[Candidates, Skipped]:
    """The candidates in another environment, and those that it lacks, with the reason."""
    names = {name: f"{name}{_BEFORE}" for name in target.candidates}
    candidates, absent = Candidates(), Skipped()
    for name, each in target.candidates.items():
        reason = earlier.missing.get(each.backend)
        if reason is None:
            candidates[names[name]] = replace(each, python=earlier.path)
        else:
            absent[names[name]] = reason
    return candidates, absent


def _is_absent(scenario: Scenario, candidate: Candidate, earlier: Interpreter | None) -> bool:
    """Whether the environment of a candidate lacks what a scenario needs."""
    if earlier is None or candidate.python != earlier.path:
        return False
    return scenario.kind == "server" and "server" in earlier.missing


def _renamed(timing: Timing) -> Timing:
    return replace(timing, runtime=timing.runtime.removesuffix(_BEFORE))


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
    backends = {candidate.backend for candidate in target.candidates.values()}
    in_browser = not backends.isdisjoint((WEBGPU, SOFTWARE))
    in_node = in_browser or not backends.isdisjoint((NODE_PACKAGE, WEB_PACKAGE))
    browser = {"browser": browser_version()} if in_browser else {}
    return Identity(
        providers=tuple(options.providers),
        threads=options.threads,
        schedule=_durations(options),
        original=target.original,
        artifacts={name: sha256 for name, sha256 in hashes.items() if sha256 is not None},
        environment={**describe_environment(), "node": versions() if in_node else {}, **browser},
        calls=target.calls,
    )


def _durations(options: BenchOptions) -> dict[str, float]:
    """The schedule, without what concerns servers only if there is none."""
    has_server = any(scenario.kind == "server" for scenario in options.scenarios)
    values = asdict(options.schedule)
    return {name: value for name, value in values.items() if has_server or name not in _OF_SERVERS}


def _rooflines(verification: VerificationResults, measurements: Measurements) -> dict[str, Roofline]:
    """At the best measured rates; backends that read the same fp32 weights share one."""
    known = measurements.rooflines
    rooflines = {name: roofline.best(known.get(name)) for name, roofline in verification.rooflines.items()}
    shared = rooflines.get(f"onnx {FP32}")
    for name, candidate in verification.candidates.items():
        if shared is not None and candidate.source.provider == "cpu" and candidate.backend not in _OWN_PRECISION:
            rooflines.setdefault(name, shared)
    return rooflines
