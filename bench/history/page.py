"""The history as one self-contained HTML page, in the style of the report: no script, no network, no other file."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from ...runtime.errors import counted
from ..report.charts import shown_seconds
from ..report.page_template import CONTROLS, page_template
from .curve import Curve, draw_curve
from .run import HistoryRun
from .series import Series, changed_versions


@final
@dataclass(frozen=True)
class MachineHistory:
    """The series of one machine with their curves, and its runs with what changed since the run before."""

    machine: dict[str, Any]
    series: Sequence[tuple[Series, Curve]]
    runs: Sequence[tuple[HistoryRun, str]]


def render_page(runs: Sequence[HistoryRun], series: Sequence[Series], notes: Sequence[str]) -> str:
    """The page as text."""
    template = page_template("history.html", {"seconds": shown_seconds, "counted": counted}, Path(__file__).parent)
    page = template.render(runs=runs, machines=_machines(runs, series), notes=notes)
    return page.translate(CONTROLS)


def _machines(runs: Sequence[HistoryRun], series: Sequence[Series]) -> list[MachineHistory]:
    """The machines, the one of the latest run first."""
    keys = list(dict.fromkeys(run.machine_key for run in reversed(runs)))
    return [_machine(key, runs, series) for key in keys]


def _machine(key: str, runs: Sequence[HistoryRun], series: Sequence[Series]) -> MachineHistory:
    own = [run for run in runs if run.machine_key == key]
    drawn = [(each, draw_curve(each)) for each in series if each.key.machine == key]
    changed = ["", *(_text(before, after) for before, after in itertools.pairwise(own))]
    return MachineHistory(dict(own[-1].machine), drawn, list(zip(own, changed, strict=True)))


def _text(before: HistoryRun, after: HistoryRun) -> str:
    changed = changed_versions(before, after)
    return ", ".join(f"{name} {old or 'none'} → {new or 'none'}" for name, (old, new) in changed.items())
