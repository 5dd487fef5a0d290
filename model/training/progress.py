"""How far a training has come, as its checkpoints keep it, and how fast it goes."""

import collections
import dataclasses
import math
import reprlib
import time
from dataclasses import dataclass, field
from typing import Any, final

from ..errors import CheckpointError

_AVERAGED_STEPS = 50
_RECORD_KINDS = ("train", "valid", "test")
_LEAST_CHANGE = 0.01
_INTEGER_LIMIT = 2**63


@final
@dataclass
class TrainingProgress:
    """Counters and history of a training: the part of its checkpoint that is not tensors.

    Attributes:
        epoch: Finished epochs.
        step: Finished steps of the current epoch.
        seconds: Time spent in steps so far, over all resumes.
        best_valid: Lowest valid perplexity so far, None before the first.
        stale: Epochs since the lowest valid perplexity.
        drops: How often a plateau lowered the learning rate.
        finished: Whether the last epoch and the test are done.
        loss_sum: Sum of the loss over the tokens of a row since the last record.
        loss_tokens: Tokens of a row since the last record.
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
    def from_json(cls, value: Any) -> "TrainingProgress":
        """Read the JSON of `dataclasses.asdict`.

        Raises:
            CheckpointError: A field is missing, unknown, of another type, or outside its range, or an epoch is missing
                from the history.
        """
        names = {entry.name for entry in dataclasses.fields(cls)}
        if not isinstance(value, dict) or value.keys() != names:
            raise CheckpointError(f"the checkpoint has no position to go on from: {reprlib.repr(value)}")
        for name, item in value.items():
            if not _is_valid(name, item):
                raise CheckpointError(f"the checkpoint's position has the {name} {reprlib.repr(item)}")
        recorded = sum(record["kind"] == "valid" for record in value["history"])
        if recorded < value["epoch"]:
            raise CheckpointError(
                f"the checkpoint's position is after {value['epoch']:,} epochs, its history has {recorded:,}"
            )
        return cls(**value)

    @property
    def mean_loss(self) -> float:
        """Mean loss of a token since the last record."""
        return self.loss_sum / self.loss_tokens

    def add_loss(self, loss: float, tokens: int) -> None:
        """Count a step whose mean loss of a token is `loss`, over `tokens` tokens of each row."""
        self.step += 1
        self.loss_sum += loss * tokens
        self.loss_tokens += tokens

    @property
    def is_falling(self) -> bool:
        """Whether the perplexity on valid was lowest in the last epoch, by more than 1 % over the last third of epochs.

        Under a schedule that ends with tiny steps the last epoch alone gains little even where more epochs help.
        """
        values = self.valid_perplexities()
        before = values[: len(values) - max(len(values) // 3, 1)]
        return bool(before) and values[-1] == min(values) and values[-1] < (1 - _LEAST_CHANGE) * before[-1]

    @property
    def has_risen(self) -> bool:
        """Whether the last perplexity on valid is more than 1 % above the lowest."""
        values = self.valid_perplexities()
        return bool(values) and values[-1] > (1 + _LEAST_CHANGE) * min(values)

    def valid_perplexities(self) -> list[float]:
        """Perplexity on valid after each epoch."""
        return [record["perplexity"] for record in self.history if record["kind"] == "valid"]


@final
class Throughput:
    """Tokens per second, over the last steps and since the last lap."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Forget everything and start the clock."""
        self._tokens = 0
        self._lap = (time.monotonic(), 0)
        self._recent: collections.deque[tuple[float, int]] = collections.deque([self._lap], maxlen=_AVERAGED_STEPS)

    def add(self, tokens: int) -> None:
        """Count the tokens of a finished step."""
        self._tokens += tokens
        self._recent.append((time.monotonic(), self._tokens))

    def recent(self) -> float:
        """Tokens per second over the last steps."""
        (began, first), (ended, last) = self._recent[0], self._recent[-1]
        return (last - first) / max(ended - began, 1e-9)

    def lap(self) -> float:
        """Tokens per second since the last call of `lap`, or since the start."""
        now, (began, first) = time.monotonic(), self._lap
        self._lap = (now, self._tokens)
        return (self._tokens - first) / max(now - began, 1e-9)


def _is_valid(name: str, value: Any) -> bool:
    if name == "finished":
        return type(value) is bool
    if name == "history":
        return isinstance(value, list) and all(map(_is_record, value))
    if name in ("epoch", "step", "stale", "drops", "loss_tokens"):
        return type(value) is int and 0 <= value < _INTEGER_LIMIT
    return (value is None and name == "best_valid") or _is_number(value)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < (_INTEGER_LIMIT if type(value) is int else math.inf)


def _is_record(value: Any) -> bool:
    """Whether it is a record of metrics.jsonl. The perplexity of a training that diverges may be infinite."""
    return (
        isinstance(value, dict)
        and value.get("kind") in _RECORD_KINDS
        and _is_number(value.get("epoch"))
        and value["epoch"] < _INTEGER_LIMIT
        and (value.get("perplexity") == math.inf or _is_number(value.get("perplexity")))
        and value["perplexity"] > 0
        and all(map(_is_record_value, value.values()))
    )


def _is_record_value(value: Any) -> bool:
    if type(value) is int:
        return -_INTEGER_LIMIT <= value < _INTEGER_LIMIT
    return type(value) is str or (type(value) is float and not math.isnan(value))
