"""The timed functions (pytest-benchmark; see plugin.py): calls of a backend and of applications, a load, the first
step after a load.

The load is a warm one: imports are done and the file is in the system's cache."""

from typing import Any

_ROUNDS = 5


def bench_call(call: Any, energy: Any, measured: Any) -> None:
    call()  # a backend that compiles at its first call does it here: that time must not set the number of rounds
    with energy:
        measured(energy.counting(call))
    measured.extra_info["joules"] = energy.joules


def bench_application(application: Any, seconds: float, measured: Any) -> None:
    bare: list[float] = []
    rounds = application.rounds_within(seconds)
    measured.pedantic(application.call, setup=lambda: bare.append(application.bare_seconds()), rounds=rounds)
    measured.extra_info["bare_seconds"] = bare


def bench_load(load_scenario: Any, load_runtime: Any, measured: Any) -> None:
    measured.pedantic(load_runtime, rounds=_ROUNDS, warmup_rounds=1)


def bench_first_step(first_step_scenario: Any, first_call: Any, measured: Any) -> None:
    measured.pedantic(lambda call: call(), setup=lambda: ((first_call(),), {}), rounds=_ROUNDS, warmup_rounds=1)
