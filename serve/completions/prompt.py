"""A prompt as tokens, and as the pieces of its text that belong to them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

from ...runtime.vocabulary import Vocabulary
from ..errors import ApiError, invalid
from ..schemas import Prompt


@final
@dataclass(frozen=True)
class Place:
    """Where a text stands: the tokens whose successors nobody has asked for yet, and what was read before them.

    Attributes:
        pending: Token ids, one or none, that are read next; none only where the prompt begins the text by itself.
        previous: The text's last token; None where there is none.
    """

    pending: tuple[int, ...]
    previous: int | None


@final
@dataclass(frozen=True)
class PromptTokens:
    """A prompt that was split.

    Attributes:
        ids: Token ids.
        pieces: The text of each; together they are the prompt's text. None where they were not asked for.
        given_as_ids: Whether it came as ids.
        blank: The text of a prompt without tokens, white space only; empty for others, and where pieces were not asked
            for.
    """

    ids: tuple[int, ...]
    pieces: tuple[str, ...]
    given_as_ids: bool
    blank: str = ""

    @property
    def text(self) -> str:
        """The prompt's text."""
        return self.blank + "".join(self.pieces)

    def begins_text(self, start: Place) -> bool:
        """Whether it brings the end of sentence along after which a text begins, as only ids can."""
        return self.given_as_ids and self.ids[:1] == start.pending


def start_of_text(vocabulary: Vocabulary) -> Place:
    """A text begins where a sentence has ended, as for `Predictor.stream` and `Predictor.score`."""
    end = vocabulary.end_of_sentence_id
    return Place((end,), end)


def split_prompt(
    prompt: Prompt, vocabulary: Vocabulary, previous: int | None, largest: int, with_pieces: bool = True
) -> PromptTokens:
    """The tokens and pieces of a prompt after a text that ends with `previous`.

    The pieces of a text are cut from it, white space and unknown words as they are; those of ids are the tokens'. A
    text with a letter whose lower case is two characters (`İ`) is cut in lower case where the rule is `words`.
    Without `with_pieces` there are none.

    Raises:
        ApiError: It has more than `largest` tokens, or an id lies outside the vocabulary.
    """
    if isinstance(prompt, str):
        tokens = vocabulary.tokenization.split(prompt)
        _check_length(len(tokens), largest)
        pieces = tuple(_pieces(prompt, tokens, vocabulary)) if with_pieces else ()
        blank = prompt if with_pieces and not tokens else ""
        return PromptTokens(tuple(map(vocabulary.id, tokens)), pieces, False, blank)
    _check_length(len(prompt), largest)
    wrong = next((index for index in prompt if not 0 <= index < len(vocabulary)), None)
    if wrong is not None:
        raise invalid(f"token id {wrong} is outside the vocabulary, expected 0 to {len(vocabulary) - 1}", "prompt")
    before = [previous, *prompt[:-1]]
    pairs = zip(prompt, before, strict=True) if with_pieces else ()
    return PromptTokens(tuple(prompt), tuple(vocabulary.piece(index, last) for index, last in pairs), True)


def _check_length(found: int, largest: int) -> None:
    if found > largest:
        raise ApiError(
            400,
            "context_length_exceeded",
            f"the prompt has {found:,} tokens, expected {largest:,} or fewer; send the last ones, or keep a session",
            "prompt",
        )


def _pieces(text: str, tokens: list[str], vocabulary: Vocabulary) -> Iterator[str]:
    """Cut a text behind each of its tokens; the last piece has the white space at the end too."""
    tokenization = vocabulary.tokenization
    folded = tokenization.folded(text)
    if len(folded) != len(text):  # letters whose lower case is longer: there is no way back to the text
        text = folded
    start = 0
    for number, token in enumerate(tokens, start=1):
        end = _end_of(token, folded, start, tokenization.end_of_sentence) if number < len(tokens) else len(text)
        yield text[start:end]
        start = end


def _end_of(token: str, text: str, start: int, end_of_sentence: str) -> int:
    """Where the token that comes next after `start` ends; an end of sentence is a newline or is written out."""
    if token != end_of_sentence:
        return text.index(token, start) + len(token)
    found = [(at, at + len(mark)) for mark in ("\n", token) if (at := text.find(mark, start)) >= 0]
    return min(found)[1]
