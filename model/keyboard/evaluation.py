"""Typing of a corpus against an artifact's suggestions; needs no torch where the corpus is named."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, final

from ...runtime.artifact.original import outdated
from ...runtime.artifact.summary import training_warning
from ...runtime.autocompletion import Autocompletion
from ...runtime.errors import OptionError, counted
from ...runtime.predictor import Predictor
from ...runtime.vocabulary import Vocabulary
from ..data.texts import Texts, find_texts
from ..errors import DataError
from .lines import Line, typed_lines, word_spans
from .typist import ASKED, SHOWN, TypingCounts, Typist

Progress = Callable[[int, int], None]
"""Called after each line with the letters that are typed and the letters of the text."""


@final
@dataclass(frozen=True)
class TypingEvaluation:
    """What suggestions do for a text that is typed; `typist` has the rules.

    Attributes:
        what: The artifact.
        corpus: Name of the corpus.
        split: Its split; `all` for the whole text.
        top1, top3, top5: Share of the words that were the first suggestion, among the first 3, among the first 5
            before their first letter.
        keystrokes_saved: Share of the keystrokes that choosing suggestions saves.
        p50_ms, p99_ms: Percentiles of the time from a keystroke to its suggestions.
        letters: Keystrokes without suggestions: the characters of the text, newlines included.
        keystrokes: Keystrokes with suggestions.
        chosen: Suggestions that were chosen; each is a keystroke.
        free_spaces: Spaces after them; they are no keystrokes.
        words: Words of the text.
        unknown: Words with a token outside the vocabulary.
        top1_words, top3_words, top5_words: Words behind the shares.
        shown: Suggestions to choose from.
        ignore_case: Whether suggestions in another letter case were right.
        notes: Files of the corpus that were not read, and why.
        warning: As for `Evaluation`.
    """

    what: str
    corpus: str
    split: str
    top1: float
    top3: float
    top5: float
    keystrokes_saved: float
    p50_ms: float
    p99_ms: float
    letters: int
    keystrokes: int
    chosen: int
    free_spaces: int
    words: int
    unknown: int
    top1_words: int
    top3_words: int
    top5_words: int
    shown: int
    ignore_case: bool
    notes: tuple[str, ...] = ()
    warning: str = ""

    def format(self) -> str:
        """The result in four lines."""
        return "\n".join(
            [
                f"{self.what}: typing {self.split} of {self.corpus}, {counted(self.letters, 'letter')}, "
                f"{counted(self.words, 'word')} ({self.unknown:,} unknown)"
                f"{', in any letter case' if self.ignore_case else ''}",
                f"words suggested before their first letter: top-1 {self.top1:.1%}, top-3 {self.top3:.1%}, "
                f"top-5 {self.top5:.1%}",
                f"keystrokes saved with {self.shown} suggestions: {self.keystrokes_saved:.1%} "
                f"({self.keystrokes:,} instead of {self.letters:,})",
                f"time to the suggestions of a keystroke: p50 {self.p50_ms:.2f} ms, p99 {self.p99_ms:.2f} ms",
            ]
        )

    def to_json(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return asdict(self)


def evaluate_typing(
    path: Path,
    data: str | None,
    split: str | None,
    provider: str = "cpu",
    threads: int = 1,
    *,
    lines: int | None = None,
    ignore_case: bool = False,
    progress: Progress = lambda done, total: None,
) -> TypingEvaluation:
    """Type a text against the suggestions of an artifact.

    Args:
        path: The artifact.
        data: Corpus; None for that of the run folder it lies in.
        split: As for `evaluate_run`.
        provider: Execution provider.
        threads: Threads of one call.
        lines: Type only the first lines of the text, so many; None for all.
        ignore_case: Suggestions in another letter case are right too.
        progress: Learns how much is typed.

    Raises:
        ArtifactError: The artifact cannot be used.
        OptionError: The model reads characters, there is no such split, or `lines` is below 1.
        DataError: There is no such corpus, or no word in the text.
    """
    if lines is not None and lines < 1:
        raise OptionError(f"the number of lines is {lines}, expected 1 or more; leave it out to type all")
    predictor = Predictor.load(path, provider=provider, threads=threads)
    if predictor.vocabulary.tokenization.unit == "char":
        raise OptionError(
            f"{path} reads characters and suggests the next one, which costs a key as typing it does, so no key is "
            "saved; typing is measured with a model of words"
        )
    texts, name = _texts_of(path, data, split)
    text = texts.of_split(name)
    total, unknown = _sizes(islice(typed_lines(text), lines), predictor.vocabulary, f"{name} of {texts.name}")
    typist = Typist(Autocompletion(predictor, ASKED), ignore_case)
    for line in islice(typed_lines(text), lines):
        typist.type(line)
        progress(typist.counts.letters, total)
    warnings = (outdated(path, predictor.artifact), training_warning(predictor.artifact.training))
    return TypingEvaluation(
        what=str(path),
        corpus=texts.name,
        split=name,
        unknown=unknown,
        ignore_case=ignore_case,
        notes=tuple(texts.notes()),
        warning="; ".join(filter(None, warnings)),
        **typing_figures(typist.counts),
    )


def typing_figures(counts: TypingCounts) -> dict[str, Any]:
    """The shares, times and counts of a `TypingEvaluation`."""
    foreseen = {f"top{most}": counts.foreseen(most) for most in (1, 3, 5)}
    return {
        **{name: count / counts.words for name, count in foreseen.items()},
        "keystrokes_saved": 1 - counts.keystrokes / counts.letters,
        "p50_ms": counts.latencies.percentile_ms(50),
        "p99_ms": counts.latencies.percentile_ms(99),
        "letters": counts.letters,
        "keystrokes": counts.keystrokes,
        "chosen": counts.chosen,
        "free_spaces": counts.free_spaces,
        "words": counts.words,
        **{f"{name}_words": count for name, count in foreseen.items()},
        "shown": SHOWN,
    }


def _texts_of(path: Path, data: str | None, split: str | None) -> tuple[Texts, str]:
    """The texts of the corpus, and the split to type."""
    if data is not None:
        texts = find_texts(data)
        return texts, split or texts.usual_split
    from ..run import Run  # loads torch

    run = Run.of_artifact(path)
    run.corpus()  # raises if it has changed
    return find_texts(run.corpus_name()), split or "test"


def _sizes(lines: Iterator[Line], vocabulary: Vocabulary, name: str) -> tuple[int, int]:
    """Letters of a text, and number of its words with an unknown token; raises DataError if it has no word."""
    letters = words = unknown = 0
    for line in lines:
        letters += len(line.text) + line.enters
        for start, end in word_spans(line.text):
            words += 1
            unknown += vocabulary.unknown_id in vocabulary.encode(line.text[start:end])
    if not words:
        raise DataError(f"{name} holds no word, expected text with letters or digits")
    return letters, unknown
