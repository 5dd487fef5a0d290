"""Suggestions for a line that is being typed, with few tokens run at each keystroke."""

from collections.abc import Callable, Collection
from typing import final

from .arguments import checked_instance, checked_text
from .predictor import Predictor
from .stream import Stream
from .suggestions import Suggestion, check_suggestions, suggest_tokens
from .text.text_decoder import TextDecoder
from .tokenization import Tokenization
from .word_search.beginnings import Beginnings
from .word_search.word_line import WordLine


@final
class Autocompletion:
    """Suggests the next word, the rest of a word in progress, or the next character, but never the end of a sentence.

    Where the letters of a word in progress are a word already, its continuations are suggested among longer words.

    Streams of recent prefixes of the line are kept: another letter of a word runs nothing, a finished word runs that
    word, and deleting text returns to a kept stream. An object belongs to one thread at a time.

    A model of the rule `bpe` reads parts of words; whole words are searched (see `Stream.suggest`), letters keep their
    case, and another letter of a word runs what the search did not need before.

    Attributes:
        exact: Whether no other continuation is more probable than the last one of the latest suggestions; false if a
            search was cut.

    Example:
        >>> from lmtool.runtime import Autocompletion, Predictor
        >>> line = Autocompletion(Predictor.load("model.onnx"), count=3)
        >>> len(line.suggestions("the cat "))
        3
        >>> line.end_line("the cat saw a dog")
    """

    def __init__(
        self, predictor: Predictor, count: int, allow_unknown: bool = False, never: str | Collection[str] = ()
    ) -> None:
        """Begin a text.

        Args:
            predictor: The model.
            count: Most suggestions for a line.
            allow_unknown: Whether the unknown token may be suggested.
            never: Words that are not suggested in any letter case (see `Vocabulary.forms`).

        Raises:
            OptionError: `count` is below 1, or an entry of `never` is empty or holds white space.
        """
        checked_instance("predictor", predictor, Predictor, "load one: Predictor.load(path)")
        self._vocabulary = predictor.vocabulary
        self._tokenization = predictor.vocabulary.tokenization
        self._count = count
        self._allow_unknown = allow_unknown
        self._never = never
        self._streams = Beginnings(predictor.stream())
        self._words: WordLine | None = None
        if self._tokenization.unit == "subword":
            self._words = WordLine(predictor.network, self._vocabulary.word_filter(never))
        check_suggestions(count, allow_unknown)
        self.suggestions("")  # checks `never` now and not at a keystroke

    @property
    def exact(self) -> bool:
        """See the class."""
        return self._words is None or self._words.exact

    def suggestions(self, line: str) -> list[Suggestion]:
        """The most probable continuations of a line, most probable first."""
        if self._words is not None:
            return self._words.words(checked_text("line", line), self._count)
        line = checked_text("line", line)
        return continuations(line, self._tokenization, self._count, self._next_tokens, self._complete_word)

    def end_line(self, line: str) -> None:
        """Read the line and the end of its sentence; the next line continues from there."""
        if self._words is not None:
            return self._words.end_line(checked_text("line", line))
        self._streams = Beginnings(self._after(self._tokenization.split(checked_text("line", line) + "\n")))
        return None

    def _next_tokens(self, line: str, tokens: list[str]) -> list[Suggestion]:
        pairs = suggest_tokens(
            self._after(tokens).logits,
            self._vocabulary,
            self._count,
            allow_unknown=self._allow_unknown,
            never=self._never,
        )
        end = TextDecoder(self._vocabulary)
        if tokens and not line[-1].isspace():
            end.previous = tokens[-1]  # a mark that the vocabulary lacks may touch the next word too
        return [Suggestion(end.copy().add(token), 0, self._shown(token), probability) for token, probability in pairs]

    def _complete_word(self, tokens: list[str], letters: str) -> list[Suggestion]:
        """Words that begin with these letters, which keep the case in which they were typed; one more than needed."""
        pairs = self._after(tokens).suggest(self._count + 1, prefix=letters, never=self._never)
        typed = len(self._tokenization.folded(letters))
        return [Suggestion(letters + word[typed:], -len(letters), word, probability) for word, probability in pairs]

    def _shown(self, token_id: int) -> str:
        text = self._vocabulary.text(token_id)
        return text if self._tokenization.unit == "word" else repr(text)

    def _after(self, tokens: list[str]) -> Stream:
        """The stream that has read these tokens of the line, forked from the one with the longest common prefix."""
        ids = tuple(self._vocabulary.ids(tokens))
        known, stream = self._streams.longest(ids)
        if known < len(ids):
            stream = stream.fork()
            stream.feed_ids(ids[known:])
        self._streams.keep(ids, stream)
        return stream


def continuations(
    line: str,
    tokenization: Tokenization,
    count: int,
    next_tokens: Callable[[str, list[str]], list[Suggestion]],
    complete_word: Callable[[list[str], str], list[Suggestion]],
) -> list[Suggestion]:
    """The most probable continuations of a line, for any model whose tokens are words or characters.

    Args:
        line: The line.
        tokenization: That of the model.
        count: Most continuations.
        next_tokens: Returns the most probable next tokens after a line and its tokens.
        complete_word: Returns the most probable words, one more than `count`, that begin with letters after tokens.
    """
    tokens, letters = tokenization.split_unfinished(line)
    if not letters:
        return next_tokens(line, tokens)
    words = complete_word(tokens, letters)
    typed = [entry for entry in words if entry.text == letters]
    if words and not typed:
        return words[:count]
    whole = tokenization.split(line)
    if not words and len(whole) > len(tokens) + 1:  # letters and a mark after them
        return next_tokens(line, whole)
    longer = [entry for entry in words if entry.text != letters]
    after = [
        entry._replace(probability=word.probability * entry.probability)
        for word in typed
        for entry in next_tokens(line, whole)
    ]
    return sorted([*longer, *after], key=lambda entry: -entry.probability)[:count]
