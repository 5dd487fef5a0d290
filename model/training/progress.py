"""Where a training stands, as its checkpoints keep it."""

import collections
import dataclasses
import math
import reprlib
import time
from dataclasses import dataclass, field
from typing import Any, final

from ..errors import CheckpointError

_AVERAGED_STEPS = 50


@final
class Speedometer:
    """Counts tokens against the clock."""

    def __init__(self) -> None:
        """Begin at nothing."""
        self.start()

    def start(self) -> None:
        """Begin again, here and now."""
        self._tokens = 0
        self._lap = (time.monotonic(), 0)
        self._recent: collections.deque[tuple[float, int]] = collections.deque([self._lap], maxlen=_AVERAGED_STEPS)

    def add(self, tokens: int) -> None:
        """So many more tokens are done."""
        self._tokens += tokens
        self._recent.append((time.monotonic(), self._tokens))

    def recent(self) -> float:
        """Over the last steps."""
        (began, first), (ended, last) = self._recent[0], self._recent[-1]
        return (last - first) / max(ended - began, 1e-9)

    def lap(self) -> float:
        """Since the last lap, or since the start; begins the next one."""
        now, (began, first) = time.monotonic(), self._lap
        self._lap = (now, self._tokens)
        return (self._tokens - first) / max(now - began, 1e-9)


_KINDS = ("train", "valid", "test")
_MOST = 2**63


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

    @classmethod
    def from_json(cls, value: Any) -> "Position":
        """Read what `dataclasses.asdict` gave.

        Raises:
            CheckpointError: A field is missing, unknown, of another type, or outside its range, or the history lacks
                an epoch.
        """
        names = {entry.name for entry in dataclasses.fields(cls)}
        if not isinstance(value, dict) or value.keys() != names:
            raise CheckpointError(f"the checkpoint has no position to go on from: {reprlib.repr(value)}")
        for name, found in value.items():
            if not _fits(name, found):
                raise CheckpointError(f"the checkpoint's position has the {name} {reprlib.repr(found)}")
        recorded = sum(record["kind"] == "valid" for record in value["history"])
        if recorded < value["epoch"]:
            raise CheckpointError(
                f"the checkpoint's position is after {value['epoch']:,} epochs, its history has {recorded:,}"
            )
        return cls(**value)


def _fits(name: str, value: Any) -> bool:
    if name == "finished":
        return type(value) is bool
    if name == "history":
        return isinstance(value, list) and all(map(_is_record, value))
    if name in ("epoch", "step", "stale", "drops", "loss_tokens"):
        return type(value) is int and 0 <= value < _MOST
    return (value is None and name == "best_valid") or _is_number(value)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < (_MOST if type(value) is int else math.inf)


def _is_record(value: Any) -> bool:
    """Whether it is a record of metrics.jsonl; its perplexity may be too large for a number, and infinite then."""
    return (
        isinstance(value, dict)
        and value.get("kind") in _KINDS
        and _is_number(value.get("epoch"))
        and value["epoch"] < _MOST
        and (value.get("perplexity") == math.inf or _is_number(value.get("perplexity")))
        and value["perplexity"] > 0
        and all(map(_is_item, value.values()))
    )


def _is_item(value: Any) -> bool:
    if type(value) is int:
        return -_MOST <= value < _MOST
    return type(value) is str or (type(value) is float and not math.isnan(value))
