"""Several reporters as one."""

from typing import Any, final

from .trainer import Reporter


@final
class Reporters:
    """A `Reporter` that tells each of some others, in their order."""

    def __init__(self, *reporters: Reporter) -> None:
        """Remember whom to tell."""
        self._reporters = reporters

    def step(self, done: int, total: int, epoch: int, loss: float, perplexity: float, tokens_per_second: float) -> None:
        """Tell each."""
        for reporter in self._reporters:
            reporter.step(done, total, epoch, loss, perplexity, tokens_per_second)

    def record(self, record: dict[str, Any]) -> None:
        """Tell each."""
        for reporter in self._reporters:
            reporter.record(record)
