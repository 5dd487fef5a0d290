"""The proof that a vocabulary gives a text the ids that Hugging Face's tokenizers gives it, with the same merges."""

import reprlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, final

from tokenizers import Tokenizer

from ...runtime.text.byte_pairs import pieces, pieces_of_chunks
from ...runtime.vocabulary import Vocabulary
from .hugging_face import LIBRARY, library_tokenizer
from .odd_texts import odd_texts

ODD_TEXTS = 2000


@final
@dataclass(frozen=True)
class Agreement:
    """What was compared.

    Attributes:
        other: The other library and its version.
        text: What was tokenized by both.
        tokens: The number of tokens.
        difference: The first difference; empty if there is none.
    """

    other: str
    text: str
    tokens: int
    difference: str = ""

    def to_json(self) -> dict[str, Any]:
        """The facts for the artifact's metadata."""
        return {"library": self.other, "text": self.text, "tokens": self.tokens}


def compare_ids(
    vocabulary: Vocabulary, corpus: Iterable[Iterable[str]], name: str, tokenizer: Tokenizer | None = None
) -> Agreement:
    """Tokenize 2,000 odd texts and a corpus by both; ends at the first difference.

    Args:
        vocabulary: That of the artifact, of rule `bpe`.
        corpus: Texts, in chunks.
        name: Stands for the corpus.
        tokenizer: The other one; None for that with the same merges.
    """
    tokenizer = library_tokenizer(vocabulary) if tokenizer is None else tokenizer
    described = " and ".join(filter(None, (name, f"{ODD_TEXTS:,} odd texts")))
    tokens = 0
    for text in _texts(corpus):
        ids = vocabulary.encode(text)
        if ids != _library_ids(tokenizer, text) or vocabulary.decode(ids) != text:
            return Agreement(LIBRARY, described, tokens, _difference(vocabulary, tokenizer, text))
        tokens += len(ids)
    return Agreement(LIBRARY, described, tokens)


def _texts(corpus: Iterable[Iterable[str]]) -> Iterator[str]:
    yield from odd_texts(ODD_TEXTS)
    for text in corpus:
        yield from map("".join, pieces_of_chunks(text))


def _library_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text).ids
    return ids


def _difference(vocabulary: Vocabulary, tokenizer: Tokenizer, text: str) -> str:
    """The first piece that both tokenize differently, and its ids."""
    for piece in [*pieces(text), text]:
        ours, theirs = vocabulary.encode(piece), _library_ids(tokenizer, piece)
        if ours != theirs or vocabulary.decode(ours) != piece:
            break
    return f"{reprlib.repr(piece)} has the ids {reprlib.repr(ours)} here, {reprlib.repr(theirs)} by {LIBRARY}"
