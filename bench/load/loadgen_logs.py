"""Read the logs of MLPerf's load generator: its verdict and its figures, logged outputs, the times of every request.

The times are those of its trace; they must agree to the nanosecond with the percentiles in its summary.
"""

import json
import mmap
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..errors import BenchError
from ..statistics.percentile import percentile

PERCENTILE = 99
"""Percent of the requests that must be answered within the bound."""

NANOSECONDS = 1e9
_MICROSECONDS = 1e6
SUMMARY, DETAIL, OUTPUTS = "mlperf_log_summary.txt", "mlperf_log_detail.txt", "mlperf_log_accuracy.json"
"""The logs that are kept."""

_TRACE = "mlperf_log_trace.json"
_LINE = ":::MLLOG "

_UNMET = re.compile(r"^ +(.+?) satisfied ?: NO$", re.MULTILINE)
_REMARK = re.compile(r"^ \* (.+(?:\n +[^ *\n].*)*)", re.MULTILINE)
_ERRORS = re.compile(r"^(\d+ ERRORS?) encountered", re.MULTILINE)
_LATENCY = re.compile(r"^(\d+)\.00 percentile latency \(ns\) *: (\d+)$", re.MULTILINE)
_ISSUED = re.compile(rb'"name":"IssueQuery",[^\n]*?"ts":([0-9.]+),"dur":([0-9.]+)')
_ANSWERED = re.compile(
    rb'"name":"Sample",[^\n]*?"ph":"b",[^\n]*?"ts":([0-9.]+),[^\n]*?"sample_seq":(\d+),[^\n]*?"complete_ns":(\d+)'
)


@final
@dataclass(frozen=True)
class Verdict:
    """Loadgen's verdict on a run.

    Attributes:
        invalid_reasons: Rules that were not met, and loadgen's remarks; empty if the run is valid.
        figures: Values of its detailed log by their keys; times in nanoseconds.
    """

    invalid_reasons: tuple[str, ...]
    figures: Mapping[str, Any]


def read_verdict(folder: Path) -> Verdict:
    """Read summary and detailed log in `folder`.

    Raises:
        BenchError: They hold no verdict.
    """
    try:
        summary = (folder / SUMMARY).read_text()
        lines = (folder / DETAIL).read_text().splitlines()
        entries = [json.loads(line.removeprefix(_LINE)) for line in lines if line.startswith(_LINE)]
    except (OSError, ValueError) as error:
        raise BenchError(f"loadgen's logs cannot be read: {error}; is there room in {folder}?") from error
    figures = {entry["key"]: entry["value"] for entry in entries}
    if "Result is : " not in summary or "result_validity" not in figures:
        raise BenchError(f"loadgen's logs are incomplete; is there room in {folder}?")
    return Verdict(_invalid_reasons(summary), figures)


def read_outputs(folder: Path) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Read the outputs that loadgen logged.

    Returns:
        Number of each one's sample, int64 [outputs], and the output, float32 [outputs, size].

    Raises:
        BenchError: They cannot be read.
    """
    try:
        entries = json.loads((folder / OUTPUTS).read_text() or "[]")
        rows = [np.frombuffer(bytes.fromhex(entry["data"]), np.float32) for entry in entries]
        return np.array([entry["qsl_idx"] for entry in entries], np.int64), np.array(rows)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BenchError(f"loadgen's log of outputs cannot be read: {error}; is there room in {folder}?") from error


@final
@dataclass(frozen=True, eq=False)
class LoadgenResult:
    """Times and verdict of a run.

    Attributes:
        latencies: Seconds from when a request was due to its answer, float64 [requests] in order of arrival.
        lateness: Seconds from when it was due until it was issued, float64 [requests]; part of its latency.
        due: When it was due, in seconds since the first one was, float64 [requests].
        valid: Loadgen's verdict.
        invalid_reasons: Rules that were not met, and loadgen's remarks; empty if the run is valid.
    """

    latencies: NDArray[np.float64]
    lateness: NDArray[np.float64]
    due: NDArray[np.float64]
    valid: bool
    invalid_reasons: tuple[str, ...]


def read_logs(folder: Path, issue_seconds: NDArray[np.float64]) -> LoadgenResult:
    """Read the logs in `folder`.

    Args:
        folder: The folder of the logs.
        issue_seconds: Seconds that issuing each request took, float64 [requests]: the trace only has the end.

    Raises:
        BenchError: They hold no verdict, or the trace does not fit the summary.
    """
    try:
        summary = (folder / SUMMARY).read_text()
        issued, answered = _read_trace(folder / _TRACE)
    except (OSError, ValueError) as error:
        raise BenchError(f"loadgen's logs cannot be read: {error}; is there room in {folder.parent}?") from error
    if "Result is : " not in summary or not len(issued) == len(answered) == len(issue_seconds):
        raise BenchError(
            f"loadgen's logs are incomplete: {len(issued):,} and {len(answered):,} of {len(issue_seconds):,} requests; "
            f"is there room in {folder.parent}?"
        )
    latencies, due = answered[:, 2], answered[:, 0]
    _require_agreement(summary, latencies)
    reasons = _invalid_reasons(summary)
    return LoadgenResult(
        latencies=latencies / NANOSECONDS,
        lateness=(issued - due) / _MICROSECONDS - issue_seconds,
        due=(due - due[0]) / _MICROSECONDS,
        valid=not reasons,
        invalid_reasons=reasons,
    )


def _read_trace(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Times of the requests in order of arrival.

    Returns:
        Microseconds when each was issued, float64 [requests]; and microseconds when it was due, its number, and
        nanoseconds of its latency, float64 [requests, 3].
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as trace:
        issued = _numbers(_ISSUED, trace).reshape(-1, 2)
        answered = _numbers(_ANSWERED, trace).reshape(-1, 3)
    return issued.sum(axis=1), answered[answered[:, 1].argsort()]


def _numbers(pattern: re.Pattern[bytes], trace: mmap.mmap) -> NDArray[np.float64]:
    """The groups of all matches as float64 [matches * groups]."""
    return np.fromiter((float(text) for match in pattern.finditer(trace) for text in match.groups()), np.float64)


def _require_agreement(summary: str, latencies: NDArray[np.float64]) -> None:
    known = [(int(percent), int(latency)) for percent, latency in _LATENCY.findall(summary)]
    if PERCENTILE not in dict(known) or any(percentile(latencies, percent) != latency for percent, latency in known):
        raise BenchError(
            f"loadgen's trace and its summary do not agree on the percentiles of the latencies, there {known}; "
            "install the version that the tests were run with (constraints.txt)"
        )


def _invalid_reasons(summary: str) -> tuple[str, ...]:
    """The unmet rules, then loadgen's remarks; only loadgen's own errors if the verdict is VALID."""
    verdict = summary.partition("Result is : ")[2].partition("=====")[0]
    errors = [f"loadgen met {count}" for count in _ERRORS.findall(summary)]
    if verdict.startswith("VALID"):
        return tuple(errors)
    unmet = [f"{rule} satisfied: NO" for rule in _UNMET.findall(verdict)]
    return (*unmet, *(" ".join(remark.split()) for remark in _REMARK.findall(verdict)), *errors)
