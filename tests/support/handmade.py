"""Results made by hand."""

from pathlib import Path

from lmtool.bench import Results, Scenario, Timing
from lmtool.bench.results import Identity


def make_results(
    rounds: dict[str, list[list[float]]],
    left_out: dict[str, str] | None = None,
    failed: dict[str, list[str]] | None = None,
) -> Results:
    """One single-stream scenario with these times for each runtime; the first is the baseline."""
    return Results(
        model=Path("model.onnx"),
        identity=Identity(
            provider="cpu",
            threads=1,
            original="0",
            artifacts=dict.fromkeys((name for name in rounds if name.startswith("onnx")), "5eed" * 16),
            environment={"processor": "a processor", "usable_cores": 2},
        ),
        baseline=next(iter(rounds), ""),
        timings=[Timing(name, Scenario(1, 1), times) for name, times in rounds.items()],
        parity={},
        placement={},
        floors={},
        failed=failed or {},
        left_out=left_out or {},
    )
