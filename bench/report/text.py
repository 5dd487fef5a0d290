"""The results as a table of plain text."""

import textwrap

from ...runtime.io.text_table import text_table
from ...runtime.score import format_perplexity
from ..candidates import by_reason
from ..ranking import Verdict, verdicts
from ..results import Results
from ..scenario import APPLICATION_KINDS, Scenario
from ..statistics.estimate import Estimate
from ..sweep import AXES, Crossover, Sweep
from ..timing import Timing
from .operators import doubts, format_profiles

_FIGURES = ("p50", "p95", "p99", "longest", "outliers")
_COMPARED = ("memory", "energy", "floor", "to floor", "bare", "to bare", "speed-up")
FAILED = "FAILED the verification: not timed"
CRASHED = "CRASHED: not timed"
WIDTH = 120
"""Columns of wrapped lines where the screen's width is not known."""

_QUALITY = ("test_perplexity", "test_bits_per_byte", "test_word_perplexity")


def format_table(results: Results, width: int | None = None) -> str:
    """One block for each scenario, one line for each runtime; unstable, failed and crashed ones are marked.

    Args:
        results: The results.
        width: Columns of the screen; None: no limit.
    """
    lines = []
    known = [verdict for verdict in verdicts(results) if verdict.lead is not None and verdict.lead.is_bounded]
    fastest = {verdict.scenario: [format_verdict(verdict)] for verdict in known}
    for scenario in results.scenarios:
        lines += [*_scenario_block(results, scenario, width), *fastest.get(scenario, []), ""]
    lines += format_profiles(results, width)
    for sweep in results.sweeps:
        lines += [*_sweep_block(sweep, width), ""]
    lines += [f"! sweep: {name}: {reason}" for name, reason in results.sweep_failures.items()]
    lines += [f"! {runtime}: {reason}" for runtime, reasons in results.failed.items() for reason in reasons]
    lines += [f"! {runtime}: {reason}" for runtime, reason in results.crashed.items()]
    lines += textwrap.wrap("; ".join(legend(results)), width or WIDTH)
    facts = [format_quality(results), format_calls(results)]
    lines += [f"{results.model.name}: {fact}" for fact in facts if fact]
    lines += [f"not measured: {names}: {reason}" for names, reason in by_reason(dict(results.skipped)).items()]
    return "\n".join([*lines, *(f"! {warning}" for warning in warnings(results))]).rstrip()


def format_quality(results: Results) -> str:
    """How well the original predicts its test text, in the figures that its training recorded; empty without any."""
    perplexity, bits, words = (results.training.get(name) for name in _QUALITY)
    shown = [
        f"test perplexity {format_perplexity(perplexity)}" if perplexity is not None else "",
        f"{bits:.3f} bits per byte" if bits is not None else "",
        f"{format_perplexity(words)} a word" if words is not None else "",
    ]
    return ", ".join(filter(None, shown))


def format_calls(results: Results) -> str:
    """States and inputs of a network that is no language model; empty for a language model."""
    if not results.identity.calls:
        return ""
    states = [f"{name} -> {output}" for name, output in results.identity.calls["states"].items()]
    carried = ", ".join(states) or "none, each call begins anew (lmtool doctor says why)"
    inputs = ", ".join(f"{name} {kind}" for name, kind in results.identity.calls["inputs"].items())
    uncarried = ", ".join(results.identity.calls["uncarried"])
    lost = f"; NOT carried, though named or used as states: {uncarried} (--state IN=OUT for each)" if uncarried else ""
    return f"states {carried}{lost}; a step is {inputs}"


def header(results: Results) -> tuple[str, ...]:
    """The columns of a table."""
    return ("runtime", f"{results.unit}s/s", *_FIGURES, *_COMPARED)


