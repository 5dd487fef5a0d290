"""Calls of what applications call: text that is written, a line that is typed, a pool of texts.

Beside each stand bare calls of the same session, as many as the call needs tokens; a line has one for each keystroke.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from ...runtime.autocompletion import Autocompletion
from ...runtime.pool.options import PoolOptions
from ...runtime.pool.stream_pool import StreamPool
from ...runtime.predictor import Predictor
from ..bare_calls import bare_calls
from ..scenario import Scenario

_SAMPLING: dict[str, Any] = {"temperature": 0.8, "top_k": 40}
_SUGGESTIONS = 5
_LINE = "Please send me a list of the names that you found."
_LEAST_ROUNDS, _MOST_ROUNDS = 5, 1000


@final
@dataclass(frozen=True)
class ApplicationCalls:
    """A call of an application and the bare calls that it is compared with.

    Attributes:
        call: One call.
        bare: The bare calls.
    """

    call: Callable[[], object]
    bare: Callable[[], None]

    def rounds_within(self, seconds: float) -> int:
        """How often both fit into `seconds`; 5 at least. Runs each twice, the first time as a warm-up."""
        for _ in range(2):
            start = time.perf_counter()
            self.bare()
            self.call()
            elapsed = time.perf_counter() - start
        return min(max(int(seconds / elapsed), _LEAST_ROUNDS), _MOST_ROUNDS)

    def bare_seconds(self) -> float:
        """Time the bare calls."""
        start = time.perf_counter()
        self.bare()
        return time.perf_counter() - start


@contextlib.contextmanager
def application_calls(predictor: Predictor, scenario: Scenario) -> Iterator[ApplicationCalls]:
    """The calls of one of `APPLICATION_KINDS`."""
    if scenario.kind == "pool":
        with _pool(predictor, scenario.batch_size) as pool:
            yield ApplicationCalls(lambda: _pooled(pool, scenario), _bare_calls(predictor, scenario))
    elif scenario.kind == "generation":
        yield ApplicationCalls(lambda: _generated(predictor, scenario.time), _bare_calls(predictor, scenario))
    else:
        keystrokes = Scenario("generation", time=len(_LINE))
        yield ApplicationCalls(lambda: _typed(predictor), _bare_calls(predictor, keystrokes))


def _generated(predictor: Predictor, tokens: int) -> None:
    for _ in predictor.stream().generate(tokens, seed=0, **_SAMPLING):
        pass


def _typed(predictor: Predictor) -> None:
    line = Autocompletion(predictor, _SUGGESTIONS)
    for end in range(1, len(_LINE) + 1):
        line.suggestions(_LINE[:end])


def _pool(predictor: Predictor, jobs: int) -> StreamPool:
    options = PoolOptions(
        max_streams=jobs, max_waiting=jobs, max_batch=jobs, max_tokens=max(jobs, 512), allow_inexact=True
    )
    return StreamPool(predictor, options)


def _pooled(pool: StreamPool, scenario: Scenario) -> None:
    jobs = [pool.generate("", scenario.time, seed=seed, **_SAMPLING) for seed in range(scenario.batch_size)]
    for job in jobs:
        job.result()


def _bare_calls(predictor: Predictor, scenario: Scenario) -> Callable[[], None]:
    """Bare calls for one token of each stream."""
    shape = (scenario.time, scenario.batch_size, 1)
    return bare_calls(predictor, np.random.default_rng(0).integers(0, len(predictor.vocabulary), shape))
