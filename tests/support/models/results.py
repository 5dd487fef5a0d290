"""Benchmark results made by hand."""

from pathlib import Path
from typing import Any

from lmtool.bench import Results, Round, Scenario, Timing
from lmtool.bench.results import Identity

ONE = Scenario("single-stream")


def make_results(rounds: dict[str, list[list[float]]], scenario: Scenario = ONE, **parts: Any) -> Results:
    """One scenario with these times for each runtime; the first is the baseline."""
    return Results(
        model=Path("model.onnx"),
        identity=Identity(
            providers=("cpu",),
            threads=1,
            schedule={"rounds": 1, "seconds_per_scenario": 0.4},
            original="0",
            artifacts=dict.fromkeys((name for name in rounds if name.startswith("onnx")), "5eed" * 16),
            environment={"processor": "a processor", "usable_cores": 2, "gpus": []},
        ),
        baseline=next(iter(rounds), ""),
        timings=[Timing(name, scenario, [Round(times) for times in all_times]) for name, all_times in rounds.items()],
        **parts,
    )
