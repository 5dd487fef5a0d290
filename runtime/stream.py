"""A text stream: text goes in, suggestions and new text come out; its state can be saved, forked and restored."""

import functools
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from operator import add
from typing import Any, Concatenate, NoReturn, ParamSpec, TypeVar, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arguments import checked_text
from .cache import CacheMemory
from .cursor import Cursor
from .draws.token_sampler import TokenSampler
from .errors import ArgumentError, OwnerError, counted
from .generation_plan import GenerationPlan
from .network import Network
from .sampling import Sampling
from .score import Score, spelled_ids
from .state import State
from .suggestions import check_suggestions, checked_prefix, suggest_tokens
from .text.stops import StoppedText
from .text.text_decoder import TextDecoder
from .word_search.nodes import Node
from .word_search.word_finder import NextWords

_SCORING_CHUNK = 128

_Place = tuple[Cursor, TextDecoder]
_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def _owned(
    method: Callable[Concatenate["Stream", _Parameters], _Result],
) -> Callable[Concatenate["Stream", _Parameters], _Result]:
    """Make `method` raise OwnerError, and do nothing, while another thread runs a method of the stream."""

    @functools.wraps(method)
    def call(self: "Stream", /, *args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        if not self._lock.acquire(False):
            raise OwnerError(
                "another thread uses this stream at this moment, expected one owner at a time; give each thread "
                "its own stream (fork() it, or predictor.stream(state=stream.state)), or use a StreamPool"
            )
        try:
            return method(self, *args, **kwargs)
        finally:
            self._lock.release()

    return call


@final
class Stream:
    """A reader and writer of one text. It belongs to one thread at a time; concurrent use raises OwnerError.

    Text that is fed runs when a prediction is needed, or when a few hundred tokens have gathered, in one call that
    computes one position's logits; so feeding word by word costs no more than feeding a page. With a cache each token
    is a call.

    Example:
        >>> from lmtool.runtime import Predictor, State
        >>> predictor = Predictor.load("model.onnx")
        >>> stream = predictor.stream()
        >>> stream.feed("the")
        >>> [round(probability, 9) > 0 for word, probability in stream.suggest(3)]
        [True, True, True]
        >>> saved = stream.state.to_bytes()
        >>> text = list(stream.generate(max_tokens=5, seed=1))
        >>> restored = predictor.stream(state=State.from_bytes(saved))
        >>> list(restored.generate(max_tokens=5, seed=1)) == text
        True
    """

    def __init__(self, network: Network, state: State, memory: CacheMemory | None) -> None:
        """Use `Predictor.stream`, which checks `state`."""
        self._cursor = Cursor(network, state, memory)
        self._vocabulary = network.vocabulary
        self._last_character = ""  # of the text that was fed last, if nothing else was since
        self._text = TextDecoder(self._vocabulary, self._cursor.last_token, state.partial, state.letters)
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        cursor = self._cursor
        last = None if cursor.last_token is None else self._vocabulary.token(cursor.last_token)
        cache = "" if cursor.memory is None else " with a cache"
        return f"<Stream{cache} after {last!r}, {counted(len(cursor.pending), 'token')} to run>"

    def __reduce__(self) -> NoReturn:
        """Raise ArgumentError: a stream belongs to its predictor, its state moves."""
        raise ArgumentError(
            "a stream cannot be pickled or copied, expected its state; send stream.state, and continue it there: "
            "predictor.stream(state=state); in this process: stream.fork()"
        )

    @property
    @_owned
    def state(self) -> State:
        """A snapshot for `predictor.stream(state=...)`, here or, as bytes, in another process."""
        return self._cursor.snapshot(self._text)

    @_owned
    def fork(self) -> "Stream":
        """An independent stream with the same state. Unlike one made from `state` it runs nothing a second time."""
        fork = object.__new__(Stream)
        fork.__dict__.update(self.__dict__)
        fork._cursor = self._cursor.copy()
        fork._text = self._text.copy()
        fork._lock = threading.RLock()
        return fork

    def feed(self, text: str) -> None:
        """Append text; a newline ends the sentence, and so does CR or CRLF (but CR is a space for the rule `words`)."""
        if not checked_text("text", text):
            return
        cuts_line_end = self._last_character == "\r" and self._vocabulary.tokenization.takes_returns
        self.feed_ids(self._vocabulary.encode(text.removeprefix("\n") if cuts_line_end else text))
        self._last_character = text[-1]
        if self._last_character.isspace():
            self._text.previous = None

    @_owned
    def feed_ids(self, token_ids: ArrayLike) -> None:
        """Append tokens.

        Raises:
            TokenError: An id lies outside the vocabulary; nothing was appended.
        """
        ids = self._cursor.network.checked_ids(token_ids).tolist()
        self._cursor.append(ids)
        self._skip(ids)

    def _skip(self, ids: list[int]) -> None:
        """Go on after tokens that were appended."""
        if ids:
            self._last_character = ""
            self._text.skip(ids)

    @_owned
    def logits(self) -> NDArray[np.float32]:
        """Logits of the next token, float32 [vocabulary], read-only; with a cache, their softmax is the mixture.

        Raises:
            StateError: The stream began from a state that `Predictor.step` returned, and nothing was fed since.
            NumberError: A logit is NaN or infinite. All methods that need logits raise it.
        """
        return self._cursor.logits()

    def score(self, text: str | ArrayLike) -> Score:
        """Append text, or token ids; return the log-probability of each token given all before it.

        The spelling of an unknown word counts (see `Score`), but not that of an unknown token id.

        Raises:
            TokenError: An id lies outside the vocabulary; nothing was appended.
            StateError: As for `logits`.
        """
        given = self._cursor.network.checked_text_or_ids("text", text)
        if not isinstance(given, str):
            return Score.of(given.tolist(), self._score(given), self._vocabulary)
        token_ids, spelling = spelled_ids(given, self._vocabulary)
        log_probs = map(add, self._score(np.array(token_ids, np.int64)), spelling)
        return Score.of(token_ids, list(log_probs), self._vocabulary, given)

    def _score(self, ids: NDArray[np.integer[Any]]) -> list[float]:
        log_probs: list[float] = np.concatenate([np.zeros(0), *self.token_log_probs(ids)]).tolist()
        return log_probs

    def token_log_probs(self, ids: NDArray[np.integer[Any]]) -> Iterator[NDArray[np.float64]]:
        """Append checked ids, any integer [tokens], and yield their log-probabilities.

        They come a chunk at a time, so that neither [tokens, vocabulary] nor int64 [tokens] ever exists.
        """
        size = _SCORING_CHUNK if self._cursor.memory is None else 1
        for start in range(0, len(ids), size):
            yield self._score_chunk(ids[start : start + size].astype(np.int64, copy=False))

    @_owned
    def _score_chunk(self, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """Append tokens, int64 [tokens]; their log-probabilities, float64 [tokens]."""
        log_probs = self._cursor.score(ids)
        self._skip(ids.tolist())
        return log_probs

    def suggest(
        self,
        k: int = 5,
        *,
        prefix: str | None = None,
        allow_unknown: bool = False,
        never: str | Collection[str] = (),
    ) -> list[tuple[str, float]]:
        """The k most probable next words with their probabilities, most probable first.

        With the rule `characters` they are characters. The end of a sentence is left out, and the unknown token unless
        `allow_unknown`; the probabilities of the others do not change. `exp(score("\\n").log_prob)` of a fork is the
        probability that the sentence ends.

        With the rule `bpe` they are whole words, numbers and runs of marks, shown without the space before them, found
        by the search that `next_words` describes.

        Args:
            k: The number of suggestions.
            prefix: The letters typed so far of a word that was not fed (not for characters). Suggests the words of
                the vocabulary that begin with them, never the special tokens; the probabilities are conditional on
                the prefix: over all such words they sum to 1. Without such a word the list is empty.
            allow_unknown: Whether the unknown token may be suggested.
            never: Words that are not suggested in any letter case (see `Vocabulary.forms`).

        Raises:
            OptionError: `k` is below 1; `prefix` holds white space, or the model's tokens are characters; an entry of
                `never` is empty or holds white space, or the model's tokens are characters.
        """
        return self.next_words(k, prefix=prefix, allow_unknown=allow_unknown, never=never).words

    def next_words(
        self,
        k: int = 5,
        *,
        prefix: str | None = None,
        allow_unknown: bool = False,
        never: str | Collection[str] = (),
    ) -> NextWords:
        """As `suggest`, and whether the list is exact; only with the rule `bpe` it may be cut.

        With `bpe` a word is a piece of the rule: letters, also with an apostrophe and more letters, in their case;
        digits; or marks. Its probability is the product of its tokens' probabilities and the probability that the next
        token does not make it longer. Words are taken as the rule writes them, in one way; the model has read no other.
        The words are found best first, at most 192 + 4 k positions are run (2,048 for large k), and the list is exact
        if none of the others can be more probable than its last word.

        Text that was fed ends with a whole word: letters of an unfinished one belong to `prefix`. A space at its end
        is the one before the next word. With a cache, its pairs are those of the text that was fed.

        Returns:
            The list, and whether no other word is more probable than its last one. Of a prefix, the probability by
            which the others are divided is exact within 0.2%.

        Raises:
            OptionError: As for `suggest`.
        """
        if self._vocabulary.tokenization.unit == "subword":
            return self._find_words(k, prefix, allow_unknown, never)
        found = suggest_tokens(
            self.logits, self._vocabulary, k, prefix=prefix, allow_unknown=allow_unknown, never=never
        )
        return NextWords([(self._vocabulary.text(token_id), probability) for token_id, probability in found], True)

    @_owned
    def _find_words(self, k: int, prefix: str | None, allow_unknown: bool, never: str | Collection[str]) -> NextWords:
        k, prefix = check_suggestions(k, allow_unknown), checked_prefix(prefix)
        hidden = self._vocabulary.word_filter(never)
        place = self._cursor.before_word()
        node = Node.of_logits(*place.look_ahead())
        last = place.last_token if place is self._cursor else None
        return place.network.word_finder.find(node, last, prefix, k, hidden, place.memory)

    def generate(
        self,
        max_tokens: int = 20,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        method: str = "weighted",
        seed: int | Sequence[int] | None = None,
        allow_unknown: bool = False,
        repetition_penalty: float = 1.0,
        repetition_window: int = 64,
        stop: str | Sequence[str] = (),
        stop_at_end_of_sentence: bool = False,
        never: str | Collection[str] = (),
    ) -> Iterator[str]:
        """Continue the text: choose a token, feed it, yield the text it adds, `max_tokens` times.

        The first word begins without a space if the text that was fed last ends with white space. With the rule `bpe`
        a word's token holds the space before it: the first token is then one of those that begin with a space, each as
        probable as the model says of them, and takes the place of that space. Pieces end between characters (see
        `TextDecoder`): the bytes of one that is not complete at the end are not yielded; the next call goes on with
        them, as does a fork or a saved state.

        The text depends on the text read so far, the arguments and the seed, but not on how the text was split into
        `feed` calls (for an artifact whose `batch_invariant` is true).

        Args:
            max_tokens: The number of tokens to choose.
            temperature: See `Sampling`, as for `top_k`, `top_p`, `method` and `allow_unknown`.
            top_k: See `Sampling`.
            top_p: See `Sampling`.
            method: See `Sampling`.
            seed: Makes the draws repeatable: a number, or several as for `numpy.random.default_rng`; None takes a
                random seed.
            allow_unknown: See `Sampling`.
            repetition_penalty: See `Sampling`. It applies to tokens of this call, never to the end of a sentence.
            repetition_window: See `Sampling`.
            stop: One or more tokens, as text (a newline is the end of a sentence). Generation ends before the first
                of them: it is neither yielded nor fed. With the rule `bpe` any texts, also of several tokens or parts
                of them: the text before the first one is yielded, and text that may become one is held back until the
                next tokens show. The stream then goes on after the last token that was yielded in full; a loop that is
                left early leaves it after the tokens that were drawn.
            stop_at_end_of_sentence: End before the first end-of-sentence token, as if it were in `stop`.
            never: Words that are not written in any letter case (see `Vocabulary.forms`). With the rule `bpe` no token
                that completes one is chosen; `theory` is still written without `the`, but not as `the` and `ory`.

        Raises:
            OptionError: An argument is outside its range; an entry of `stop` is not a token of the vocabulary, or with
                `bpe` empty; an entry of `never` is empty or holds white space, or there is one and the model's tokens
                are characters.
        """
        sampling = Sampling(method, temperature, top_k, top_p, allow_unknown, repetition_penalty, repetition_window)
        return self._generate(
            GenerationPlan.make(self._vocabulary, max_tokens, sampling, seed, stop, stop_at_end_of_sentence, never)
        )

    def _generate(self, plan: GenerationPlan) -> Iterator[str]:
        sampler = TokenSampler(len(self._vocabulary))
        if plan.stops:
            yield from self._generate_to_stop(sampler, plan)
            return
        for _ in range(plan.max_tokens):
            piece = self._write(sampler, plan)
            if piece is None:
                return
            yield piece

    def _generate_to_stop(self, sampler: TokenSampler, plan: GenerationPlan) -> Iterator[str]:
        """As `_generate`, to the first of `plan.stops`."""
        text = StoppedText(plan.stops, self._place())
        for left in reversed(range(plan.max_tokens)):
            yield self._write_to_stop(sampler, plan, text, left == 0)
            if text.stopped:
                return

    @_owned
    def _write_to_stop(self, sampler: TokenSampler, plan: GenerationPlan, text: StoppedText[_Place], last: bool) -> str:
        """As `_write`; returns the text that is no part of a stop, and goes back to its end where one is complete."""
        piece = self._write(sampler, plan) or ""
        released = text.push(piece, self._place(), within_character=bool(self._text.partial), is_last=last)
        if text.stopped:
            self._cursor, self._text = text.place
        return released

    def _place(self) -> _Place:
        return self._cursor.copy(), self._text.copy()

    @_owned
    def _write(self, sampler: TokenSampler, plan: GenerationPlan) -> str | None:
        """Choose the next token and append it. Returns the text it adds, or None for a stop, which is not appended."""
        cursor, draw = self._cursor.before_word(), plan.draw
        logits = cursor.logits()
        self._text.takes_space = cursor is not self._cursor
        plan.close_tokens(self._text)
        if draw.depends_on_boundary:
            last = cursor.last_token
            draw.at_boundary = self._text.takes_space or last is None or self._vocabulary.is_boundary(last)
        token_id = sampler.choose_one(logits, draw)
        if token_id in plan.stop_ids:
            return None
        if token_id != self._vocabulary.end_of_sentence_id:
            draw.recent.append(token_id)
        cursor.write(token_id)
        self._cursor = cursor
        self._last_character = ""
        return self._text.add(token_id)
