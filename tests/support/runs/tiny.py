"""Settings of a training that takes a second, and a reporter for it."""

from typing import Any

SETTINGS = {
    "embedding_size": "5",
    "layer_sizes": "7,3",
    "batch_size": "4",
    "steps": "6",
    "epochs": "2",
    "learning_rate": "0.02",
    "optimizer": "adam",
}


class Silent:
    """A reporter that keeps the records."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def step(self, *_: object) -> None:
        pass

    def record(self, record: dict[str, Any]) -> None:
        self.records.append(record)
