"""Many open sessions at once: each event is scored as it comes, all sessions of a batch in one call.

The states of the sessions are rows of arrays. A session needs the bytes of its state and of its last event.
"""

import itertools
from collections.abc import Sequence
from typing import final

import numpy as np
from detector import END, Detector, Surprise
from lmtool.runtime import OptionError, State

_ROWS = 1024
"""Most sessions of a call, and those that there is room for at first."""


@final
class Monitor:
    """Scores the events of open sessions. It belongs to one thread.

    A session opens with its first event. When `most_sessions` are open, the one whose last event is the oldest is ended
    to make room.

    Attributes:
        detector: Decides what is an alarm.
    """

    def __init__(self, detector: Detector, most_sessions: int = 100_000) -> None:
        """No session is open.

        Raises:
            OptionError: `most_sessions` is below 1.
        """
        if most_sessions < 1:
            raise OptionError(f"most_sessions is {most_sessions}, expected 1 or more")
        self.detector = detector
        self._most = most_sessions
        self._predictor = detector.predictor
        self._sha256 = self._predictor.artifact.sha256
        rows = min(_ROWS, most_sessions)
        widths = self._predictor.artifact.architecture.states.values()
        self._states = [np.zeros((rows, width), np.float32) for width in widths]
        self._last = np.zeros(rows, np.int64)
        self._counts = np.zeros(rows, np.int64)
        self._rows: dict[str, int] = {}  # the session with the oldest last event comes first
        self._free = list(range(rows))[::-1]

    def __len__(self) -> int:
        """The number of open sessions."""
        return len(self._rows)

    def add(self, events: Sequence[tuple[str, str]]) -> list[Surprise]:
        """Read events, each a session and a key, in order; returns the alarms."""
        found: list[Surprise] = []
        for start in range(0, len(events), _ROWS):
            waiting = events[start : start + _ROWS]
            while waiting:
                batch: dict[str, str] = {}  # a call reads one event of a session
                later = []
                for session, event in waiting:
                    if session in batch or len(batch) == self._most:
                        later.append((session, event))
                    else:
                        batch[session] = event
                found += self._make_room(batch) + self._read(batch)
                waiting = later
        return found

    def end(self, sessions: Sequence[str]) -> list[Surprise]:
        """End sessions; returns those that nobody expected to end here. Sessions that are not open are left out."""
        found: list[Surprise] = []
        for start in range(0, len(sessions), _ROWS):
            ending = {session: END for session in sessions[start : start + _ROWS] if session in self._rows}
            found += self._read(ending) if ending else []
            self._free += [self._rows.pop(session) for session in ending]
        return found

    def end_all(self) -> list[Surprise]:
        """End every open session."""
        return self.end(list(self._rows))

    def _make_room(self, batch: dict[str, str]) -> list[Surprise]:
        """Give each new session of a batch a row; ends the oldest others where there is none."""
        new = [session for session in batch if session not in self._rows]
        missing = max(len(self._rows) + len(new) - self._most, 0)
        oldest = (session for session in self._rows if session not in batch)
        found = self.end(list(itertools.islice(oldest, missing)))
        for session in new:
            if not self._free:
                self._grow()
            row = self._rows[session] = self._free.pop()
            self._last[row], self._counts[row] = self._predictor.vocabulary.end_of_sentence_id, 0
            for states in self._states:
                states[row] = 0
        return found

    def _grow(self) -> None:
        before = len(self._last)
        rows = min(2 * before, self._most)
        self._free = list(range(before, rows))[::-1]
        self._last, self._counts, *self._states = (
            np.concatenate([array, np.zeros((rows - before, *array.shape[1:]), array.dtype)])
            for array in (self._last, self._counts, *self._states)
        )

    def _read(self, batch: dict[str, str]) -> list[Surprise]:
        """Score one event of each session, and read it."""
        vocabulary = self._predictor.vocabulary
        rows = np.array([self._rows[session] for session in batch])
        end = vocabulary.end_of_sentence_id
        targets = np.array([end if event == END else vocabulary.id(event) for event in batch.values()])
        state = State(self._sha256, [states[rows] for states in self._states])
        logits, after = self._predictor.step(self._last[rows, None], state)
        logits = logits[:, 0]
        for states, tensor in zip(self._states, after.tensors, strict=True):
            states[rows] = tensor
        self._last[rows] = targets
        self._counts[rows] += 1
        chosen = logits[np.arange(len(rows)), targets, None]
        ranks = 1 + np.count_nonzero(logits > chosen, axis=1)
        highest = logits.max(axis=1, keepdims=True)
        surprisals = np.log(np.exp(logits - highest).sum(axis=1)) + (highest - chosen)[:, 0]
        found = []
        measured = zip(batch.items(), surprisals.tolist(), ranks.tolist(), strict=True)
        for place, ((session, event), surprisal, rank) in enumerate(measured):
            if self.detector.is_alarm(surprisal, rank, event == END or event in vocabulary):
                position = int(self._counts[rows[place]])
                found.append(self.detector.surprise(session, position, event, logits[place]))
            self._rows[session] = self._rows.pop(session)
        return found
