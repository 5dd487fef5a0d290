"""What is timed in each scenario that is made of calls."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from ..backends.registry import Backend
from ..scenario import Scenario

_INPUTS = 64


def workload(runtime: Backend, scenario: Scenario) -> Callable[[], object]:
    """One call of a scenario, on other random tokens each time.

    Streams that only read (single-stream, multi-stream, offline) go on from where their last call stopped; a prefill
    and a generation begin anew.
    """
    return {
        "single-stream": _reading,
        "multi-stream": _reading,
        "offline": _scoring,
        "prefill": _prefilling,
        "generation": _generating,
    }[scenario.kind](runtime, scenario)


def _reading(runtime: Backend, scenario: Scenario) -> Callable[[], object]:
    tokens = _random_tokens(runtime, scenario.batch_size, scenario.time)
    state = runtime.initial_state(scenario.batch_size)

    def call() -> None:
        nonlocal state
        state = runtime.read(next(tokens), state)

    return call


def _scoring(runtime: Backend, scenario: Scenario) -> Callable[[], object]:
    tokens = _random_tokens(runtime, scenario.batch_size, scenario.time + 1)
    state = runtime.initial_state(scenario.batch_size)

    def call() -> None:
        nonlocal state
        text = next(tokens)
        state = runtime.score(text[:, :-1], text[:, 1:], state)

    return call


def _prefilling(runtime: Backend, scenario: Scenario) -> Callable[[], object]:
    tokens = _random_tokens(runtime, scenario.batch_size, scenario.time)
    start = runtime.initial_state(scenario.batch_size)
    return lambda: runtime.prefill(next(tokens), start)


def _generating(runtime: Backend, scenario: Scenario) -> Callable[[], object]:
    tokens = _random_tokens(runtime, scenario.batch_size, 1)
    start = runtime.initial_state(scenario.batch_size)
    return lambda: runtime.generate(next(tokens), scenario.time, start)


def _random_tokens(runtime: Backend, batch_size: int, time: int) -> Iterator[NDArray[np.int64]]:
    """Token ids int64 [batch, time], a few different ones again and again."""
    random = np.random.default_rng(0)
    return itertools.cycle(random.integers(0, runtime.vocabulary_size, (_INPUTS, batch_size, time)))
