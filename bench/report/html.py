"""The results as one HTML page that needs nothing else: no script, no network, no other file.

The page is `page.html` with `page.css`; what it says is made here, its charts in `charts.py`.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ...runtime.io.files import write_atomically
from ..comparison import Comparison
from ..ranking import is_invariant, verdicts
from ..results import Results
from ..sweep import Sweep
from ..timing import Timing
from .charts import DOTS, colors, micro, panel, shown_seconds, shown_speed, sweep_lines, tradeoff, typeset
from .overview import cards, change_matrix, perplexity_change, share, speedup_matrix
from .svg import marker
from .text import CRASHED, FAILED, HEADER, cells_of, format_speedup, legend, warnings

_TELLING_FLAGS = ("avx", "amx", "fma", "f16c", "sse4", "asimd", "sve", "i8mm")
_KINDS = {
    "single-stream": "one stream reads one token a call, with its logits, and goes on from where the last call stopped",
    "multi-stream": "the same for a batch of streams",
    "offline": "a text is scored chunk by chunk: the log-probability of each next token",
    "prefill": "a prompt is read from the beginning; the logits of its last token alone",
    "generation": "tokens are written from the beginning, each the most probable one after the last",
    "load": "from the file to a runtime that is ready; imports are done, the file is in the system's cache",
    "first-step": "the first token after loading, with whatever is compiled or allocated then",
    "server": "requests of one token arrive at random times; a time is from arrival to answer, waiting included",
}
_CONTROLS = dict.fromkeys([*range(9), 11, 12, *range(14, 32), *range(127, 160)], "\ufffd")
"""Characters that a page must not hold; the last words of a process may."""


def write_report(results: Results, path: Path, comparison: Comparison | None = None) -> None:
    """Write the page.

    Args:
        results: What was measured; it need not hold a timing.
        path: Where to.
        comparison: The same beside earlier results, where there were any.

    Raises:
        StorageError: It cannot be written.
    """
    write_atomically(path, render_report(results, comparison).encode(errors="replace"))


def render_report(results: Results, comparison: Comparison | None = None) -> str:
    """The page's text."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "figure": _figure,
        "median": np.median,
        "micro": micro,
        "seconds": shown_seconds,
        "sentence": _sentence,
        "share": share,
        "speed": shown_speed,
    }
    page = environment.get_template("page.html").render(
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
        warnings=warnings(results),
        legend=legend(results),
        panels=[panel(results, scenario) for scenario in results.scenarios],
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
        calls=sum(len(found.call_seconds) for timing in results.timings for found in timing.rounds),
        kinds=[(kind, _KINDS[kind]) for kind in dict.fromkeys(scenario.kind for scenario in results.scenarios)],
        telling_flags=[flag for flag in results.identity.environment.get("flags", ()) if _is_telling(flag)],
    )
    return page.translate(_CONTROLS)


def _table(results: Results, timings: Sequence[Timing]) -> tuple[list[str], list[tuple[Timing, list[str]]]]:
    """Header and rows of a scenario's table; empty columns are left out."""
    rows = [(timing, [typeset(cell) for cell in cells_of(timing, results)]) for timing in timings]
    shown = [column for column in range(1, len(HEADER)) if any(cells[column] for _, cells in rows)]
    return [HEADER[column] for column in shown], [
        (timing, [cells[column] for column in shown]) for timing, cells in rows
    ]


def _tensors(results: Results) -> list[str]:
    """The tensors of all parity reports, in order."""
    return list(dict.fromkeys(name for report in results.parity.values() for name in report["tensors"]))


def _batches(results: Results) -> list[int]:
    """The batches for which rooflines are known to apply."""
    steps = {
        scenario.batch_size for scenario in results.scenarios if scenario.kind in ("single-stream", "multi-stream")
    }
    return sorted(steps) or [1]


def _sweep_rows(sweep: Sweep) -> list[tuple[int, list[float | None]]]:
    """For each value on the axis the seconds per token of every runtime; None where it was not measured."""
    found = [sweep.seconds_per_token(runtime) for runtime in sweep.timings]
    return [(value, [seconds.get(value) for seconds in found]) for value in sweep.values]


def _sentence(text: str) -> str:
    """A phrase as the beginning of a sentence."""
    return text[:1].upper() + text[1:]


def _is_telling(flag: str) -> bool:
    """Whether a processor's flag is about the arithmetic of networks."""
    return flag.startswith(_TELLING_FLAGS) or "vnni" in flag or "bf16" in flag or flag.endswith("dotprod")


def _figure(value: float | None) -> str:
    """A small number; None stands for one that was not finite."""
    if value is None or not np.isfinite(value):
        return "not finite"
    return "0" if value == 0 else f"{value:.1e}"
