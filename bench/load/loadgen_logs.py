"""What MLPerf's load generator wrote of a run in the server scenario: its verdict, and the times of every request.

The times are in its trace and must agree to the nanosecond with the percentiles in its summary.
"""

import mmap
import re
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from ..errors import BenchError

PERCENTILE = 99
"""Percent of the requests that must be answered within the bound."""

NANOSECONDS = 1e9
_MICROSECONDS = 1e6
_SUMMARY, _TRACE = "mlperf_log_summary.txt", "mlperf_log_trace.json"

_UNMET = re.compile(r"^ +(.+?) satisfied ?: NO$", re.MULTILINE)
_REMARK = re.compile(r"^ \* (.+(?:\n +[^ *\n].*)*)", re.MULTILINE)
_ERRORS = re.compile(r"^(\d+ ERRORS?) encountered", re.MULTILINE)
_SHARE = re.compile(r"^(\d+)\.00 percentile latency \(ns\) *: (\d+)$", re.MULTILINE)
_ISSUED = re.compile(rb'"name":"IssueQuery",[^\n]*?"ts":([0-9.]+),"dur":([0-9.]+)')
_ANSWERED = re.compile(
    rb'"name":"Sample",[^\n]*?"ph":"b",[^\n]*?"ts":([0-9.]+),[^\n]*?"sample_seq":(\d+),[^\n]*?"complete_ns":(\d+)'
)


@final
@dataclass(frozen=True, eq=False)
class Served:
    """What loadgen found.

    Attributes:
        latencies: Seconds from when a request was due to its answer, float64 [requests] in order of arrival.
        lateness: Seconds from when it was due until `take` was called for it, float64 [requests]; part of its latency.
        due: When it was due, in seconds since the first one was, float64 [requests].
        valid: Loadgen's verdict.
        reasons: Its rules that were not met and what it says of them; none where the run is valid.
    """

    latencies: NDArray[np.float64]
    lateness: NDArray[np.float64]
    due: NDArray[np.float64]
    valid: bool
    reasons: tuple[str, ...]


def read_logs(folder: Path, taking: NDArray[np.float64]) -> Served:
    """What the logs in `folder` say.

    Args:
        folder: Where they are.
        taking: Seconds that `take` needed, float64 [requests]: the trace only knows when it was done.

    Raises:
        BenchError: They hold no verdict, or the trace does not fit the summary.
    """
    try:
        summary = (folder / _SUMMARY).read_text()
        issued, answered = _traced(folder / _TRACE)
    except (OSError, ValueError) as error:
        raise BenchError(f"loadgen's logs cannot be read: {error}; is there room in {folder.parent}?") from error
    if "Result is : " not in summary or not len(issued) == len(answered) == len(taking):
        raise BenchError(
            f"loadgen's logs are incomplete: {len(issued):,} and {len(answered):,} of {len(taking):,} requests; "
            f"is there room in {folder.parent}?"
        )
    latencies, due = answered[:, 2], answered[:, 0]
    _require_agreement(summary, latencies)
    reasons = _reasons(summary)
    return Served(
        latencies=latencies / NANOSECONDS,
        lateness=(issued - due) / _MICROSECONDS - taking,
        due=(due - due[0]) / _MICROSECONDS,
        valid=not reasons,
        reasons=reasons,
    )


def percentile(latencies: NDArray[np.float64], percent: float) -> float:
    """The latency that this share of the requests did not exceed, by loadgen's rule: one of them, never in between."""
    return float(np.sort(latencies)[min(int(len(latencies) * (percent / 100)), len(latencies) - 1)])


def _traced(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """In order of arrival: microseconds when a request had been handed over, float64 [requests]; and float64
    [requests, 3]: microseconds when it was due, its number, nanoseconds of its latency.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as trace:
        issued = _numbers(_ISSUED, trace).reshape(-1, 2)
        answered = _numbers(_ANSWERED, trace).reshape(-1, 3)
    return issued.sum(axis=1), answered[answered[:, 1].argsort()]


def _numbers(pattern: re.Pattern[bytes], trace: mmap.mmap) -> NDArray[np.float64]:
    """What the groups of every match hold, one after the other."""
    return np.fromiter((float(text) for found in pattern.finditer(trace) for text in found.groups()), np.float64)


def _require_agreement(summary: str, latencies: NDArray[np.float64]) -> None:
    shares = [(int(percent), int(found)) for percent, found in _SHARE.findall(summary)]
    if PERCENTILE not in dict(shares) or any(percentile(latencies, percent) != found for percent, found in shares):
        raise BenchError(
            f"loadgen's trace and its summary do not agree on the percentiles of the latencies, there {shares}; "
            "install the version that the tests were run with (constraints.txt)"
        )


def _reasons(summary: str) -> tuple[str, ...]:
    """The unmet rules, then loadgen's remarks; nothing where the verdict is VALID."""
    verdict = summary.partition("Result is : ")[2].partition("=====")[0]
    errors = [f"loadgen met {found}" for found in _ERRORS.findall(summary)]
    if verdict.startswith("VALID"):
        return tuple(errors)
    unmet = [f"{rule} satisfied: NO" for rule in _UNMET.findall(verdict)]
    return (*unmet, *(" ".join(remark.split()) for remark in _REMARK.findall(verdict)), *errors)
