"""Time candidates along every axis: other batches, chunks and threads, and untrained networks of other sizes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from ..export.exporter import export_run
from ..model.run import Run
from ..runtime.artifact.architecture import Architecture
from ..runtime.artifact.artifact import Artifact
from ..runtime.errors import LmtoolError
from ..runtime.system import usable_cores
from .candidates import Candidate, Candidates
from .rounds import Schedule, TimingTask, run_rounds
from .scenario import Scenario, streams
from .sweep import AXES, Sweep
from .timing import Timing
from .untrained_run import make_untrained_run
from .verification import Progress, VerificationResults, verify_candidates

_BATCHES = tuple(2**power for power in range(9))
_GPU_BATCHES = tuple(2**power for power in range(13))
_CHUNKS = (1, 4, 16, 64, 256, 1024)
_THREADED_BATCH = 64
_HIDDEN_FACTORS = (0.5, 1, 2, 4)
_VOCABULARY_FACTORS = (0.125, 0.25, 0.5, 1, 2)
_LEAST_WORDS = 8
_SEED = 1


@final
@dataclass(frozen=True)
class Point:
    """A runtime at one value of an axis."""

    axis: str
    runtime: str
    value: int
    candidate: Candidate
    scenario: Scenario

    @property
    def task(self) -> str:
        """Name of its timing task; points of one process share it."""
        shared = self.axis in ("batch", "chunk")
        return self.runtime if shared else f"{self.runtime}, {self.axis} {self.value}"


def run_sweeps(
    candidates: Candidates, schedule: Schedule, folder: Path, progress: Progress
) -> tuple[list[Sweep], VerificationResults]:
    """Time verified candidates along every axis of `AXES`; also returns the verification of networks of other sizes.

    The folder is for those networks.
    """
    resized, verification = _resized_points(candidates, folder, progress)
    points = [*_shape_points(candidates), *_thread_points(candidates), *resized]
    tasks = {
        name: TimingTask(own[0].candidate, [point.scenario for point in own])
        for name in dict.fromkeys(point.task for point in points)
        if (own := [point for point in points if point.task == name])
    }
    measurements = run_rounds(tasks, schedule, progress)
    verification.crashed |= measurements.crashed
    measured = {(timing.runtime, timing.scenario): timing for timing in measurements.timings}
    axes = [axis for axis in AXES if any(point.axis == axis for point in points)]
    return [_sweep(axis, points, measured) for axis in axes], verification


def _sweep(axis: str, points: list[Point], measured: dict[tuple[str, Scenario], Timing]) -> Sweep:
    timings: dict[str, dict[int, Timing]] = {}
    for point in points:
        timing = measured.get((point.task, point.scenario))
        if point.axis == axis and timing is not None:
            timings.setdefault(point.runtime, {})[point.value] = replace(timing, runtime=point.runtime)
    return Sweep(axis, timings)


def _shape_points(candidates: Candidates) -> Iterator[Point]:
    """Other batches and chunks."""
    for name, candidate in candidates.items():
        batches = _BATCHES if candidate.source.provider == "cpu" else _GPU_BATCHES
        yield from (Point("batch", name, batch, candidate, streams(batch)) for batch in batches)
        yield from (Point("chunk", name, chunk, candidate, Scenario("offline", 1, chunk)) for chunk in _CHUNKS)


def _thread_points(candidates: Candidates) -> Iterator[Point]:
    """Other numbers of threads for candidates on the CPU; none on a single core."""
    cores = usable_cores()
    counts = sorted({*(2**power for power in range(cores.bit_length())), cores})
    for name, candidate in candidates.items():
        if candidate.source.provider == "cpu" and cores > 1:
            for count in counts:
                source = replace(candidate.source, threads=count)
                yield Point("threads", name, count, replace(candidate, source=source), streams(_THREADED_BATCH))


def _resized_points(
    candidates: Candidates, folder: Path, progress: Progress
) -> tuple[list[Point], VerificationResults]:
    """Untrained networks with other hidden sizes and vocabularies that pass their verification."""
    models = {name: Artifact.read(candidate.source.artifact) for name, candidate in candidates.items()}
    first = next(iter(models.values()))
    architecture, size = first.architecture, len(first.vocabulary)
    sizes = [("hidden", _scaled(architecture, factor), size) for factor in _HIDDEN_FACTORS]
    sizes += [("vocabulary", architecture, max(int(factor * size), _LEAST_WORDS)) for factor in _VOCABULARY_FACTORS]
    points, skipped = [], dict[str, str]()
    for axis, wanted, vocabulary in dict.fromkeys(sizes):
        value = wanted.layer_sizes[0] if axis == "hidden" else vocabulary
        progress(f"making a network of {axis} {value}")
        try:
            run = make_untrained_run(folder / f"{axis}-{value}", wanted, vocabulary, _SEED)
        except LmtoolError as error:
            skipped[f"{axis} {value}"] = str(error)
            continue
        exported = {model.variant: _exported(run, model) for model in models.values()}
        for name, candidate in candidates.items():
            export = exported[models[name].variant]
            if isinstance(export, Path):
                source = replace(candidate.source, artifact=export, original=run.path)
                points.append(Point(axis, name, value, replace(candidate, source=source), streams(1)))
            else:
                skipped[f"{name}, {axis} {value}"] = export
    verification = verify_candidates({point.task: point.candidate for point in points}, progress)
    verification.skipped |= skipped
    return [point for point in points if point.task in verification.candidates], verification


def _scaled(architecture: Architecture, factor: float) -> Architecture:
    return replace(
        architecture,
        embedding_size=max(int(factor * architecture.embedding_size), 1),
        layer_sizes=tuple(max(int(factor * size), 1) for size in architecture.layer_sizes),
    )


def _exported(run: Run, like: Artifact) -> Path | str:
    """The network in a model's precision, or why it cannot be exported."""
    try:
        return export_run(run, like.precision).path
    except LmtoolError as error:
        return str(error)
