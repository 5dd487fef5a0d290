"""The results as a table of plain text."""

from .results import UNSTABLE_SPREAD, Results, Timing

_HEADER = ("runtime", "tokens/s", "p50", "p95", "p99", "spread", "floor", "speed-up")


def format_table(results: Results) -> str:
    """One block for each scenario, one line for each runtime; an unstable timing or a failed verification is marked."""
    lines = []
    for scenario in results.scenarios:
        lines += [f"{scenario.name} ({results.identity.threads} thread{'s' * (results.identity.threads > 1)})"]
        rows: list[tuple[str, ...]] = [_HEADER]
        for runtime in results.runtimes:
            rows.append(_row(results.timing(runtime, scenario), results))
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
        for row in rows:
            cells = [
                row[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
            ]
            lines.append("  " + "  ".join(cells))
        lines += [f"  {runtime}  FAILED the verification: not timed" for runtime in results.failed]
        lines.append("")
    lines += [f"! {runtime}: {reason}" for runtime, reasons in results.failed.items() for reason in reasons]
    if results.floors:
        lines.append("floor: reading the weights once, or in fp32 batches multiplying by them, at numpy's best rates")
    lines += [f"not measured: {runtime}: {reason}" for runtime, reason in results.left_out.items()]
    if any(timing.spread > UNSTABLE_SPREAD for timing in results.timings):
        lines.append("! medians of the rounds lie more than 10 % apart: the machine was busy, compare the ratios")
    return "\n".join(lines).rstrip()


def _row(timing: Timing, results: Results) -> tuple[str, ...]:
    ratios = sorted(timing.ratios(results.timing(results.baseline, timing.scenario)))
    speedup = results.speedup(timing.runtime, timing.scenario)
    floor = results.floor(timing.runtime, timing.scenario)
    return (
        timing.runtime,
        f"{timing.tokens_per_second:,.0f}",
        *(format_seconds(timing.percentile(percent)) for percent in (50, 95, 99)),
        f"{timing.spread:.0%}" + ("!" if timing.spread > UNSTABLE_SPREAD else " "),
        "" if floor is None else format_seconds(floor),
        "1" if timing.runtime == results.baseline else f"{speedup:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})",
    )


def format_seconds(seconds: float) -> str:
    """Seconds in the unit that suits them: `412 us`, `3.21 ms`, `1.20 s`."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} us"
    return f"{seconds * 1e3:.2f} ms" if seconds < 1 else f"{seconds:.2f} s"
