"""Time of one call: reading, scoring, prefilling, generating (pytest-benchmark; see plugin.py)."""

from typing import Any


def bench_call(call: Any, measured: Any) -> None:
    call()  # what compiles at its first call does so here, or one slow call would decide how many are timed
    measured(call)
