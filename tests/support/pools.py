"""A gate for the calls of a pool's predictor, and the logits of streams outside a pool."""

import threading
from typing import Any

import numpy as np
import pytest
from lmtool.runtime import Predictor, State

PATIENCE_SECONDS = 60


class Gate:
    """Holds the calls of a predictor until it is opened, and counts them."""

    def __init__(self, predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[tuple[int, ...]] = []
        self.entered = threading.Semaphore(0)
        self._passes = threading.Semaphore(0)
        self._step = predictor.network.run
        monkeypatch.setattr(predictor.network, "run", self._gated)

    def _gated(self, token_ids: Any, *args: Any, **options: Any) -> Any:
        self.sizes.append(np.shape(token_ids))
        self.entered.release()
        assert self._passes.acquire(timeout=PATIENCE_SECONDS)
        return self._step(token_ids, *args, **options)

    def wait_for_a_call(self) -> None:
        assert self.entered.acquire(timeout=PATIENCE_SECONDS)

    def let_pass(self, calls: int = 1) -> None:
        self._passes.release(calls)

    def open(self) -> None:
        self._passes.release(1000)


def alone(predictor: Predictor, pieces: list[list[int]], start: State | None = None) -> tuple[list[np.ndarray], State]:
    """All logits, and the last state, of a stream that reads these pieces alone."""
    state, logits = start or predictor.initial_state(1), []
    for piece in pieces:
        batch, state = predictor.step([piece], state)
        logits.append(batch[0])
    return logits, state


def same(first: State, second: State) -> bool:
    return all(np.array_equal(ours, theirs) for ours, theirs in zip(first.tensors, second.tensors, strict=True))


def draw(predictor: Predictor, seed: int, count: int) -> list[list[int]]:
    random = np.random.default_rng(seed)
    return [random.integers(0, len(predictor.vocabulary), random.integers(1, 5)).tolist() for _ in range(count)]
