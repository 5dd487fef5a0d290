"""Splits prompts into tokens and the pieces of text that belong to them."""

import asyncio
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

from ...runtime.score import spelling_log_probs
from ...runtime.text.text_decoder import TextDecoder
from ...runtime.vocabulary import Vocabulary
from ..errors import ApiError, invalid
from ..schemas import Prompt

_LONG_TEXT = 4096
"""Prompts with more characters or ids in all are split in another thread."""


@final
@dataclass(frozen=True)
class PromptTokens:
    """A prompt, split into tokens.

    Attributes:
        ids: Token ids.
        pieces: The text of each token; together they are the prompt's text. Empty unless requested.
        given_as_ids: Whether the prompt was sent as ids.
        ends_in_space: Whether its text ends in white space, so that the first word after it needs no space.
        blank: The text of a prompt without tokens, white space only. Empty unless requested.
        spelling: What the spelling of each token adds to its log-probability (see `Score`). Empty unless pieces are
            requested, and for ids.
    """

    ids: tuple[int, ...]
    pieces: tuple[str, ...]
    given_as_ids: bool
    ends_in_space: bool = False
    blank: str = ""
    spelling: tuple[float, ...] = ()

    @property
    def text(self) -> str:
        """The prompt's text; empty unless requested."""
        return self.blank + "".join(self.pieces)


async def split_prompts(
    prompts: Sequence[Prompt], vocabulary: Vocabulary, before: TextDecoder, max_tokens: int, *, with_pieces: bool
) -> list[PromptTokens]:
    """Split prompts, long ones in another thread; arguments as for `split_prompt`.

    Raises:
        ApiError: As for `split_prompt`.
    """
    split = functools.partial(
        split_prompt, vocabulary=vocabulary, before=before, max_tokens=max_tokens, with_pieces=with_pieces
    )
    if sum(map(len, prompts)) > _LONG_TEXT:
        return await asyncio.to_thread(lambda: list(map(split, prompts)))
    return list(map(split, prompts))


def split_prompt(
    prompt: Prompt, vocabulary: Vocabulary, before: TextDecoder, max_tokens: int, with_pieces: bool
) -> PromptTokens:
    """Split a prompt into tokens and, with `with_pieces`, into their pieces of text.

    The pieces of a text are cut from it, with its white space and unknown words; or from `Tokenization.folded` of it,
    if that has another length. Those of ids are the tokens' texts.

    Args:
        prompt: Text or token ids.
        vocabulary: The model's tokens.
        before: The decoder before the prompt; it is not changed.
        max_tokens: Most tokens of a prompt.
        with_pieces: Whether the pieces are needed.

    Raises:
        ApiError: The prompt is too long, or an id is outside the vocabulary.
    """
    if isinstance(prompt, str):
        tokens = vocabulary.tokenization.split(prompt)
        _check_length(len(tokens), max_tokens)
        ids = vocabulary.ids(tokens)
        pieces = tuple(_pieces(prompt, tokens, ids, vocabulary)) if with_pieces else ()
        blank = prompt if with_pieces and not tokens else ""
        spelling = tuple(spelling_log_probs(tokens, ids, vocabulary)) if with_pieces else ()
        return PromptTokens(tuple(ids), pieces, False, prompt[-1:].isspace(), blank, spelling)
    _check_length(len(prompt), max_tokens)
    size = len(vocabulary)
    if not 0 <= min(prompt) <= max(prompt) < size:
        wrong = next(index for index in prompt if not 0 <= index < size)
        raise invalid(f"token id {wrong} is outside the vocabulary, expected 0 to {size - 1}", "prompt")
    pieces = tuple(map(before.copy().add, prompt)) if with_pieces else ()
    return PromptTokens(tuple(prompt), pieces, True)


def _check_length(length: int, max_tokens: int) -> None:
    if length > max_tokens:
        raise ApiError(
            400,
            "context_length_exceeded",
            f"the prompt has {length:,} tokens, expected {max_tokens:,} or fewer; send the last ones, or keep a "
            "session",
            "prompt",
        )


def _pieces(text: str, tokens: list[str], ids: list[int], vocabulary: Vocabulary) -> Iterator[str]:
    """Cut a text after each of its tokens; the last piece includes white space at the end."""
    tokenization = vocabulary.tokenization
    if tokenization.unit == "subword":  # its tokens are all of the text
        yield from map(TextDecoder(vocabulary).add, ids)
        return
    folded = tokenization.folded(text)
    if len(folded) != len(text):  # its offsets do not fit the text
        text = folded
    start = 0
    for number, token in enumerate(tokens, start=1):
        end = _end_of(token, folded, start, tokenization.end_of_sentence) if number < len(tokens) else len(text)
        yield text[start:end]
        start = end


def _end_of(token: str, text: str, start: int, end_of_sentence: str) -> int:
    """Where the next token after `start` ends; an end of sentence is a newline or is written out."""
    if token != end_of_sentence:
        return text.index(token, start) + len(token)
    spans = [(at, at + len(mark)) for mark in ("\n", token) if (at := text.find(mark, start)) >= 0]
    return min(spans)[1]
