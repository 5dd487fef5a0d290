"""The harness: every runtime in a process of its own, verified first, then timed in turn, over several rounds.

torch and onnxruntime in one process fight over threads (https://github.com/microsoft/onnxruntime/issues/13808), and a
shared machine's speed drifts; so each measurement is a fresh process that loads one runtime, and the runtimes take
turns (A B C B C A ...), which keeps the ratios of one round comparable."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, final

from ..export.foreign.adopt import adopt
from ..runtime.artifact.artifact import Artifact, latest_artifact
from ..runtime.errors import OptionError, StorageError
from ..runtime.io.files import make_folder, temporary_folder
from ..runtime.session.providers import provider_named, require_provider
from ..runtime.session.session import check_threads
from .backends.node_process import NODE_PACKAGE, WEB_PACKAGE, versions
from .backends.registry import ONNXRUNTIME, TORCH
from .candidates import OTHERS, STANDARD, Candidates, Skipped, find_candidates
from .comparison import Comparison, compare, read_results, require_same
from .environment import describe_environment, load_average
from .errors import BenchError
from .load import loadgen
from .report.save import FAILED_NAME, NAME, save_results
from .report.text import format_table
from .results import Identity, Results
from .roofline import Roofline
from .rounds import Measurements, Schedule, TimingTask, run_rounds
from .run_sweeps import run_sweeps
from .scenario import Scenario, chosen_scenarios
from .sweep import Sweep
from .verification import Progress, VerificationResults, verify_candidates

_OF_ITS_OWN = (ONNXRUNTIME, "openvino-default")
"""Runtimes that need not read weights of four bytes."""

_NO_SWEEPS: tuple[list[Sweep], VerificationResults] = ([], VerificationResults())


@final
@dataclass(frozen=True)
class BenchOptions:
    """What to measure.

    Attributes:
        model: The artifact, or an ONNX file from elsewhere that keeps its contract; None for the latest export. The
            siblings of an artifact in other precisions are measured too.
        providers: Execution providers of the artifact; torch runs on the same kinds of device.
        against: Other runtimes to measure, of `OTHERS`; the first that can run is what the rest is compared with.
        scenarios: What is timed.
        threads: Threads of one call, for every runtime.
        schedule: How long.
        sweep: Whether to time them along every axis of `AXES` too, over networks of other sizes as well.
    """

    model: Path | None = None
    providers: Sequence[str] = ("cpu",)
    against: Sequence[str] = (TORCH,)
    scenarios: Sequence[Scenario] = field(default_factory=lambda: chosen_scenarios(None, None, None, None))
    threads: int = 1
    schedule: Schedule = field(default_factory=Schedule)
    sweep: bool = False

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            OptionError: A number is outside its range, there is nothing to measure, or a provider or a runtime is not
                known.
        """
        for provider in self.providers:
            provider_named(provider)
        for name in self.against:
            if name not in OTHERS:
                raise OptionError(f"runtime {name!r} is not known, expected one of {', '.join(OTHERS)}")
        for found in self.scenarios:
            if found.kind == "server":
                loadgen.Arrivals(found.rate, self.schedule.server_seconds, self.schedule.latency_bound)
        check_threads(self.threads)
        for name, values in (("provider", self.providers), ("scenario", self.scenarios)):
            if not values:
                raise OptionError(f"there is no {name}, expected one at least")


def run_bench(options: BenchOptions, progress: Progress) -> Results:
    """Verify and measure an artifact, its siblings in other precisions, and other runtimes.

    A runtime that does not compute what the original computes is not timed, one that crashes loses its timings; the
    results progress so, and the rest goes on.

    Args:
        options: What to measure.
        progress: Is told each step, one line a call.

    Raises:
        ProviderError: A provider is not there, or does not run the artifact.
        ArtifactError: There is no export, or the file breaks the contract.
        BenchError: Nothing of it runs on a provider.
    """
    for provider in options.providers:
        require_provider(provider_named(provider))
    with temporary_folder() as folder:
        return _measure(options, folder, progress)


def _measure(options: BenchOptions, folder: Path, progress: Progress) -> Results:
    model, artifact, candidates, skipped = _entered(options, folder)
    identity = _identity(artifact, candidates, options)
    scenarios, impossible = _possible(options.scenarios)
    if not scenarios and not options.sweep:
        raise BenchError(f"there is nothing to measure: {'; '.join(impossible.values())}")
    verification = verify_candidates(candidates, progress, scenarios, artifact)
    jobs = {name: TimingTask(candidate, scenarios) for name, candidate in verification.candidates.items()}
    measurements = run_rounds(jobs, options.schedule, progress)
    measured = {name: job.candidate for name, job in jobs.items() if name not in measurements.crashed}
    sweeps, swept = _NO_SWEEPS
    if options.sweep and measured:
        sweeps, swept = run_sweeps(measured, options.schedule, folder, progress)
    return Results(
        model=model,
        identity=identity,
        baseline=next(iter(measured), ""),
        timings=measurements.timings,
        parity=verification.reports,
        placement=verification.placement,
        rooflines=_rooflines(verification, measurements),
        failed=verification.failed,
        crashed=verification.crashed | measurements.crashed,
        skipped=skipped | impossible | verification.skipped | swept.skipped,
        sweeps=sweeps,
        sweep_failures=swept.crashed | {name: "; ".join(reasons) for name, reasons in swept.failed.items()},
        load_after=load_average(),
    )


