"""One measurement of training speed, in a process of its own: `python -m lmtool.bench.studies.training_probe JSON`."""

import contextlib
import json
import resource
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
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from ...model.data.corpus import Corpus, load_corpus
from ...model.run import Run
from ...model.training.config import TrainConfig
from ...model.training.presets import preset_named
from ...model.training.trainer import Trainer
from ...runtime.tokenization import Tokenization
from ...runtime.vocabulary import Vocabulary

_WARM_UP, _PIECE = 10, 100_000
PLAIN_LOSS, ALL_ROWS = "plain loss", "all rows"
"""Measures that a probe can leave out: the fused loss, the update of the touched rows only."""


@final
@dataclass(frozen=True)
class Probe:
    """What to measure.

    Attributes:
        settings: Changes of the preset `ptb-200`.
        data: Corpus folder; None for random tokens.
        vocabulary: Number of random words.
        tokens: Number of random tokens.
        steps: Steps to measure, after a few to warm up.
        threads: Threads of torch.
        without: Measures to leave out.
    """

    settings: dict[str, str] = field(default_factory=dict)
    data: str | None = None
    vocabulary: int = 10_000
    tokens: int = 1_000_000
    steps: int = 60
    threads: int = 2
    without: tuple[str, ...] = ()

    def command(self) -> list[str]:
        """What runs it in a process of its own."""
        return [sys.executable, "-m", "lmtool.bench.studies.training_probe", json.dumps(asdict(self))]


class _Enough(Exception):  # noqa: N818  # no error: it ends the measurement
    pass


@final
class _Clock:
    """A reporter that notes the time of each step and ends the training after some."""

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
    with tempfile.TemporaryDirectory() as folder, _left_out(probe.without):
        _train(config, corpus, Run(Path(folder) / "run"), clock, all_rows=ALL_ROWS in probe.without)
    return {
        "seconds": np.diff(clock.times)[_WARM_UP - 1 :].tolist(),
        "tokens": config.batch_size * config.steps,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def _train(config: TrainConfig, corpus: Corpus, run: Run, clock: _Clock, *, all_rows: bool) -> None:
    trainer = Trainer(config, corpus, run)
    if all_rows:
        trainer._network.embedding.sparse = False
    run.create(trainer.config, corpus)
    with contextlib.suppress(_Enough):
        trainer.train(clock, checkpoint_seconds=float("inf"))


@contextlib.contextmanager
def _left_out(without: tuple[str, ...]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        if PLAIN_LOSS in without:
            stack.enter_context(mock.patch("lmtool.model.training.loss.projection_loss", _plain_loss))
        yield


def _plain_loss(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, scale: float, *_: object) -> Tensor:
    return cross_entropy(linear(hidden, weight, bias), targets, reduction="sum") * scale


def _random_corpus(probe: Probe) -> Corpus:
    """Words by Zipf's law, as many as are asked for."""
    words = [f"w{index}" for index in range(probe.vocabulary - 2)]
    vocabulary = Vocabulary([*words, "<eos>", "<unk>"], Tokenization("whitespace"))
    weights = 1 / np.arange(1, probe.vocabulary + 1)
    ids, generator = np.empty(probe.tokens, np.int32), np.random.default_rng(0)
    for start in range(0, probe.tokens, _PIECE):  # in pieces, for the peak of memory is measured
        piece = ids[start : start + _PIECE]
        piece[:] = generator.choice(probe.vocabulary, len(piece), p=weights / weights.sum())
    return Corpus("random", "0" * 64, vocabulary, {"train": ids, "valid": ids[:100], "test": ids[:100]})


if __name__ == "__main__":
    print(json.dumps(measure(Probe(**json.loads(sys.argv[1])))))  # noqa: T201
