"""Benchmarks across runtimes, based on pytest-benchmark, and the demonstration of the whole tool.

Names are imported on first use: a process that measures one backend must not load the others.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .benchmark import BenchOptions, run_bench
    from .demo import Demo, run_demo
    from .environment import describe_environment
    from .errors import BenchError
    from .report.save import save_results
    from .report.text import format_table
    from .results import Results
    from .scenario import Scenario, scenarios_of
    from .timing import Round, Timing

_MODULES = {
    "BenchError": "errors",
    "BenchOptions": "benchmark",
    "Demo": "demo",
    "Results": "results",
    "Round": "timing",
    "Scenario": "scenario",
    "Timing": "timing",
    "describe_environment": "environment",
    "format_table": "report.text",
    "run_bench": "benchmark",
    "run_demo": "demo",
    "save_results": "report.save",
    "scenarios_of": "scenario",
}

__all__ = [
    "BenchError",
    "BenchOptions",
    "Demo",
    "Results",
    "Round",
    "Scenario",
    "Timing",
    "describe_environment",
    "format_table",
    "run_bench",
    "run_demo",
    "save_results",
    "scenarios_of",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
