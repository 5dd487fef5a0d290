"""Reporters of a training's progress."""

from typing import Any, Protocol, final


class Reporter(Protocol):
    """Receives the progress of a training."""

    def note(self, line: str) -> None:
        """Something to know before the training begins: files that are not read, sizes, adapted settings."""
        ...

    def step(self, done: int, total: int, epoch: int, loss: float, perplexity: float, tokens_per_second: float) -> None:
        """`done` of `total` steps of the whole training; loss per token, perplexity and speed are recent averages."""
        ...

    def record(self, record: dict[str, Any]) -> None:
        """A new record of metrics.jsonl; its `kind` is `train`, `valid` or `test`."""
        ...


@final
class Reporters:
    """Several reporters as one; each is called in order. Without any, nothing is reported."""

    def __init__(self, *reporters: Reporter) -> None:
        self._reporters = reporters

    def note(self, line: str) -> None:
        """Report a note to each."""
        for reporter in self._reporters:
            reporter.note(line)

    def step(self, done: int, total: int, epoch: int, loss: float, perplexity: float, tokens_per_second: float) -> None:
        """Report a step to each."""
        for reporter in self._reporters:
            reporter.step(done, total, epoch, loss, perplexity, tokens_per_second)

    def record(self, record: dict[str, Any]) -> None:
        """Report a record to each."""
        for reporter in self._reporters:
            reporter.record(record)