def _possible(scenarios: Sequence[Scenario]) -> tuple[list[Scenario], Skipped]:
    """The scenarios that can be measured here; and those that cannot, with the reason."""
    reason = loadgen.missing()
    skipped = {str(found): reason for found in scenarios if found.kind == "server" and reason is not None}
    return [found for found in scenarios if str(found) not in skipped], skipped


def identify(options: BenchOptions) -> Identity:
    """What `run_bench` would measure, known before anything is measured.

    Raises:
        ArtifactError: There is no export, or the file breaks the contract.
        BenchError: Nothing of it runs on a provider.
    """
    with temporary_folder() as folder:
        _, artifact, candidates, _ = _entered(options, folder)
        return _identity(artifact, candidates, options)


def _entered(options: BenchOptions, folder: Path) -> tuple[Path, Path, Candidates, Skipped]:
    """The model that was named; it, or what was made of it in `folder` where it is no file of ours; and who enters."""
    model = options.model or latest_artifact()
    artifact = adopt(model, folder)
    entered = find_candidates(artifact, options.providers, options.against, options.threads, alone=artifact != model)
    return model, artifact, *entered


def _identity(artifact: Path, candidates: Candidates, options: BenchOptions) -> Identity:
    hashes = {name: candidate.artifact_sha256 for name, candidate in candidates.items()}
    return Identity(
        providers=tuple(options.providers),
        threads=options.threads,
        schedule=asdict(options.schedule),
        original=Artifact.read(artifact).parity.get("original_sha256"),
        artifacts={name: sha256 for name, sha256 in hashes.items() if sha256 is not None},
        environment={**describe_environment(), "node": _node_versions(candidates)},
    )


def _node_versions(candidates: Candidates) -> dict[str, str]:
    """Of node and its packages, where something runs there."""
    kinds = {candidate.backend for candidate in candidates.values()}
    return versions() if kinds & {NODE_PACKAGE, WEB_PACKAGE} else {}


def _rooflines(verification: VerificationResults, measurements: Measurements) -> dict[str, Roofline]:
    """At the best rates that were measured; other runtimes that read the same fp32 weights have the same one."""
    known = measurements.rooflines
    found = {name: roofline.best(known.get(name)) for name, roofline in verification.rooflines.items()}
    shared = found.get(f"onnx {STANDARD}")
    for name, candidate in verification.candidates.items():
        if shared is not None and candidate.source.provider == "cpu" and candidate.backend not in _OF_ITS_OWN:
            found.setdefault(name, shared)
    return found


@final
@dataclass(frozen=True)
class RegressionGate:
    """What results are compared with.

    Attributes:
        old: An earlier `bench.json`.
        allowed: Share by which a call may be slower; None where nothing is a failure.
        anyway: Whether results of other machines and artifacts are compared too.
    """

    old: Path
    allowed: float | None = None
    anyway: bool = False


@final
@dataclass(frozen=True)
class BenchmarkRun:
    """What became of a benchmark.

    Attributes:
        results: What was measured.
        comparison: The same beside earlier results, where there were any.
        files: What was saved where.
    """

    results: Results
    comparison: Comparison | None
    files: Mapping[str, Path]

    @property
    def passed(self) -> bool:
        """Whether everything passed its verification, lived to its end, and is no slower than allowed."""
        return self.results.is_sound and not (self.comparison and self.comparison.failures)

    def format(self) -> str:
        """All of it for people."""
        parts = [format_table(self.results)]
        if self.comparison is not None:
            parts.append(self.comparison.format())
        files = [f"{kind}: {path}" for kind, path in self.files.items()]
        return "\n\n".join([*parts, "\n".join(files)])

    def to_json(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        compared = {} if self.comparison is None else {"comparison": self.comparison.to_json()}
        return self.results.to_json() | compared


def run_benchmark(
    options: BenchOptions, folder: Path | None, gate: RegressionGate | None, progress: Progress
) -> BenchmarkRun:
    """Measure, compare, save.

    What can be refused is refused before anything is measured. Results that fail a gate do not replace those that they
    were compared with: they are saved as `bench.failed.json` and so on.

    Args:
        options: What to measure.
        folder: Where the results go; None for the artifact's folder.
        gate: What they are compared with, if anything.
        progress: Is told each step.

    Raises:
        LmtoolError: As for `run_bench`; the earlier results cannot be read or are of something else; the folder cannot
            be made.
    """
    before = None if gate is None else read_results(gate.old)  # now: the results may be saved to the same file
    if folder is not None:
        make_folder(folder)
    if gate is not None and before is not None and not gate.anyway:
        require_same(before, identify(options))
    results = run_bench(options, progress)
    comparison = None if gate is None or before is None else compare(before, results, gate.allowed)
    target = folder or results.model.parent
    outcome = BenchmarkRun(results, comparison, {})
    replaces = gate is not None and (target / f"{NAME}.json").resolve() == gate.old.resolve()
    name = FAILED_NAME if replaces and not outcome.passed else NAME
    try:
        return BenchmarkRun(results, comparison, save_results(results, target, comparison, name))
    except StorageError:
        progress(outcome.format().rstrip())  # it took minutes
        raise
