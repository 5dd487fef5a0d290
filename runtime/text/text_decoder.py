"""TextDecoder: the text of tokens that come one after the other."""

import codecs
from collections.abc import Sequence
from typing import TYPE_CHECKING, final

from ..arguments import checked_bytes, checked_text, wrong_type
from .byte_alphabet import bytes_of

if TYPE_CHECKING:
    from ..vocabulary import Vocabulary

_LONGEST_CHARACTER = 4
_new_decoder = codecs.getincrementaldecoder("utf-8")


@final
class TextDecoder:
    """Turns token ids into text, one at a time: each piece is the text that its token adds.

    A piece never ends within a character. Where tokens hold single bytes, a character comes with the token that
    completes it, tokens before that add nothing, and bytes that are no UTF-8 become U+FFFD.

    Attributes:
        previous: The token before, from which the next one may need a space; None at the start of a text. Set it to
            None where white space follows the token before.
        partial: The bytes of a character that is not complete yet; 3 at most.

    Example:
        >>> from lmtool.runtime import TextDecoder, Tokenization, Vocabulary
        >>> vocabulary = Vocabulary(["<eos>", "<unk>", "the", "cat", "."], Tokenization("words-2"))
        >>> decoder = TextDecoder(vocabulary)
        >>> [decoder.add(token_id) for token_id in (2, 3, 4)]
        ['the', ' cat', '.']
    """

    def __init__(self, vocabulary: "Vocabulary", previous: int | None = None, partial: bytes = b"") -> None:
        """Begin after the token with the id `previous`, None for the start of a text, and after these bytes."""
        if not hasattr(vocabulary, "tokenization"):
            raise wrong_type("vocabulary", vocabulary, "a Vocabulary", "that of a model: predictor.vocabulary")
        self._vocabulary = vocabulary
        self._tokenization = vocabulary.tokenization
        self._holds_bytes = vocabulary.tokenization.unit == "subword"
        self.previous = None if previous is None else vocabulary.token(previous)
        self.partial = checked_bytes("partial", partial)

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
        return self.add_token(self._vocabulary.token(token_id))

    def add_token(self, token: str) -> str:
        """As `add`, for a token as `Tokenization.split` makes it, which the vocabulary may lack."""
        if self._holds_bytes:
            checked_text("token", token)
            text = self._decoded(self.partial + bytes_of(token))
        else:
            text = self._tokenization.piece(token, self.previous)
        self.previous = token
        return text

    def skip(self, token_ids: Sequence[int]) -> None:
        """As `add` of each token, without the texts, in a time that does not grow with their number."""
        for token_id in token_ids[-_LONGEST_CHARACTER if self._holds_bytes else -1 :]:
            token = self._vocabulary.token(token_id)
            if self._holds_bytes:
                self._decoded(self.partial + bytes_of(token))
            self.previous = token

    def finish(self) -> str:
        """The end of the text: U+FFFD if its last character is not complete."""
        text = self.partial.decode(errors="replace")
        self.partial = b""
        return text

    def _decoded(self, data: bytes) -> str:
        """The text of whole characters; keeps the rest."""
        self.partial = b""
        try:
            return data.decode()
        except UnicodeDecodeError:
            decoder = _new_decoder("replace")
            text = decoder.decode(data)
            self.partial = decoder.getstate()[0]
            return text
