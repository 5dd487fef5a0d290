"""Measure one training; `training_speed.py` runs it in a process for each: `python training_probe.py JSON`."""

import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, final
from unittest import mock

import numpy as np
import torch
from lmtool.bench.environment import peak_bytes
from lmtool.model.data.corpus import Corpus, load_corpus
from lmtool.model.run import Run
from lmtool.model.training.config import TrainConfig
from lmtool.model.training.presets import preset_named
from lmtool.model.training.trainer import Trainer
from lmtool.runtime.tokenization import Tokenization
from lmtool.runtime.vocabulary import Vocabulary
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

_WARM_UP, _PIECE = 10, 100_000
PLAIN_LOSS, ALL_ROWS = "plain loss", "all rows"
"""Optimizations that a probe can leave out: the fused loss, the update of touched embedding rows only."""


@final
@dataclass(frozen=True)
class Probe:
    """A training to measure.

    Attributes:
        settings: Changes to the preset `ptb-200`.
        data: Corpus folder; None for random tokens.
        vocabulary: Number of random words.
        tokens: Number of random tokens.
        steps: Steps to measure, after a few to warm up.
        threads: Threads of torch.
        without: Optimizations to leave out.
    """

    settings: dict[str, str] = field(default_factory=dict)
    data: str | None = None
    vocabulary: int = 10_000
    tokens: int = 1_000_000
    steps: int = 60
    threads: int = 2
    without: tuple[str, ...] = ()

    def command(self) -> list[str]:
        """The command that measures it."""
        return [sys.executable, str(Path(__file__)), json.dumps(asdict(self))]


class _Enough(Exception):  # noqa: N818  # ends the training; not an error
    pass


@final
class _Clock:
    """A reporter that records the time of each step and ends the training after `steps` of them."""

    def __init__(self, steps: int) -> None:
        self._left = steps + _WARM_UP
        self.times: list[float] = []

    def step(self, *_: object) -> None:
        self.times.append(time.perf_counter())
        self._left -= 1
        if self._left == 0:
            raise _Enough

    def record(self, _: dict[str, Any]) -> None:
        pass


def measure(probe: Probe) -> dict[str, Any]:
    """Seconds of each step (`seconds`), tokens of a step (`tokens`), peak resident memory in bytes (`peak_bytes`)."""
    torch.set_num_threads(probe.threads)
    config = preset_named("ptb-200").with_settings(probe.settings)
    corpus = _random_corpus(probe) if probe.data is None else load_corpus(probe.data, config.tokenization)
    clock = _Clock(probe.steps)
    with tempfile.TemporaryDirectory() as folder, _without(probe.without):
        adapted = _train(config, corpus, Run(Path(folder) / "run"), clock, all_rows=ALL_ROWS in probe.without)
    return {
        "seconds": np.diff(clock.times)[_WARM_UP - 1 :].tolist(),
        "tokens": adapted.streams * adapted.steps,
        "peak_bytes": peak_bytes(),
    }


def _train(config: TrainConfig, corpus: Corpus, run: Run, clock: _Clock, *, all_rows: bool) -> TrainConfig:
    trainer = Trainer(config, corpus, run)
    if all_rows:
        trainer._learner.network.embedding.sparse = False
    run.create(trainer.config, corpus)
    with contextlib.suppress(_Enough):
        trainer.train(clock, checkpoint_seconds=float("inf"))
    return trainer.config


@contextlib.contextmanager
def _without(optimizations: tuple[str, ...]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        if PLAIN_LOSS in optimizations:
            stack.enter_context(mock.patch("lmtool.model.training.loss.projection_loss", _plain_loss))
        yield


def _plain_loss(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, scale: float, *_: object) -> Tensor:
    return cross_entropy(linear(hidden, weight, bias), targets, reduction="sum") * scale


def _random_corpus(probe: Probe) -> Corpus:
    """A corpus of Zipf-distributed random words."""
    words = [f"w{index}" for index in range(probe.vocabulary - 2)]
    vocabulary = Vocabulary([*words, "<eos>", "<unk>"], Tokenization("whitespace"))
    weights = 1 / np.arange(1, probe.vocabulary + 1)
    ids, generator = np.empty(probe.tokens, np.int32), np.random.default_rng(0)
    for start in range(0, probe.tokens, _PIECE):  # in pieces, because peak memory is measured
        piece = ids[start : start + _PIECE]
        piece[:] = generator.choice(probe.vocabulary, len(piece), p=weights / weights.sum())
    return Corpus("random", "0" * 64, vocabulary, {"train": ids, "valid": ids[:100], "test": ids[:100]})


if __name__ == "__main__":
    print(json.dumps(measure(Probe(**json.loads(sys.argv[1])))))
