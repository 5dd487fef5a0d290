"""Progress of a training, or of a text that is typed, on stderr: a bar on a terminal, lines in a log."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, final

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from .output import animates, escaped, print_status

_BAR = 40
PERCENT_AND_LEFT = 19
"""Columns of a percentage and the time left."""
_SECONDS_BETWEEN_LINES = 20
_COLUMNS = {
    "epoch": 12,
    "bar": 8,
    "percent": 5,
    "left": 8,
    "perplexity": 18,
    "speed": 16,
    "loss": 11,
}
"""Part of the line -> columns that it takes at least, in the order of the line."""


@final
class FittedProgress(Progress):
    """One line with as many of its parts as the terminal has room for, also after its size has changed."""

    def __init__(self, console: Console, parts: Callable[[int], Sequence[ProgressColumn]], **options: Any) -> None:
        """Draw on `console` the parts that `parts` chooses for a width; `options` as of `Progress`."""
        self._screen, self._parts = console, parts
        super().__init__(console=console, transient=True, **options)

    def make_tasks_table(self, tasks: Iterable[Task]) -> Table:
        """The line."""
        self.columns = tuple(self._parts(self._screen.width))
        return super().make_tasks_table(tasks)


def training_parts(width: int) -> tuple[ProgressColumn, ...]:
    """Bar, percentage and time left come first, then what else fits; the bar takes what is left."""
    chosen, free = [], width
    for name in ("percent", "left", "epoch", "bar", "perplexity", "speed", "loss"):
        if free >= _COLUMNS[name]:
            chosen.append(name)
            free -= _COLUMNS[name]
    parts: dict[str, ProgressColumn] = {
        "epoch": TextColumn("epoch {task.fields[epoch]}"),
        "bar": BarColumn(min(_COLUMNS["bar"] + free - 1, _BAR)),
        "percent": TaskProgressColumn(),
        "left": TimeRemainingColumn(),
        "perplexity": TextColumn("perplexity {task.fields[perplexity]}"),
        "speed": TextColumn("{task.fields[speed]:,.0f} tokens/s"),
        "loss": TextColumn("loss {task.fields[loss]:.3f}"),
    }
    return tuple(parts[name] for name in _COLUMNS if name in chosen)


@final
class ProgressBar:
    """A `lmtool.model.Reporter`, used in a `with` block."""

    def __init__(self) -> None:
        self._bar = FittedProgress(Console(stderr=True), training_parts) if animates() else None
        self._task: Any = None
        self._done = self._total = 0
        self._train: dict[str, Any] = {}

    def __enter__(self) -> "ProgressBar":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self, done: int, total: int, epoch: int, loss: float, perplexity: float, tokens_per_second: float) -> None:
        """Update the bar."""
        self._done, self._total = done, total
        if self._bar is None:
            return
        from ..runtime.score import format_perplexity

        shown = format_perplexity(perplexity, 1)
        fields: dict[str, Any] = {"epoch": epoch, "loss": loss, "perplexity": shown, "speed": tokens_per_second}
        if self._task is None:
            self._task = self._bar.add_task("training", total=total, **fields)
        self._bar.update(self._task, completed=done, **fields)

    def note(self, line: str) -> None:
        """Print a line."""
        if self._bar is not None:
            self._bar.console.print(escaped(line), highlight=False, markup=False)
        else:
            print_status(line)

    def record(self, record: dict[str, Any]) -> None:
        """Print a line for each epoch, and for the test."""
        if record["kind"] == "train":
            self._train = record
        elif self._bar is not None:
            self._bar.console.print(self._line(record), highlight=False, markup=False)
        else:
            print_status(self._line(record))

    def _line(self, record: dict[str, Any]) -> str:
        from ..runtime.score import format_perplexity

        shown = f"{format_perplexity(record['perplexity'])} ({record['bits_per_byte']:.3f} bits per byte)"
        if record["kind"] == "test":
            return f"test perplexity {shown} (weights of epoch {record['epoch']})"
        parts = [f"epoch {record['epoch']}", f"valid perplexity {shown}"]
        if self._train:
            parts.insert(1, f"train perplexity {format_perplexity(self._train['perplexity'])}")
            parts.append(f"{self._train['tokens_per_second']:,.0f} tokens/s")
        parts.append(f"after {duration(record['seconds'])}")
        if 0 < self._done < self._total:
            left = record["seconds"] / self._done * (self._total - self._done)
            parts.append(f"about {duration(left)} left")
        return "  ".join(parts)


@contextlib.contextmanager
def typing_progress() -> Iterator[Callable[[int, int], None]]:
    """Progress of a text that is typed, in a `with` block; yields what takes the letters that are typed, and all."""
    if not animates():
        yield _typing_log()
        return
    with FittedProgress(Console(stderr=True), _typing_parts) as bar:
        task = bar.add_task("typing", visible=False)
        yield lambda done, total: bar.update(task, completed=done, total=total, visible=True)


def _typing_log() -> Callable[[int, int], None]:
    """Prints a line now and then."""
    printed = time.monotonic()

    def typed(done: int, total: int) -> None:
        nonlocal printed
        if time.monotonic() - printed > _SECONDS_BETWEEN_LINES:
            printed = time.monotonic()
            print_status(f"typed {done:,} of {total:,} letters")

    return typed


def _typing_parts(width: int) -> tuple[ProgressColumn, ...]:
    parts: tuple[ProgressColumn, ...] = (TaskProgressColumn(), TimeRemainingColumn())
    return parts if width < _BAR + PERCENT_AND_LEFT else (BarColumn(_BAR), *parts)


def duration(seconds: float) -> str:
    """A duration, as `43 s`, `12 min`, `3 h 05 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60:,} h {minutes % 60:02} min"
