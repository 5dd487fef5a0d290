"""A detector of unusual sessions: a language model of one log source, and limits from normal sessions alone.

A session is a line: the keys of its events in order, separated by white space. The model reads them as words; the end
of the session counts as an event too.
"""

import math
import random
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import tee
from pathlib import Path
from typing import Any, final

import numpy as np
from lmtool.runtime import LmtoolError, OptionError, Predictor, Score
from lmtool.runtime.io.files import json_text, opened, read_bytes, write_atomically
from lmtool.runtime.io.json_reader import parse_json
from lmtool.runtime.io.lines import read_lines
from numpy.typing import NDArray

FORMAT = 1
RULES = ("surprisal", "rank")
END = "the end of the session"
_FILE = "detector.json"
_SHOWN = 3
_VALID, _HELD_OUT = 0.1, 0.2
_SETTINGS = {"tokenization": "whitespace", "min_count": "1", "embedding_size": "64", "layer_sizes": "64,64"}


class LogError(LmtoolError, ValueError):
    """Sessions or a detector that cannot be used."""


@final
@dataclass(frozen=True)
class Surprise:
    """An event and how unusual it is where it stands.

    Attributes:
        session: The number of the session's line, from 1, or its name.
        position: The event's place in the session, from 1.
        event: Its key; `END` for the end of the session.
        is_known: Whether the key is in the training sessions.
        surprisal: -log of its probability after the events before it.
        rank: Its place among all keys by probability, 1 for the most probable one.
        expected: The most probable events instead, with their probabilities.
    """

    session: int | str
    position: int
    event: str
    is_known: bool
    surprisal: float
    rank: int
    expected: tuple[tuple[str, float], ...] = ()

    def format(self) -> str:
        """The surprise as a line of text."""
        seen = "" if self.is_known else ", never seen in training"
        instead = ", ".join(f"{event} {probability:.1%}" for event, probability in self.expected)
        return (
            f"session {self.session}, event {self.position:,}: {self.event}{seen} (surprisal {self.surprisal:.1f}, "
            f"rank {self.rank:,}); expected {instead}"
        )

    def to_json(self) -> dict[str, Any]:
        """The surprise as JSON values."""
        expected = [{"event": event, "probability": probability} for event, probability in self.expected]
        return {**asdict(self), "expected": expected}


@final
@dataclass(frozen=True, eq=False)
class Detector:
    """A model, and the largest surprisal and rank that are still normal.

    Attributes:
        predictor: The model.
        limits: Rule -> limit; an event above it is an alarm.
        rule: The rule that decides, one of `RULES`.
    """

    predictor: Predictor
    limits: Mapping[str, float]
    rule: str = "surprisal"

    @classmethod
    def of_normal(cls, predictor: Predictor, sessions: Sequence[str], quantile: float) -> "Detector":
        """The detector whose limits are those quantiles of the worst event of normal sessions it has not learnt.

        Raises:
            LogError: There are too few sessions for the quantile.
        """
        needed = math.ceil(1 / (1 - quantile) - 1e-9)
        if len(sessions) < needed:
            raise LogError(
                f"{len(sessions):,} sessions are held out for the limits, a quantile of {quantile:g} needs {needed:,}; "
                f"give {math.ceil(needed / _HELD_OUT):,} normal sessions, or a lower --quantile"
            )
        worst = np.array([[surprisals(score).max(), ranks(score).max()] for score in scores_of(predictor, sessions)])
        return cls(predictor, dict(zip(RULES, np.quantile(worst, quantile, axis=0, method="higher"), strict=True)))

    @classmethod
    def load(cls, folder: Path, rule: str = "surprisal") -> "Detector":
        """Read a detector that `write` wrote.

        Raises:
            LogError: The folder holds none, or it is damaged or of another model.
            StorageError: A file cannot be read.
            ArtifactError: The model cannot be used.
        """
        path = folder / _FILE
        if not path.exists():
            raise LogError(f"{folder} holds no detector ({_FILE} is missing); make one: logs.py fit NORMAL --out DIR")
        try:
            value = parse_json(read_bytes(path))
            limits = {name: float(value["limits"][name]) for name in RULES}
            known = value["format"] == FORMAT
        except (KeyError, TypeError, ValueError) as error:
            raise LogError(f"{path} is damaged: {error}; make it again: logs.py fit") from error
        if not known:
            raise LogError(f"{path} has the format {value['format']!r}, expected {FORMAT}; make it again: logs.py fit")
        return cls(Predictor.load(folder / "model.onnx", sha256=str(value.get("model_sha256"))), limits, rule)

    def write(self, folder: Path) -> None:
        """Write the limits beside the model.

        Raises:
            StorageError: The file cannot be written.
        """
        value = {"format": FORMAT, "model_sha256": self.predictor.artifact.sha256, "limits": dict(self.limits)}
        write_atomically(folder / _FILE, f"{json_text(value, indent=1)}\n".encode())

    def is_alarm(self, surprisal: float, rank: int, is_known: bool) -> bool:
        """Whether an event is above the limit of the rule, or its key was never seen in training."""
        return not is_known or {"surprisal": surprisal, "rank": rank}[self.rule] > self.limits[self.rule]

    def find(self, lines: Iterable[str]) -> Iterator[Surprise | None]:
        """For each session its worst event if that is an alarm, else None; in bounded memory.

        Lines without events are left out.
        """
        sessions, same = tee((number, line) for number, line in enumerate(lines, 1) if line.strip())
        unknown = self.predictor.vocabulary.tokenization.unknown
        scores = scores_of(self.predictor, (line for _, line in sessions))
        for (number, line), score in zip(same, scores, strict=True):
            values = {"surprisal": surprisals, "rank": ranks}[self.rule](score)
            values[np.array(score.tokens) == unknown] = np.inf
            worst = int(values.argmax())
            yield self._explained(number, line.split(), worst) if values[worst] > self.limits[self.rule] else None

    def _explained(self, session: int, events: Sequence[str], worst: int) -> Surprise:
        stream = self.predictor.stream()
        stream.feed(" ".join(events[:worst]))
        return self.surprise(session, worst + 1, events[worst] if worst < len(events) else END, stream.logits())

    def surprise(self, session: int | str, position: int, event: str, logits: NDArray[np.float32]) -> Surprise:
        """An event and what was expected instead, by logits float32 [vocabulary] after the events before it."""
        vocabulary = self.predictor.vocabulary
        probabilities = np.exp(logits.astype(np.float64) - logits.max())
        probabilities /= probabilities.sum()
        token_id = vocabulary.end_of_sentence_id if event == END else vocabulary.id(event)
        best = [int(index) for index in np.argsort(-probabilities)[:_SHOWN]]
        return Surprise(
            session,
            position,
            event,
            event == END or event in vocabulary,
            float(-np.log(probabilities[token_id])),
            1 + int(np.count_nonzero(logits > logits[token_id])),
            tuple((self._name(index), float(probabilities[index])) for index in best),
        )

    def _name(self, token_id: int) -> str:
        vocabulary = self.predictor.vocabulary
        return END if token_id == vocabulary.end_of_sentence_id else vocabulary.token(token_id)


