"""Time of one call that reads tokens and carries the state, for every shape (pytest-benchmark; see plugin.py)."""

import itertools
from typing import Any

import numpy as np

_INPUTS = 64


def bench_reading(benchmark: Any, runtime: Any, scenario: Any) -> None:
    random = np.random.default_rng(0)
    shape = (_INPUTS, scenario.batch_size, scenario.time)
    inputs = itertools.cycle(random.integers(0, runtime.vocabulary_size, shape))
    read = runtime.reader(scenario.batch_size)
    benchmark(lambda: read(next(inputs)))
