"""One call of a backend in each scenario."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends.registry import Backend
from ..backends.stateful import StatefulBackend
from ..scenario import Scenario

_INPUTS = 64


def workload(backend: Backend | StatefulBackend, scenario: Scenario) -> Callable[[], object]:
    """A function that makes one call of a scenario, with other random tokens, or other inputs, each time.

    single-stream, multi-stream and offline continue from the state of their last call; prefill starts from the zero
    state.
    """
    if isinstance(backend, StatefulBackend):
        return backend.workload(scenario)
    time = scenario.time
    lengths = {"single-stream": 1, "multi-stream": 1, "offline": time + 1, "prefill": time}
    tokens = _random_tokens(backend.vocabulary_size, scenario.batch_size, lengths[scenario.kind])
    zero = backend.initial_state(scenario.batch_size)
    if scenario.kind == "prefill":
        return lambda: backend.prefill(next(tokens), zero)
    if scenario.kind == "offline":
        return _continued(lambda text, state: backend.score(text[:, :-1], text[:, 1:], state), tokens, zero)
    return _continued(backend.read, tokens, zero)


def vocabulary_size(backend: Backend | StatefulBackend) -> int:
    """Tokens of a language model; 0 for another network."""
    return 0 if isinstance(backend, StatefulBackend) else backend.vocabulary_size


def _continued(step: Callable[..., Any], tokens: Iterator[NDArray[np.int64]], state: Any) -> Callable[[], None]:
    def call() -> None:
        nonlocal state
        state = step(next(tokens), state)

    return call


def _random_tokens(vocabulary_size: int, batch_size: int, time: int) -> Iterator[NDArray[np.int64]]:
    """Token ids int64 [batch, time], in an endless cycle."""
    random = np.random.default_rng(0)
    return itertools.cycle(random.integers(0, vocabulary_size, (_INPUTS, batch_size, time)))
