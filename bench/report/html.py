"""The results as one self-contained HTML page: no script, no network, no other file.

The template is `page.html` with `page.css`; its values are computed here, its charts in `charts.py`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...runtime.io.files import write_atomically
from ...runtime.score import format_perplexity
from ..candidates import by_reason
from ..profile.kinds import KINDS
from ..profile.profiles import Profiles
from ..ranking import is_invariant, verdicts
from ..regression.comparison import Comparison
from ..results import Results
from ..scenario import TOKEN
from ..sweep import Sweep
from ..timing import Timing
from .charts import DOTS, colors, micro, panel, shown_seconds, shown_speed, sweep_lines, tradeoff, typeset
from .mlperf import HEADER, cells, heading, notes
from .operators import OPERATOR_HEADER, operator_rows
from .overview import cards, change_matrix, perplexity_change, share, speedup_matrix
from .page_template import CONTROLS, page_template
from .stacks import kind_colors, profile_panel
from .svg import marker
from .text import (
    CRASHED,
    FAILED,
    cells_of,
    format_calls,
    format_quality,
    format_ratio,
    format_speedup,
    header,
    legend,
    warnings,
)

_RELEVANT_FLAGS = ("avx", "amx", "fma", "f16c", "sse4", "asimd", "sve", "i8mm")
_KINDS = {
    "single-stream": "one stream reads one token a call and returns its logits; each call continues the one before",
    "multi-stream": "the same for a batch of streams",
    "offline": "a text is scored chunk by chunk: the log-probability of each next token",
    "prefill": "a prompt is read from the initial state; only the logits of its last token are returned",
    "generation": "a text is written from the start of a sentence: temperature 0.8, top-k 40",
    "suggest": "a line is typed key by key, with five suggestions after each key",
    "pool": "texts are written at once by the jobs of a pool: temperature 0.8, top-k 40",
    "load": "from the file to a ready runtime; imports are done, the file is in the page cache",
    "first-step": "the first token after loading, including compilation and allocation",
    "server": "requests of one token arrive at random; a time is from arrival to answer, waiting included",
}
_STEP_KINDS = {
    "single-stream": "one stream reads one step a call; each call continues the one before",
    "multi-stream": "the same for a batch of streams",
    "offline": "a sequence is read in chunks of several steps; each call continues the one before",
    "load": _KINDS["load"],
    "first-step": "the first step after loading, including compilation and allocation",
}
"""The same for networks that are no language models."""


def write_report(results: Results, path: Path, comparison: Comparison | None = None) -> None:
    """Write the page.

    Args:
        results: The results, with or without timings.
        path: The file.
        comparison: The comparison with earlier results, if any.

    Raises:
        StorageError: It cannot be written.
    """
    write_atomically(path, render_report(results, comparison).encode(errors="replace"))


def render_report(results: Results, comparison: Comparison | None = None) -> str:
    """The page as text."""
    filters: dict[str, Callable[..., Any]] = {
        "figure": _figure,
        "micro": micro,
        "ratio": format_ratio,
        "seconds": shown_seconds,
        "sentence": _sentence,
        "perplexity": format_perplexity,
        "share": share,
        "speed": lambda timing: shown_speed(timing, results.unit),
    }
    profiles = results.profiles or Profiles()
    page = page_template("page.html", filters).render(
        results=results,
        comparison=comparison,
        identity=results.identity,
        cards=cards(results),
        verdicts=verdicts(results),
        matrix=speedup_matrix(results),
        changes=None if comparison is None else change_matrix(comparison),
        invariant=lambda runtime: is_invariant(results, runtime),
        speedup=lambda timing: format_speedup(results, timing),
        perplexity=lambda runtime: perplexity_change(results, runtime),
        quality=format_quality(results),
        calls=format_calls(results),
        **_mlperf(results),
        is_language_model=results.unit == TOKEN,
        skipped=by_reason(dict(results.skipped)),
        warnings=warnings(results),
        legend=legend(results),
        panels=[panel(results, scenario) for scenario in results.scenarios],
        profile_panels=[profile_panel(profiles, scenario) for scenario in profiles.scenarios],
        operator_header=OPERATOR_HEADER,
        operator_rows=lambda scenario: operator_rows(profiles, scenario),
        kind_names=KINDS,
        kind_colors=kind_colors(),
        table=lambda timings: _table(results, timings),
        failed=FAILED,
        crashed=CRASHED,
        tradeoff=tradeoff(results),
        sweeps=[(sweep, sweep_lines(sweep)) for sweep in results.sweeps if sweep.timings],
        sweep_rows=_sweep_rows,
        colors=colors(results),
        marker=marker,
        dots=DOTS,
        tensors=_tensors(results),
        batches=_batches(results),
        rounds=max((len(timing.rounds) for timing in results.timings), default=0),
        timed_calls=sum(len(each.call_seconds) for timing in results.timings for each in timing.rounds),
        kinds=_kinds(results),
        relevant_flags=[flag for flag in results.identity.environment.get("flags", ()) if _is_relevant(flag)],
    )
    return page.translate(CONTROLS)


def _mlperf(results: Results) -> dict[str, Any]:
    """Values for the section of runs by MLPerf's rules."""
    mlperf = results.mlperf
    if mlperf is None:
        return {"mlperf": None}
    return {
        "mlperf": mlperf,
        "mlperf_heading": heading(mlperf),
        "mlperf_header": HEADER,
        "mlperf_cells": cells,
        "mlperf_notes": notes(mlperf),
    }


def _kinds(results: Results) -> list[tuple[str, str]]:
    """Each kind of scenario and what its call does."""
    meanings = _KINDS if results.unit == TOKEN else _STEP_KINDS
    return [(kind, meanings[kind]) for kind in dict.fromkeys(scenario.kind for scenario in results.scenarios)]


def _table(results: Results, timings: Sequence[Timing]) -> tuple[list[str], list[tuple[Timing, list[str]]]]:
    """Header and rows of a scenario's table, without empty columns."""
    rows = [[typeset(cell) for cell in cells_of(timing, results)] for timing in timings]
    titles = header(results)
    shown = [column for column in range(1, len(titles)) if any(cells[column] for cells in rows)]
    cells = [[cells[column] for column in shown] for cells in rows]
    return [titles[column] for column in shown], list(zip(timings, cells, strict=True))


def _tensors(results: Results) -> list[str]:
    """Names of the tensors of all parity reports."""
    return list(dict.fromkeys(name for report in results.parity.values() for name in report["tensors"]))


def _batches(results: Results) -> list[int]:
    """The batch sizes that rooflines are shown for."""
    steps = {
        scenario.batch_size for scenario in results.scenarios if scenario.kind in ("single-stream", "multi-stream")
    }
    return sorted(steps) or [1]


def _sweep_rows(sweep: Sweep) -> list[tuple[int, list[float | None]]]:
    """For each value on the axis the seconds per token of every runtime; None if not measured."""
    costs = [sweep.seconds_per_token(runtime) for runtime in sweep.timings]
    return [(value, [seconds.get(value) for seconds in costs]) for value in sweep.values]


def _sentence(text: str) -> str:
    """Capitalize the first letter."""
    return text[:1].upper() + text[1:]


def _is_relevant(flag: str) -> bool:
    """Whether a processor's flag matters to the arithmetic of networks."""
    return flag.startswith(_RELEVANT_FLAGS) or "vnni" in flag or "bf16" in flag or flag.endswith("dotprod")


def _figure(value: float | None) -> str:
    """A small number; None stands for NaN or infinity."""
    if value is None or not np.isfinite(value):
        return "not finite"
    return "0" if value == 0 else f"{value:.1e}"
