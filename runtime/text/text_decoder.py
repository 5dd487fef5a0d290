"""TextDecoder: the text of tokens that come one after the other."""

import codecs
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, final

from ..arguments import checked_bytes, checked_text, wrong_type
from .byte_alphabet import bytes_of

if TYPE_CHECKING:
    from ..vocabulary import Vocabulary

MOST_LETTERS = 64
"""Characters of `TextDecoder.letters`."""
_LATEST = MOST_LETTERS + 4
"""Tokens, with those of one character more."""
_BLANK = r"\x00-\x20\x7f"
_split_at_blanks = re.compile(f"[{_BLANK}]").split
is_letters = re.compile(f"[^{_BLANK}]{{0,{MOST_LETTERS}}}").fullmatch
"""Whether a text can be `TextDecoder.letters`."""
_new_decoder = codecs.getincrementaldecoder("utf-8")


@final
class TextDecoder:
    """Turns token ids into text, one at a time: each piece is the text that its token adds.

    A piece never ends within a character. Where tokens hold single bytes, a character comes with the token that
    completes it, tokens before that add nothing, and bytes that are no UTF-8 become U+FFFD.

    Attributes:
        vocabulary: The tokens.
        previous: The token before, from which the next one may need a space; None at the start of a text. Set it to
            None where white space follows the token before.
        partial: The bytes of a character that is not complete yet; 3 at most.
        takes_space: Whether the next token takes the space at the end of the text, which is its first byte: its text is
            what follows it. For tokens that hold bytes (see `Spaces`).

    Example:
        >>> from lmtool.runtime import TextDecoder, Tokenization, Vocabulary
        >>> vocabulary = Vocabulary(["<eos>", "<unk>", "the", "cat", "."], Tokenization("words-2"))
        >>> decoder = TextDecoder(vocabulary)
        >>> [decoder.add(token_id) for token_id in (2, 3, 4)]
        ['the', ' cat', '.']
    """

    def __init__(
        self, vocabulary: "Vocabulary", previous: int | None = None, partial: bytes = b"", letters: str = ""
    ) -> None:
        """Begin after the token with the id `previous`, None for the start of a text.

        Where tokens hold bytes, `letters` and `partial` are those at the end of the text.
        """
        if not hasattr(vocabulary, "tokenization"):
            raise wrong_type("vocabulary", vocabulary, "a Vocabulary", "that of a model: predictor.vocabulary")
        self.vocabulary = vocabulary
        self._tokenization = vocabulary.tokenization
        self._holds_bytes = vocabulary.tokenization.unit == "subword"
        self.previous = None if previous is None else vocabulary.token(previous)
        self.partial = checked_bytes("partial", partial)
        self.takes_space = False
        self._end = checked_text("letters", letters)

    @property
    def letters(self) -> str:
        """Where tokens hold bytes: the end of the text after the last white space, at most 64 characters of it."""
        return str(_split_at_blanks(self._end)[-1])

    def copy(self) -> "TextDecoder":
        """An independent decoder at the same place."""
        copy = object.__new__(TextDecoder)
        copy.__dict__.update(self.__dict__)
        return copy

    def add(self, token_id: int) -> str:
        """The text that a token adds; empty if a character is not complete.

        Raises:
            TokenError: The id lies outside the vocabulary.
        """
        return self.add_token(self.vocabulary.token(token_id))

    def add_token(self, token: str) -> str:
        """As `add`, for a token as `Tokenization.split` makes it, which the vocabulary may lack."""
        if self._holds_bytes:
            checked_text("token", token)
            data = bytes_of(token)
            text = self._decoded(self.partial + (data[1:] if self.takes_space else data))
            self.takes_space = False
        else:
            text = self._tokenization.piece(token, self.previous)
        self.previous = token
        return text

    def skip(self, token_ids: Sequence[int]) -> None:
        """As `add` of each token, without the texts, in a time that does not grow with their number."""
        tokens = list(map(self.vocabulary.token, token_ids[-_LATEST if self._holds_bytes else -1 :]))
        if tokens:
            self.previous = tokens[-1]
            if self._holds_bytes:
                self._decoded(self.partial + bytes_of("".join(tokens)))

    def finish(self) -> str:
        """The end of the text: U+FFFD if its last character is not complete."""
        text = self.partial.decode(errors="replace")
        self.partial = b""
        return text

    def _decoded(self, data: bytes) -> str:
        """The text of whole characters; keeps the rest."""
        self.partial = b""
        try:
            text = data.decode()
        except UnicodeDecodeError:
            decoder = _new_decoder("replace")
            text = decoder.decode(data)
            self.partial = decoder.getstate()[0]
        self._end = (self._end + text)[-MOST_LETTERS:]
        return text
