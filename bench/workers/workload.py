"""One call of each scenario."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from ..backends.registry import Backend
from ..scenario import Scenario

_INPUTS = 64


def workload(backend: Backend, scenario: Scenario) -> Callable[[], object]:
    """A function that makes one call of a scenario, with other random tokens each time.

    single-stream, multi-stream and offline continue from the state of their last call; prefill and generation start
    from the zero state.
    """
    return {
        "single-stream": _read,
        "multi-stream": _read,
        "offline": _score,
        "prefill": _prefill,
        "generation": _generate,
    }[scenario.kind](backend, scenario)


def _read(backend: Backend, scenario: Scenario) -> Callable[[], object]:
    tokens = _random_tokens(backend, scenario.batch_size, scenario.time)
    state = backend.initial_state(scenario.batch_size)

    def call() -> None:
        nonlocal state
        state = backend.read(next(tokens), state)

    return call


def _score(backend: Backend, scenario: Scenario) -> Callable[[], object]:
    tokens = _random_tokens(backend, scenario.batch_size, scenario.time + 1)
    state = backend.initial_state(scenario.batch_size)

    def call() -> None:
        nonlocal state
        text = next(tokens)
        state = backend.score(text[:, :-1], text[:, 1:], state)

    return call


def _prefill(backend: Backend, scenario: Scenario) -> Callable[[], object]:
    tokens = _random_tokens(backend, scenario.batch_size, scenario.time)
    start = backend.initial_state(scenario.batch_size)
    return lambda: backend.prefill(next(tokens), start)


def _generate(backend: Backend, scenario: Scenario) -> Callable[[], object]:
    tokens = _random_tokens(backend, scenario.batch_size, 1)
    start = backend.initial_state(scenario.batch_size)
    return lambda: backend.generate(next(tokens), scenario.time, start)


def _random_tokens(backend: Backend, batch_size: int, time: int) -> Iterator[NDArray[np.int64]]:
    """Token ids int64 [batch, time], in an endless cycle."""
    random = np.random.default_rng(0)
    return itertools.cycle(random.integers(0, backend.vocabulary_size, (_INPUTS, batch_size, time)))