def _scenario_block(results: Results, scenario: Scenario, width: int | None) -> list[str]:
    threads = results.identity.threads
    rows = [header(results), *(cells_of(timing, results) for timing in results.of(scenario))]
    columns = [column for column in zip(*rows, strict=True) if any(cell.strip() for cell in column[1:])]
    return [
        f"{scenario.named(results.unit)} ({threads} thread{'s' * (threads > 1)})",
        *text_table(list(zip(*columns, strict=True)), "<>", "  ", width),
        *(f"  {runtime}  {FAILED}" for runtime in results.failed),
        *(f"  {runtime}  {CRASHED}" for runtime in results.crashed),
    ]


def cells_of(timing: Timing, results: Results) -> tuple[str, ...]:
    """A timing's cells in the columns of `header`; empty if not known."""
    floor = results.roofline_seconds(timing.runtime, timing.scenario)
    speed, memory = timing.tokens_per_second, timing.peak_bytes
    return (
        timing.runtime,
        "" if speed is None else f"{speed:,.0f}",
        _median(timing),
        *(_percentile(timing, percent) for percent in (95, 99)),
        format_seconds(timing.longest),
        f"{timing.outliers:.1%}",
        "" if memory is None else f"{memory / 1e6:,.0f} MB",
        _energy(timing.joules_per_token),
        format_seconds(floor),
        "" if floor is None else f"{min(timing.costs) / floor:.1f}x",
        format_seconds(timing.bare_seconds),
        "" if timing.bare_ratio is None else f"{timing.bare_ratio.value:.2f}x{_uncertainty(timing.bare_ratio)}",
        format_speedup(results, timing),
    )


def _energy(joules: float | None) -> str:
    return "" if joules is None else f"{joules * 1e3:.3g} mJ"


def _median(timing: Timing) -> str:
    """The 50th percentile; `~` marks short calls, `!` unstable rounds."""
    short, unstable = "~" * timing.is_short, "!" * timing.is_unstable
    return f"{format_seconds(timing.median_seconds)}{short}{_uncertainty(timing.percentiles[50])}{unstable}"


def _percentile(timing: Timing, percent: int) -> str:
    estimate = timing.percentiles.get(percent)
    return "" if estimate is None else f"{format_seconds(estimate.value)}{_uncertainty(estimate)}"


def _uncertainty(estimate: Estimate) -> str:
    """The larger half of the interval in percent of the value; empty without an interval."""
    share = estimate.uncertainty
    return "" if share is None else f" ±{share:.0%}"


def format_verdict(verdict: Verdict) -> str:
    """The fastest runtime of a scenario and its lead over the second, or those that are too close to call."""
    if not verdict.is_clear:
        names = [timing.runtime for timing in (verdict.fastest, *verdict.rivals)]
        return f"  fastest: too close to call between {', '.join(names)}"
    if verdict.lead is None or verdict.second is None:
        return f"  fastest: {verdict.fastest.runtime}"
    lead = f"{format_ratio(verdict.lead)} times as fast as {verdict.second.runtime}"
    return f"  fastest: {verdict.fastest.runtime}, {lead}"


def _sweep_block(sweep: Sweep, width: int | None) -> list[str]:
    """A line for each value, a column for each runtime: time of a token."""
    rows = [[sweep.axis, *sweep.timings]]
    rows += [[f"{value:,}", *(_cost(sweep, runtime, value) for runtime in sweep.timings)] for value in sweep.values]
    return [
        f"sweep over {sweep.axis} ({AXES[sweep.axis]}): time of a token",
        *text_table(rows, ">", "  ", width),
        *(f"  {format_crossover(crossover, sweep.axis)}" for crossover in sweep.crossovers),
    ]


def _cost(sweep: Sweep, runtime: str, value: int) -> str:
    timing = sweep.timings[runtime].get(value)
    if timing is None:
        return ""
    return format_seconds(sweep.seconds_per_token(runtime)[value]) + ("!" if timing.is_unstable else " ")


def format_crossover(crossover: Crossover, axis: str) -> str:
    """A crossover as a sentence."""
    return f"{crossover.winner} overtakes {crossover.loser} at {axis} {crossover.value:,}"


