"""What may come next in a line that is being typed, with as little of the network run at each keystroke as can be."""

from typing import TYPE_CHECKING, NamedTuple, final

if TYPE_CHECKING:
    from .predictor import Predictor
    from .stream import Stream

_KEPT_STREAMS = 64


class Suggestion(NamedTuple):
    """One way to go on.

    Attributes:
        text: What to put at the end of the line; empty for the end of the sentence, which is the user's to type.
        start: Where, counted from the end of the line: 0, or minus the number of letters that `text` replaces.
        shown: The token, as people should see it.
        probability: Of the token; of a word that was begun, among all words that begin so.
    """

    text: str
    start: int
    shown: str
    probability: float


@final
class Autocompletion:
    """Suggests how a line may go on: the next word, the rest of a word that was begun, or the next character.

    The streams of what was typed lately are kept, by its tokens: another letter of a word runs nothing, a finished word
    runs that word, and what is deleted goes back to a stream that is there. It belongs to one thread at a time.

    Example:
        >>> from lmtool.runtime import Autocompletion, Predictor
        >>> line = Autocompletion(Predictor.load("model.onnx"), count=3)
        >>> len(line.suggestions("the cat "))
        3
        >>> line.end_line("the cat saw a dog")
    """

    def __init__(self, predictor: "Predictor", count: int, allow_unknown: bool = False) -> None:
        """Begin a text with its first line.

        Raises:
            OptionError: `count` is below 1.
        """
        self._vocabulary = predictor.vocabulary
        self._tokenization = predictor.vocabulary.tokenization
        self._count = count
        self._allow_unknown = allow_unknown
        self._streams: dict[tuple[int, ...], Stream] = {(): predictor.stream()}
        self.suggestions("")  # a wrong count is refused here and not at a keystroke

    def suggestions(self, line: str) -> list[Suggestion]:
        """The most probable ways to go on from the end of a line, most probable first."""
        tokens, letters = self._tokenization.split_unfinished(line)
        if not letters:
            return self._next_tokens(line, tokens)
        found = self._rests(tokens, letters)
        whole = self._tokenization.split(line)
        ends_with_a_mark = len(whole) > len(tokens) + 1
        return self._next_tokens(line, whole) if ends_with_a_mark and not found else found

    def end_line(self, line: str) -> None:
        """Read the line and the end of its sentence; the next line goes on from there."""
        self._streams = {(): self._after(self._tokenization.split(f"{line}\n"))}

    def _next_tokens(self, line: str, tokens: list[str]) -> list[Suggestion]:
        previous = tokens[-1] if tokens and not line[-1].isspace() else None
        found = self._after(tokens).suggest(self._count, allow_unknown=self._allow_unknown)
        return [Suggestion(self._piece(token, previous), 0, self._shown(token), share) for token, share in found]

    def _rests(self, tokens: list[str], letters: str) -> list[Suggestion]:
        """Words that begin with these letters, which stay as they were typed."""
        found = self._after(tokens).suggest(self._count, prefix=letters)
        return [Suggestion(letters + word[len(letters) :], -len(letters), word, share) for word, share in found]

    def _piece(self, token: str, previous: str | None) -> str:
        return "" if token == self._tokenization.end_of_sentence else self._tokenization.piece(token, previous)

    def _shown(self, token: str) -> str:
        return token if self._tokenization.unit == "word" else repr(token)

    def _after(self, tokens: list[str]) -> "Stream":
        """The stream of these tokens of the line, made from the nearest one before it and kept."""
        ids = tuple(map(self._vocabulary.id, tokens))
        stream = self._streams.pop(ids, None)
        if stream is None:
            longest_first = sorted(self._streams, key=len, reverse=True)
            nearest = next(known for known in longest_first if known == ids[: len(known)])
            stream = self._streams[nearest].fork()
            stream.feed_ids(ids[len(nearest) :])
        self._streams[ids] = stream
        self._forget()
        return stream

    def _forget(self) -> None:
        """Drop the stream that was not used for longest, but never that of the line's beginning."""
        if len(self._streams) > _KEPT_STREAMS:
            del self._streams[next(ids for ids in self._streams if ids)]
