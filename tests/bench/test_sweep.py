"""Cost along an axis, and where one runtime overtakes another, by hand."""

import pytest
from lmtool.bench.scenario import streams
from lmtool.bench.sweep import Crossover, Sweep
from lmtool.bench.timing import Round, Timing


def batches(seconds: dict[str, dict[int, float]]) -> Sweep:
    return Sweep(
        "batch",
        {
            runtime: {size: Timing(runtime, streams(size), [Round([time])]) for size, time in times.items()}
            for runtime, times in seconds.items()
        },
    )


def test_seconds_are_those_of_a_token() -> None:
    sweep = batches({"a": {1: 2e-3, 4: 4e-3}})
    assert sweep.values == [1, 4]
    assert sweep.seconds_per_token("a") == pytest.approx({1: 2e-3, 4: 1e-3})
    assert sweep.to_json()["timings"]["a"]["4"]["scenario"] == "multi-stream:4"


def test_the_crossover_is_the_value_from_which_the_other_stays_faster() -> None:
    cpu, gpu = {1: 1.0, 2: 1.5, 4: 3.0, 8: 9.0}, {1: 2.0, 2: 1.4, 4: 3.5, 8: 4.0}
    assert batches({"cpu": cpu, "gpu": gpu}).crossovers == [Crossover("cpu", "gpu", 8)]
    assert batches({"gpu": gpu, "cpu": cpu}).crossovers == [Crossover("cpu", "gpu", 8)]


def test_one_that_always_wins_has_no_crossover() -> None:
    assert batches({"cpu": {1: 1.0, 2: 1.0}, "gpu": {1: 2.0, 2: 2.0}}).crossovers == []
    assert batches({"cpu": {1: 1.0}, "gpu": {2: 0.5}}).crossovers == []


def test_only_common_values_are_compared() -> None:
    crossovers = batches({"cpu": {1: 1.0, 2: 2.0, 4: 4.0}, "gpu": {1: 2.0, 4: 3.0, 8: 4.0}}).crossovers
    assert crossovers == [Crossover("cpu", "gpu", 4)]
