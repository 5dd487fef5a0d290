"""Time until a runtime is ready, and of the first token after that (pytest-benchmark; see plugin.py).

What a first load of the process brings in is there already: imports, and the file in the system's cache."""

from typing import Any

import numpy as np


def bench_call(call: Any, measured: Any) -> None:
    call()  # what compiles at its first call does so here, or one slow call would decide how many are timed
    measured(call)


_ROUNDS = 5


def bench_load(load_scenario: Any, load_runtime: Any, measured: Any) -> None:
    measured.pedantic(load_runtime, rounds=_ROUNDS, warmup_rounds=1)


def bench_first_step(first_step_scenario: Any, load_runtime: Any, measured: Any) -> None:
    def setup() -> Any:
        loaded = load_runtime()
        return (loaded, np.zeros((1, 1), np.int64), loaded.initial_state(1)), {}

    def step(loaded: Any, tokens: Any, state: Any) -> None:
        loaded.read(tokens, state)

    measured.pedantic(step, setup=setup, rounds=_ROUNDS, warmup_rounds=1)
