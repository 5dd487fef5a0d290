"""Progress of the demonstration on stderr: one line that is updated on a terminal, elsewhere a line for each stage."""

from types import TracebackType
from typing import TYPE_CHECKING, Any, final

from rich.console import Console
from rich.progress import ProgressColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column

from .output import animates, escaped, print_status
from .progress import PERCENT_AND_LEFT, FittedProgress

if TYPE_CHECKING:
    from ..bench.demo import DemoStep


_TITLE = 32
_LEAST_DETAIL = 10
"""Columns."""


@final
class DemoProgress:
    """Receives the steps of `run_demo`, and as a `lmtool.model.Reporter` those of its training, in a `with` block."""

    def __init__(self) -> None:
        self._line: FittedProgress | None = None
        if animates():
            # A step of a measurement can take a minute, so the speed is estimated over ten.
            self._line = FittedProgress(Console(stderr=True), _parts, speed_estimate_period=600)
            self._task = self._line.add_task("", total=None, detail="")
        self._stage = 0

    def __enter__(self) -> "DemoProgress":
        if self._line is not None:
            self._line.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._line is not None:
            self._line.stop()

    def __call__(self, step: "DemoStep") -> None:
        """Show a step that begins."""
        title, is_new = f"{step.stage} of {step.stages}: {step.title}", step.stage != self._stage
        self._stage = step.stage
        if self._line is None:
            if is_new:
                print_status(title)
            return
        if is_new:
            self._line.reset(self._task, total=step.total, description=title)
        self._line.update(self._task, completed=step.done, detail=escaped(step.detail))

    def note(self, line: str) -> None:
        """Do nothing: corpus and settings are always the same."""

    def step(self, done: int, total: int, epoch: int, loss: float, perplexity: float, tokens_per_second: float) -> None:
        """Show a step of the training."""
        if self._line is not None:
            from ..runtime.score import format_perplexity

            detail = f"perplexity {format_perplexity(perplexity, 1)}"
            self._line.update(self._task, completed=done, total=total, detail=detail)

    def record(self, record: dict[str, Any]) -> None:
        """Do nothing: the run folder holds the records."""


def _parts(width: int) -> list[ProgressColumn]:
    """Percentage and time left whole, then as much of the title as fits, then of the detail."""
    room = width - PERCENT_AND_LEFT
    title = min(room, _TITLE)
    parts: list[ProgressColumn] = [
        _cut("{task.description}", title),
        TaskProgressColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("left", markup=False),
    ]
    return [*parts, _cut("{task.fields[detail]}", room - title - 1)] if room - title > _LEAST_DETAIL else parts


def _cut(text: str, width: int) -> TextColumn:
    column = Column(no_wrap=True, overflow="ellipsis", max_width=max(width, 1))
    return TextColumn(text, markup=False, table_column=column)
