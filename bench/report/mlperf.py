"""Runs by MLPerf's rules as text."""

import textwrap

from ...runtime.io.text_table import text_table
from ..mlperf.results import MlperfResults, MlperfRun
from ..mlperf.settings import OFFICIAL_SECONDS
from .text import WIDTH, format_seconds

HEADER = ("runtime", "scenario", "LoadGen", "result", "", "queries", "p50", "p99", "p99.9", "TEST01", "TEST04")
_METRICS = {
    "single-stream": "90th percentile",
    "multi-stream": "99th percentile of 8",
    "offline": "samples/s",
    "server": "samples/s",
}


def heading(results: MlperfResults) -> str:
    """Whether the rules are kept, in a line."""
    if results.keeps_rules:
        kept = f"by MLPerf's rules: {results.seconds:g} s or longer a run"
    else:
        kept = f"NOT by MLPerf's rules: {results.seconds:g} s a run, they ask for {OFFICIAL_SECONDS:g} s"
    return f"{kept}; LoadGen {results.loadgen}, samples of {results.text}"


def cells(run: MlperfRun) -> tuple[str, ...]:
    """A run in the columns of `HEADER`."""
    audits = {audit.name: audit.verdict for audit in run.audits}
    shown = (format_seconds(run.percentiles[percent]) for percent in ("50.00", "99.00", "99.90"))
    latencies = [""] * 3 if run.scenario == "offline" else shown
    return (
        run.runtime,
        run.scenario,
        "VALID" if run.valid else "INVALID",
        _metric(run),
        _meaning(run),
        f"{run.queries:,}",
        *latencies,
        *(audits.get(name, "") for name in HEADER[-2:]),
    )


def run_line(run: MlperfRun) -> str:
    """A run in a line."""
    runtime, scenario, verdict, metric, meaning, *_ = cells(run)
    audits = ", ".join(f"{audit.name} {audit.verdict}" for audit in run.audits)
    return f"{runtime}, {scenario}: {verdict}, {metric} {meaning}; {audits}"


def notes(results: MlperfResults) -> list[str]:
    """Warnings and failures: invalid runs, doubts, failed audits, runs without a result, lost logs."""
    lines = [f"{name}: {reason}" for name, reason in results.failed.items()]
    for run in results.runs:
        where = f"{run.runtime}, {run.scenario}"
        reasons = "; ".join(reason.removesuffix(".") for reason in run.invalid_reasons)
        lines += [] if run.valid else [f"{where}: not valid: {reasons}"]
        lines += [f"{where}: {audit.name} {audit.verdict}: {audit.found}" for audit in run.failed_audits]
        lines += [f"{where}: {warning}" for warning in run.warnings]
    return [*lines, *(f"{name}: LoadGen's logs are not kept: {reason}" for name, reason in results.unsaved.items())]


def format_mlperf(results: MlperfResults, width: int | None = None) -> str:
    """Heading, a line for each run, notes; in `width` columns, None: no limit."""
    rows = text_table([HEADER, *(cells(run) for run in results.runs)], "<<<><>", "  ", width)
    wrapped = [textwrap.wrap(f"! {note}", width or WIDTH, subsequent_indent="  ") for note in notes(results)]
    return "\n".join([heading(results), *rows, *(line for lines in wrapped for line in lines)])


def _metric(run: MlperfRun) -> str:
    if run.metric is None:
        return "none"
    return format_seconds(run.metric) if run.scenario in ("single-stream", "multi-stream") else f"{run.metric:,.0f}"


def _meaning(run: MlperfRun) -> str:
    meaning = _METRICS[run.scenario]
    if run.scenario == "offline":
        return f"{meaning}, batch {run.batch}"
    if run.rate is None:
        return meaning
    low, high = run.highest_valid_rate, run.lowest_invalid_rate
    return f"{meaning}; valid {'none' if low is None else f'{low:,.0f}'}, not {'-' if high is None else f'{high:,.0f}'}"
