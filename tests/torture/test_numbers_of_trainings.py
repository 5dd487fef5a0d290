"""Numbers stay numbers: NaN and infinity in a training never reach a checkpoint."""

import math
import random
from pathlib import Path

import pytest
from lmtool.model import Checkpoint, Run
from lmtool.model.training.learner import Learner
from lmtool.runtime import LmtoolError
from support.faults.non_finite import INJECTION_POINTS, NON_FINITE, ValueInjector, is_finite
from support.runs.reporters import RecordingReporter
from support.runs.settings import DROPOUT_SETTINGS
from support.runs.trainers import new_trainer, resumed_trainer
from support.scale import Many, Tally

PROMISE = "Numbers stay numbers"
AVERAGED = {**DROPOUT_SETTINGS, "averaging": "exponential"}


def train_with_fault(
    few_sentences: Path, folder: Path, place: str, value: float, draw: random.Random
) -> tuple[ValueInjector, str]:
    """Train with a value injected at a random step; the injector, and the error message."""
    trainer = new_trainer(few_sentences, folder, AVERAGED)
    total = 2 * len(trainer._batches.spans(0))
    injector = ValueInjector(trainer, place, value, draw.randrange(1, total), draw)
    try:
        trainer.train(injector, draw.choice((1e-9, 180.0)))
    except LmtoolError as error:
        return injector, f"{type(error).__name__}: {error}"
    return injector, ""


def test_non_finite_values_never_reach_a_checkpoint(
    tmp_path: Path, few_sentences: Path, draw: random.Random, many: Many, tally: Tally
) -> None:
    tried, places = many(2, 49), draw.sample(INJECTION_POINTS, len(INJECTION_POINTS))
    for number in range(tried):
        place, value, folder = places[number % len(places)], draw.choice(NON_FINITE), tmp_path / f"{number}"
        injector, message = train_with_fault(few_sentences, folder, place, value, draw)
        what = f"{value} in {place}"
        assert message.startswith("TrainingError: "), what
        run = Run(folder)
        assert (run.best.read_bytes() if run.best.exists() else None) == injector.best, what
        for path in filter(Path.exists, (run.best, run.latest)):
            assert all(bool(tensor.isfinite().all()) for tensor in Checkpoint.read(path).tensors.values()), what
        resumed = resumed_trainer(few_sentences, folder, AVERAGED)
        resumed.train(RecordingReporter())
        assert is_finite(run.trained()[1].facts["test_perplexity"])
    tally(
        PROMISE,
        tried=tried,
        what="NaN or infinity planted in trainings",
        finished_anyway=0,
        best_replaced=0,
        not_resumed=0,
    )


def test_unchecked_trainings_replace_the_best_checkpoint(
    tmp_path: Path,
    few_sentences: Path,
    draw: random.Random,
    monkeypatch: pytest.MonkeyPatch,
    many: Many,
    tally: Tally,
) -> None:
    """Positive control: the vector of a word that no text contains, so that no loss shows it."""
    monkeypatch.setattr(Learner, "require_finite", lambda _: None)
    for number in range(tried := many(1, 3)):
        train_with_fault(few_sentences, tmp_path / f"{number}", "unseen", math.nan, draw)
        best = Checkpoint.read(Run(tmp_path / f"{number}").best)
        assert not all(bool(tensor.isfinite().all()) for tensor in best.tensors.values())
    control = f"trainings that do not look: {tried} of {tried} replaced the best by weights with NaN"
    tally(PROMISE, tried=tried, control=control)