def format_seconds(seconds: float | None) -> str:
    """Seconds with a unit: `412 us`, `3.21 ms`, `1.20 s`; empty for None."""
    if seconds is None:
        return ""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.{0 if seconds >= 1e-5 else 1}f} us"
    return f"{seconds * 1e3:.2f} ms" if seconds < 1 else f"{seconds:.2f} s"


def format_ratio(ratio: Estimate) -> str:
    """A ratio with its interval, `2.20 (2.10 to 3.36)`; without one the ratio alone."""
    interval = f" ({ratio.low:.2f} to {ratio.high:.2f})" if ratio.is_bounded else ""
    return f"{ratio.value:.2f}{interval}"


def format_speedup(results: Results, timing: Timing) -> str:
    """The speed-up over the baseline, with its interval."""
    if timing.runtime == results.baseline:
        return "1"
    speedup = results.speedup(timing.runtime, timing.scenario)
    return "" if speedup is None else format_ratio(speedup)


def warnings(results: Results) -> list[str]:
    """Reasons to doubt the figures, one sentence each."""
    sentences = []
    for timing in results.timings:
        where = f"{timing.runtime}, {timing.scenario}"
        sentences += [f"{where}: not valid: {' '.join(timing.invalid_reasons)}"] if timing.invalid_reasons else []
        sentences += [f"{where}: {warning}" for warning in timing.warnings[:1]]
    if any(timing.is_unstable for timing in results.timings):
        sentences.append("!: medians of the rounds lie more than 10 % apart: the machine was busy, compare the ratios")
    if any(timing.is_short for timing in results.timings):
        sentences.append("~: a call takes less than a millisecond, interrupts and the clock count: use the median")
    return sentences + ([] if results.profiles is None else doubts(results.profiles))


def legend(results: Results) -> list[str]:
    """Meaning of the columns, one sentence each."""
    kinds = {scenario.kind for scenario in results.scenarios}
    source = results.identity.environment.get("energy")
    if any(timing.joules_per_token is not None for timing in results.timings):
        source = f"for a {results.unit}, of {source} (the whole processor, and whatever else ran on it meanwhile)"
    sentences = {
        f"{results.unit}s/s: at the median call": any(scenario.tokens for scenario in results.scenarios),
        "p50, p95, p99: of the calls of all rounds, if there are enough (90, 459)": True,
        "±: the larger half of the 95 % interval": True,
        "outliers: calls beyond Tukey's fence; all of them count": True,
        "memory: peak host memory of the process that computes": True,
        f"energy: {source}": bool(source),
        "speed-up: over the first runtime, paired by round, with its 95 % interval, of the first quartiles of the "
        "rounds' calls, which other work disturbs least": True,
        "prefill: onnxruntime and torch compute the logits of the last position, other runtimes those of every one": (
            "prefill" in kinds
        ),
        "bare: the session calls that it needs, alone and in turns with it; to bare: a call over them": any(
            timing.bare_ratio is not None for timing in results.timings
        ),
        "suggest: bare is a session call for each keystroke; lmtool needs one only where a word may end, so it may "
        "take less (to bare below 1)": "suggest" in kinds,
        "generation, suggest, pool: lmtool's predictor over each runtime; it copies states for torch, uses a pipe to "
        "node": not kinds.isdisjoint(APPLICATION_KINDS),
        "server: speed-ups are those of the 99th percentile; its process is not pinned": "server" in kinds,
        "where the time goes: of the fastest calls under the runtime's own profiler, without its cost, scaled to calls "
        "without it; outside operators: the rest of the call; fused layers hold their activation functions": bool(
            results.profiles
        ),
        "floor: the time to read the weights once (batch 1) or to multiply by them (larger batches), at the best rates "
        "of numpy, and of onnxruntime in int8; to floor: the fastest round over it": bool(results.rooflines),
    }
    return [sentence for sentence, applies in sentences.items() if applies and results.timings]
