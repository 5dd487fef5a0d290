"""Progress of a training on stderr: a bar on a terminal, plain lines in a log."""

import sys
from typing import Any, final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from .output import print_status, reports


@final
class ProgressBar:
    """A `lmtool.model.Reporter`, used in a `with` block."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task: Any = None
        if sys.stderr.isatty() and reports():
            self._bar = Progress(
                TextColumn("epoch {task.fields[epoch]}"),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("perplexity {task.fields[perplexity]:.1f}  loss {task.fields[loss]:.3f}"),
                TextColumn("{task.fields[speed]:,.0f} tokens/s"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )

    def __enter__(self) -> "ProgressBar":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self, done: int, total: int, epoch: int, loss: float, perplexity: float, tokens_per_second: float) -> None:
        """Update the bar."""
        if self._bar is None:
            return
        fields: dict[str, Any] = {"epoch": epoch, "loss": loss, "perplexity": perplexity, "speed": tokens_per_second}
        if self._task is None:
            self._task = self._bar.add_task("training", total=total, **fields)
        self._bar.update(self._task, completed=done, **fields)

    def record(self, record: dict[str, Any]) -> None:
        """Print a line for each validation and test; without a bar, for each training interval too."""
        line = _line(record)
        if self._bar is not None:
            if record["kind"] != "train":
                self._bar.console.print(line, highlight=False)
        else:
            print_status(line)


def _line(record: dict[str, Any]) -> str:
    if record["kind"] == "train":
        return (
            f"epoch {record['epoch']:.2f}  loss {record['loss']:.3f}  perplexity {record['perplexity']:.1f}  "
            f"learning rate {record['learning_rate']:.4g}  {record['tokens_per_second']:,.0f} tokens/s"
        )
    if record["kind"] == "valid":
        return f"epoch {record['epoch']}  valid perplexity {record['perplexity']:.2f}  after {record['seconds']:.0f} s"
    return f"test perplexity {record['perplexity']:.2f} (weights of epoch {record['epoch']})"
