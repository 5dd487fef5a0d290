"""Sweeps: the contenders once more, with other batches, chunks and threads, and over networks of other sizes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from ..export.exporting import export_run
from ..model.run import Run
from ..model.threads import usable_cores
from ..runtime.artifact import Architecture, Artifact
from ..runtime.errors import LmtoolError
from .contenders import Contender, Contenders
from .qualifying import Qualifying, Say, qualify
from .scenario import Scenario, streams
from .sweep import AXES, Sweep
from .timing import Timing
from .turns import Job, Pace, take_turns
from .untrained import make_untrained_run

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
    """A runtime at one value of one axis, and what is timed there."""

    axis: str
    runtime: str
    value: int
    contender: Contender
    scenario: Scenario

    @property
    def job(self) -> str:
        """Under which name it is timed: points of one process share it."""
        shared = self.axis in ("batch", "chunk")
        return self.runtime if shared else f"{self.runtime}, {self.axis} {self.value}"


def run_sweeps(contenders: Contenders, pace: Pace, folder: Path, say: Say) -> tuple[list[Sweep], Qualifying]:
    """Time the contenders along every axis of `AXES`.

    Args:
        contenders: Runtimes that passed their verification.
        pace: How long.
        folder: For networks of other sizes.
        say: Is told each step.

    Returns:
        The sweeps, and what became of the networks of other sizes, each of which is verified like anything else.
    """
    made, qualified = _of_other_sizes(contenders, folder, say)
    points = [*_shaped(contenders), *_threaded(contenders), *made]
    jobs = {
        name: Job(mine[0].contender, [point.scenario for point in mine])
        for name in dict.fromkeys(point.job for point in points)
        if (mine := [point for point in points if point.job == name])
    }
    taken = take_turns(jobs, pace, say)
    qualified.crashed |= taken.crashed
    measured = {(timing.runtime, timing.scenario): timing for timing in taken.timings}
    return [_sweep(axis, points, measured) for axis in AXES if any(point.axis == axis for point in points)], qualified


def _sweep(axis: str, points: list[Point], measured: dict[tuple[str, Scenario], Timing]) -> Sweep:
    found: dict[str, dict[int, Timing]] = {}
    for point in points:
        timing = measured.get((point.job, point.scenario))
        if point.axis == axis and timing is not None:
            found.setdefault(point.runtime, {})[point.value] = replace(timing, runtime=point.runtime)
    return Sweep(axis, found)


def _shaped(contenders: Contenders) -> Iterator[Point]:
    """Other batches and chunks of the same runtimes."""
    for name, contender in contenders.items():
        batches = _BATCHES if contender.source.provider == "cpu" else _GPU_BATCHES
        yield from (Point("batch", name, batch, contender, streams(batch)) for batch in batches)
        yield from (Point("chunk", name, chunk, contender, Scenario("offline", 1, chunk)) for chunk in _CHUNKS)


def _threaded(contenders: Contenders) -> Iterator[Point]:
    """Other numbers of threads, of what runs on the processor; none where there is one core."""
    cores = usable_cores()
    counts = sorted({*(2**power for power in range(cores.bit_length())), cores})
    for name, contender in contenders.items():
        if contender.source.provider == "cpu" and cores > 1:
            for count in counts:
                source = replace(contender.source, threads=count)
                yield Point("threads", name, count, replace(contender, source=source), streams(_THREADED_BATCH))


def _of_other_sizes(contenders: Contenders, folder: Path, say: Say) -> tuple[list[Point], Qualifying]:
    """Networks with random weights: other hidden sizes, other vocabularies; those that pass their verification."""
    models = {name: Artifact.read(contender.source.artifact) for name, contender in contenders.items()}
    first = next(iter(models.values()))
    architecture, size = first.architecture, len(first.vocabulary)
    sizes = [("hidden", _scaled(architecture, factor), size) for factor in _HIDDEN_FACTORS]
    sizes += [("vocabulary", architecture, max(int(factor * size), _LEAST_WORDS)) for factor in _VOCABULARY_FACTORS]
    points, left_out = [], dict[str, str]()
    for axis, wanted, vocabulary in dict.fromkeys(sizes):
        value = wanted.layer_sizes[0] if axis == "hidden" else vocabulary
        say(f"making a network of {axis} {value}")
        try:
            run = make_untrained_run(folder / f"{axis}-{value}", wanted, vocabulary, _SEED)
        except LmtoolError as error:
            left_out[f"{axis} {value}"] = str(error)
            continue
        exported = {model.variant: _exported(run, model) for model in models.values()}
        for name, contender in contenders.items():
            found = exported[models[name].variant]
            if isinstance(found, Path):
                source = replace(contender.source, artifact=found, original=run.path)
                points.append(Point(axis, name, value, replace(contender, source=source), streams(1)))
            else:
                left_out[f"{name}, {axis} {value}"] = found
    qualified = qualify({point.job: point.contender for point in points}, say)
    qualified.left_out |= left_out
    return [point for point in points if point.job in qualified.contenders], qualified


def _scaled(architecture: Architecture, factor: float) -> Architecture:
    return replace(
        architecture,
        embedding_size=max(int(factor * architecture.embedding_size), 1),
        layer_sizes=tuple(max(int(factor * size), 1) for size in architecture.layer_sizes),
    )


def _exported(run: Run, like: Artifact) -> Path | str:
    """The network in a model's precision, or why it cannot be had in that."""
    try:
        return export_run(run, like.precision, optimize_for=like.optimize_for).path
    except LmtoolError as error:
        return str(error)
