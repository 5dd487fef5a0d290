"""Reporters for trainings of tests."""

import os
import signal
from typing import Any


class RecordingReporter:
    """Keeps the records and the notes."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.notes: list[str] = []

    def note(self, line: str) -> None:
        self.notes.append(line)

    def step(self, *_: object) -> None:
        pass

    def record(self, record: dict[str, Any]) -> None:
        self.records.append(record)


class StopAfter(RecordingReporter):
    """Sends this process signals after a number of steps."""

    def __init__(self, steps: int, *numbers: int) -> None:
        super().__init__()
        self._steps_left, self._numbers = steps, numbers or (signal.SIGTERM,)

    def step(self, *_: object) -> None:
        self._steps_left -= 1
        if self._steps_left == 0:
            for number in self._numbers:
                os.kill(os.getpid(), number)
