"""Sweeps: the candidates once more, with other batches, chunks and threads, and over networks of other sizes.

What a network costs does not depend on what it has learned. The folder is what a training writes, but for the corpus:
export and verification take it as any other run, and draw the text that they compare from the network.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from ..export.exporter import export_run
from ..model.checkpoint import Checkpoint
from ..model.data.corpus import Corpus
from ..model.run import Run
from ..model.training.config import TrainConfig
from ..model.training.learner import initial_network
from ..runtime.artifact.architecture import Architecture
from ..runtime.artifact.artifact import Artifact
from ..runtime.errors import LmtoolError, OptionError
from ..runtime.system import usable_cores
from ..runtime.tokenization import Tokenization
from ..runtime.vocabulary import Vocabulary
from .candidates import Candidate, Candidates
from .rounds import Schedule, TimingTask, run_rounds
from .scenario import Scenario, streams
from .sweep import AXES, Sweep
from .timing import Timing
from .verification import Progress, VerificationResults, verify_candidates

_PRESET = "untrained"
_NO_CORPUS = "no-corpus"
_INIT_RANGE = 0.05


def make_untrained_run(folder: Path, architecture: Architecture, vocabulary_size: int, seed: int) -> Run:
    """Write the run folder of a network as a training would begin it.

    Args:
        folder: Where; it holds no run yet.
        architecture: Cell and sizes.
        vocabulary_size: Tokens, the end of a sentence and the unknown one among them; the others are made up.
        seed: Of the weights, which are uniform in (-0.05, 0.05), biases 0.

    Raises:
        OptionError: A size is below 1, or there is no room for the two special tokens.
        ConfigError: The cell is not known, a size is too large, or tied layers do not fit each other.
        RunError: The folder holds a run.
        StorageError: It cannot be written.
    """
    vocabulary = _vocabulary(vocabulary_size)
    config = _config(architecture, seed)
    run = Run(folder)
    run.create(config, _no_corpus(folder, vocabulary))
    facts = {"epoch": 0, "valid_perplexity": None, "test_perplexity": None}
    weights = initial_network(config, vocabulary_size).weights()
    Checkpoint.of_weights(weights, vocabulary, facts).write(run.best)
    return run


def _vocabulary(size: int) -> Vocabulary:
    """The special tokens and `word2`, `word3`, ..., each with its id."""
    tokenization = Tokenization()
    specials = tokenization.specials
    if size < len(specials):
        raise OptionError(
            f"vocabulary_size is {size}, expected {len(specials)} or more: {' and '.join(specials)} are among them"
        )
    return Vocabulary([*specials, *(f"word{number}" for number in range(len(specials), size))], tokenization)


def _config(architecture: Architecture, seed: int) -> TrainConfig:
    sizes = {"embedding_size": (architecture.embedding_size,), "layer_sizes": architecture.layer_sizes}
    for name, found in sizes.items():
        if min(found, default=0) < 1:
            raise OptionError(f"{name} is {', '.join(map(str, found)) or 'empty'}, expected 1 or more")
    return TrainConfig(
        _PRESET,
        cell=architecture.cell,
        embedding_size=architecture.embedding_size,
        layer_sizes=architecture.layer_sizes,
        tied=architecture.tied,
        init_range=_INIT_RANGE,
        seed=seed,
    )


def _no_corpus(folder: Path, vocabulary: Vocabulary) -> Corpus:
    """No text, under the name of a folder that is not there."""
    return Corpus(str(folder / _NO_CORPUS), hashlib.sha256().hexdigest(), vocabulary, {})


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
    candidate: Candidate
    scenario: Scenario

    @property
    def job(self) -> str:
        """Under which name it is timed: points of one process share it."""
        shared = self.axis in ("batch", "chunk")
        return self.runtime if shared else f"{self.runtime}, {self.axis} {self.value}"


def run_sweeps(
    candidates: Candidates, schedule: Schedule, folder: Path, progress: Progress
) -> tuple[list[Sweep], VerificationResults]:
    """Time the candidates along every axis of `AXES`.

    Args:
        candidates: Runtimes that passed their verification.
        schedule: How long.
        folder: For networks of other sizes.
        progress: Is told each step.

    Returns:
        The sweeps, and what became of the networks of other sizes, each of which is verified like anything else.
    """
    made, verification = _of_other_sizes(candidates, folder, progress)
    points = [*_shaped(candidates), *_threaded(candidates), *made]
    jobs = {
        name: TimingTask(mine[0].candidate, [point.scenario for point in mine])
        for name in dict.fromkeys(point.job for point in points)
        if (mine := [point for point in points if point.job == name])
    }
    measurements = run_rounds(jobs, schedule, progress)
    verification.crashed |= measurements.crashed
    measured = {(timing.runtime, timing.scenario): timing for timing in measurements.timings}
    axes = [axis for axis in AXES if any(point.axis == axis for point in points)]
    return [_sweep(axis, points, measured) for axis in axes], verification


def _sweep(axis: str, points: list[Point], measured: dict[tuple[str, Scenario], Timing]) -> Sweep:
    found: dict[str, dict[int, Timing]] = {}
    for point in points:
        timing = measured.get((point.job, point.scenario))
        if point.axis == axis and timing is not None:
            found.setdefault(point.runtime, {})[point.value] = replace(timing, runtime=point.runtime)
    return Sweep(axis, found)


def _shaped(candidates: Candidates) -> Iterator[Point]:
    """Other batches and chunks of the same runtimes."""
    for name, candidate in candidates.items():
        batches = _BATCHES if candidate.source.provider == "cpu" else _GPU_BATCHES
        yield from (Point("batch", name, batch, candidate, streams(batch)) for batch in batches)
        yield from (Point("chunk", name, chunk, candidate, Scenario("offline", 1, chunk)) for chunk in _CHUNKS)


def _threaded(candidates: Candidates) -> Iterator[Point]:
    """Other numbers of threads, of what runs on the processor; none where there is one core."""
    cores = usable_cores()
    counts = sorted({*(2**power for power in range(cores.bit_length())), cores})
    for name, candidate in candidates.items():
        if candidate.source.provider == "cpu" and cores > 1:
            for count in counts:
                source = replace(candidate.source, threads=count)
                yield Point("threads", name, count, replace(candidate, source=source), streams(_THREADED_BATCH))


def _of_other_sizes(
    candidates: Candidates, folder: Path, progress: Progress
) -> tuple[list[Point], VerificationResults]:
    """Networks with random weights: other hidden sizes, other vocabularies; those that pass their verification."""
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
            found = exported[models[name].variant]
            if isinstance(found, Path):
                source = replace(candidate.source, artifact=found, original=run.path)
                points.append(Point(axis, name, value, replace(candidate, source=source), streams(1)))
            else:
                skipped[f"{name}, {axis} {value}"] = found
    verification = verify_candidates({point.job: point.candidate for point in points}, progress)
    verification.skipped |= skipped
    return [point for point in points if point.job in verification.candidates], verification


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
