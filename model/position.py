"""Where a training stands, as its checkpoints keep it."""

from dataclasses import dataclass, field
from typing import Any, final


@final
@dataclass
class Position:
    """Where a training stands: the facts of its checkpoint that are no tensors.

    Attributes:
        epoch: Epochs finished.
        step: Steps finished in the current epoch.
        seconds: Time spent in steps so far, over all sittings.
        best_valid: Lowest valid perplexity so far, None before the first.
        stale: Epochs since then.
        drops: How often the learning rate fell at a plateau.
        finished: Whether the last epoch and the test are done.
        loss_sum: Loss of the steps since the last record, each step's mean over a row summed over its tokens.
        loss_tokens: Tokens of a row since then.
        history: The records of metrics.jsonl.
    """

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    best_valid: float | None = None
    stale: int = 0
    drops: int = 0
    finished: bool = False
    loss_sum: float = 0.0
    loss_tokens: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
