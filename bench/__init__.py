"""The cross-runtime benchmark harness (pytest-benchmark underneath), and the demonstration of the whole tool."""

from .chart import draw_chart
from .demo import Demo, run_demo
from .environment import describe_environment
from .errors import BenchError
from .harness import OTHERS, BenchOptions, run_bench
from .results import Results, Timing
from .saving import save_results
from .scenario import Scenario
from .table import format_table

__all__ = [
    "OTHERS",
    "BenchError",
    "BenchOptions",
    "Demo",
    "Results",
    "Scenario",
    "Timing",
    "describe_environment",
    "draw_chart",
    "format_table",
    "run_bench",
    "run_demo",
    "save_results",
]