def surprisals(score: Score) -> NDArray[np.float64]:
    """-log of the probability of each event and the end, float64 [events + 1]."""
    return -np.array(score.token_log_probs)


def ranks(score: Score) -> NDArray[np.float64]:
    """The rank of each event and the end, float64 [events + 1]."""
    return np.array(score.ranks, np.float64)


def scores_of(predictor: Predictor, sessions: Iterable[str]) -> Iterator[Score]:
    """The scores of sessions with ranks, the end of each included."""
    return predictor.scores((f"{session}\n" for session in sessions), ranks=True)


def read_log(path: Path) -> Iterator[str]:
    """The lines of a file of sessions as they are read.

    Raises:
        StorageError: It cannot be read, or is not UTF-8; the lines before have been yielded.
    """
    with opened(path, pipes=True) as file:
        for lines in read_lines(file, str(path)):
            yield from lines


def read_sessions(path: Path) -> list[str]:
    """The lines of a file of sessions that hold events; StorageError as for `read_log`."""
    return [line for line in read_log(path) if line.strip()]


def fit(
    normal: Path, out: Path, quantile: float = 0.99, seed: int = 1, settings: Mapping[str, str] | None = None
) -> Detector:
    """Train a model on normal sessions, find the limits on others of them, and write both into a new folder.

    Seven tenths of the sessions, chosen at random, are learnt, one tenth chooses the epoch, two tenths give the limits.

    Args:
        normal: The file of sessions.
        out: The folder.
        quantile: The share of held-out sessions within the limits.
        seed: Of the split and of the training.
        settings: Replace those of the preset `quick` (`lmtool settings`), in addition to a detector's own.

    Raises:
        OptionError: `quantile` is not between 0 and 1.
        LogError: There are too few sessions, or `out` is not new.
        LmtoolError: The training or the export fails, or a file cannot be read or written.
    """
    from lmtool.export import export_run
    from lmtool.model import Run, TrainOptions, run_training, write_splits
    from lmtool.model.training.reporters import Reporters

    if not 0 < quantile < 1:
        raise OptionError(f"--quantile is {quantile:g}, expected a number between 0 and 1")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise LogError(f"{out} is there already, expected a new folder; choose another one, or remove it")
    splits = _split(read_sessions(normal), normal, seed)
    write_splits({name: (f"{session}\n" for session in part) for name, part in splits.items()}, out / "sessions")
    chosen = {**_SETTINGS, "seed": str(seed), **(settings or {})}
    try:
        run_training(TrainOptions(data=str(out / "sessions"), run=out, settings=chosen, threads=1), Reporters())
    except LmtoolError:
        if not (out / "config.json").exists():  # nothing was trained, so the folder can be used again
            shutil.rmtree(out)
        raise
    predictor = Predictor.load(export_run(Run(out)).path)
    detector = Detector.of_normal(predictor, splits["test"], quantile)
    detector.write(out)
    return detector


def _split(sessions: list[str], normal: Path, seed: int) -> dict[str, list[str]]:
    if len(sessions) < 10:
        raise LogError(f"{normal} holds {len(sessions)} sessions, expected 10 or more, one on each line")
    random.Random(seed).shuffle(sessions)
    valid, held_out = int(len(sessions) * _VALID), int(len(sessions) * _HELD_OUT)
    return {
        "test": sessions[:held_out],
        "valid": sessions[held_out : held_out + valid],
        "train": sessions[held_out + valid :],
    }
