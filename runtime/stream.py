"""One text stream: text goes in, suggestions and new text come out; its state can be kept, forked, restored."""

import functools
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arrays import freeze
from .cache import CacheMemory
from .errors import OptionError, OwnerError, StateError
from .sampling import Sampling, log_softmax
from .score import Score, require_finite, target_log_probs
from .state import State
from .vocabulary import Vocabulary

if TYPE_CHECKING:
    from .predictor import Predictor

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class Owned(Protocol):
    """What has a lock of its own, which one thread may take several times."""

    _lock: Any


_Object = TypeVar("_Object", bound=Owned)


def new_lock() -> Any:
    """The lock of an owned object."""
    return threading.RLock()


def owned(
    method: Callable[Concatenate[_Object, _Parameters], _Result],
) -> Callable[Concatenate[_Object, _Parameters], _Result]:
    """A method that raises an OwnerError, and does nothing, while another thread is in the object."""

    @functools.wraps(method)
    def call(self: _Object, /, *args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        if not self._lock.acquire(blocking=False):
            raise OwnerError(
                "another thread uses this stream at this moment, expected one owner at a time; give each thread a "
                "stream of its own (fork() it, or predictor.stream(state=stream.state)), or use a StreamPool"
            )
        try:
            return method(self, *args, **kwargs)
        finally:
            self._lock.release()

    return call


def suggested(
    logits: Callable[[], NDArray[np.float32]],
    vocabulary: Vocabulary,
    k: int,
    *,
    prefix: str | None = None,
    allow_unknown: bool = False,
) -> list[tuple[str, float]]:
    """What `Stream.suggest` gives, which describes the arguments.

    Args:
        logits: Gives the next token's logits, float32 [vocabulary]; called where they are needed, after all checks.
        vocabulary: The tokens.
        k: See `Stream.suggest`.
        prefix: See `Stream.suggest`.
        allow_unknown: See `Stream.suggest`.

    Raises:
        OptionError: As for `Stream.suggest`.
    """
    if k < 1:
        raise OptionError(f"the number of suggestions is {k}, expected 1 or more")
    if prefix:
        return _completed(logits, vocabulary, k, prefix)
    log_probs = log_softmax(logits())
    order = np.argsort(-log_probs, kind="stable")[: k + 1].tolist()
    chosen = [index for index in order if allow_unknown or index != vocabulary.unknown_id][:k]
    return [(vocabulary.token(index), float(np.exp(log_probs[index]))) for index in chosen]


def _completed(
    logits: Callable[[], NDArray[np.float32]], vocabulary: Vocabulary, k: int, prefix: str
) -> list[tuple[str, float]]:
    if vocabulary.tokenization.unit != "word":
        raise OptionError(
            f"prefix is {prefix!r}, but this model reads characters and completes whatever it was fed; "
            f"feed the letters instead"
        )
    if prefix.split() != [prefix]:
        raise OptionError(f"prefix is {prefix!r}, expected the letters of one word; feed the words before it")
    ids = vocabulary.completions(prefix)
    if not ids:
        return []
    log_probs = log_softmax(logits()[ids])
    order = np.argsort(-log_probs, kind="stable")[:k].tolist()
    return [(vocabulary.token(ids[place]), float(np.exp(log_probs[place]))) for place in order]


_FLUSH_AT = 512
_SCORING_CHUNK = 128


@final
class Stream:
    """A reader and writer of one text. It belongs to one thread at a time: what another one asks of it meanwhile is
    refused with an OwnerError.

    Text that is fed runs when a prediction is asked for, or when a few hundred tokens have gathered, in one call that
    computes one position's logits; so feeding word by word costs no more than feeding a page. With a cache each token
    is a call of its own.

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

    def __init__(self, predictor: "Predictor", state: State, memory: CacheMemory | None) -> None:
        """Use `Predictor.stream`."""
        self._predictor = predictor
        self._state = State(state.model_sha256, state.tensors)
        self._pending: list[int] = state.pending[0].tolist() if state.pending.size else []
        self._last_token: int | None = self._pending[-1] if self._pending else None
        self._lookahead: tuple[NDArray[np.float32], State] | None = None
        self._memory = memory
        self._lock = new_lock()
        if state.cache is None:
            self._remember_next()

    @property
    @owned
    def state(self) -> State:
        """A snapshot; `predictor.stream(state=...)` goes on from it, here or, by way of bytes, in another process."""
        pending = np.array([self._pending], np.int64).reshape(1, -1)
        cache = None if self._memory is None else self._memory.cache
        return State(self._state.model_sha256, self._state.tensors, pending, cache)

    @owned
    def fork(self) -> "Stream":
        """A stream of its own that goes on from here. Unlike one made from `state` it runs nothing a second time."""
        state = self.state
        fork = Stream(self._predictor, state, None if state.cache is None else CacheMemory(state.cache))
        fork._lookahead = self._lookahead
        return fork

    def feed(self, text: str) -> None:
        """Append text; a newline ends the sentence."""
        self.feed_ids(self._predictor.vocabulary.encode(text))

    @owned
    def feed_ids(self, token_ids: ArrayLike) -> None:
        """Append tokens.

        Raises:
            TokenError: An id lies outside the vocabulary; nothing was appended.
        """
        ids = self._predictor.checked_ids(token_ids).tolist()
        if not ids:
            return
        if self._lookahead is not None:
            self._state, self._pending, self._lookahead = self._lookahead[1], [], None
        had_next = bool(self._pending)
        self._pending.extend(ids)
        self._last_token = ids[-1]
        if not had_next:
            self._remember_next()
        while len(self._pending) > _FLUSH_AT:
            self._run(_FLUSH_AT)

    def _run(self, count: int) -> None:
        """Run the first `count` pending tokens: in one call, or one by one where a cache needs every hidden state."""
        size = count if self._memory is None else 1
        for _ in range(0, count, size):
            self._state = self._predictor.step([self._pending[:size]], self._state, logits_to_keep=1)[1]
            del self._pending[:size]
            self._remember_next()

    def _remember_next(self) -> None:
        """Put the hidden state and the token that comes next into the cache; a network that read nothing has none."""
        if self._memory is not None and self._pending:
            hidden = self._predictor.last_hidden(self._state)[0]
            if hidden.any():
                self._memory.remember(hidden, self._pending[0])

    @owned
    def logits(self) -> NDArray[np.float32]:
        """Logits of the next token, float32 [vocabulary], read-only; with a cache, those whose softmax is the mixture.

        Raises:
            StateError: The stream began from a state that `Predictor.step` returned, and nothing was fed since.
            NumberError: A logit is no finite number. So do all methods that need logits.
        """
        if self._lookahead is None:
            self._lookahead = self._look_ahead()
        return self._lookahead[0]

    def _look_ahead(self) -> tuple[NDArray[np.float32], State]:
        self._require_pending()
        if self._memory is not None:
            self._run(len(self._pending) - 1)
        logits, state = self._predictor.step([self._pending], self._state, logits_to_keep=1)
        last = logits[0, -1]
        require_finite(last, "logits")
        if self._memory is not None:
            last = self._memory.mixed(last, self._predictor.last_hidden(state)[0])
            require_finite(last, "mixed logits")
        return freeze(last), state

    def _require_pending(self) -> None:
        if not self._pending:
            raise StateError(
                "nothing was fed since this state was returned by a step, so there is no next token to predict; "
                "feed a token, or begin from the state of a stream, which keeps its last token"
            )

    def score(self, text: str | ArrayLike) -> Score:
        """Append text, or token ids, and say how probable each of its tokens was after all before it.

        Raises:
            TokenError: An id lies outside the vocabulary; nothing was appended.
            StateError: As for `logits`.
        """
        vocabulary = self._predictor.vocabulary
        ids = self._predictor.checked_ids(vocabulary.encode(text) if isinstance(text, str) else text)
        return Score.of(ids, np.concatenate([np.zeros(0), *self.token_log_probs(ids)]), vocabulary)

    def token_log_probs(self, ids: NDArray[np.integer[Any]]) -> Iterator[NDArray[np.float64]]:
        """Append checked ids, any integer [n], and give their log-probabilities.

        They come a chunk at a time, so that neither [n, vocabulary] nor int64 [n] ever exists.
        """
        size, score = (_SCORING_CHUNK, self._score_chunk) if self._memory is None else (1, self._score_one)
        for start in range(0, len(ids), size):
            yield score(ids[start : start + size].astype(np.int64, copy=False))

    def _score_one(self, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """Append one token, int64 [1]; its log-probability, float64 [1]."""
        log_probs = target_log_probs(self.logits()[None].copy(), ids)
        require_finite(log_probs, "log-probabilities")
        self.feed_ids(ids)
        return log_probs

    @owned
    def _score_chunk(self, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """Append tokens, int64 [tokens], in one call; their log-probabilities, float64 [tokens]."""
        self._require_pending()
        inputs = [*self._pending, *ids[:-1].tolist()]
        log_probs, self._state = self._predictor.log_probs([inputs], self._state, ids[None])
        self._pending, self._lookahead = ids[-1:].tolist(), None
        self._last_token = self._pending[0]
        return np.asarray(log_probs[0])

    def suggest(self, k: int = 5, *, prefix: str | None = None, allow_unknown: bool = False) -> list[tuple[str, float]]:
        """The k most probable next tokens with their probabilities, most probable first.

        The unknown token is left out unless `allow_unknown`; the probabilities are the model's own all the same.

        Args:
            k: How many.
            prefix: The letters typed so far of a word that was not fed (word-level models only). The words of the
                vocabulary that begin with them are suggested, the special tokens never; their probabilities are
                those of a word that begins so: over all such words they sum to 1. No such word: an empty list.
            allow_unknown: Whether the unknown token may be suggested.

        Raises:
            OptionError: `k` is below 1; `prefix` holds white space, or the model reads characters.
        """
        return suggested(self.logits, self._predictor.vocabulary, k, prefix=prefix, allow_unknown=allow_unknown)

    def generate(
        self,
        max_tokens: int = 20,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        method: str = "weighted",
        seed: int | None = None,
        allow_unknown: bool = False,
        repetition_penalty: float = 1.0,
        repetition_window: int = 64,
        stop: str | Sequence[str] = (),
        stop_at_end_of_sentence: bool = False,
    ) -> Iterator[str]:
        """Write on: choose a token, feed it, yield what it adds to the text, `max_tokens` times.

        The text depends on what the stream has read, on these arguments and on the seed, not on the parts in which the
        stream was fed (for an artifact whose `batch_invariant` is true).

        Args:
            max_tokens: How many tokens to choose.
            temperature: See `Sampling`, as for `top_k`, `top_p`, `method` and `allow_unknown`.
            top_k: See `Sampling`.
            top_p: See `Sampling`.
            method: See `Sampling`.
            seed: Makes the draws repeatable; None draws anew each time.
            allow_unknown: See `Sampling`.
            repetition_penalty: See `Sampling`. It holds back what this call wrote, but never the end of a sentence.
            repetition_window: See `Sampling`.
            stop: A token or several, as text (a newline is the end of a sentence). Generation ends before the first
                of them: it is neither yielded nor fed.
            stop_at_end_of_sentence: End before the first end-of-sentence token, as if it were in `stop`.

        Raises:
            OptionError: An argument is outside its range, or something in `stop` is no token of the vocabulary.
        """
        if max_tokens < 0:
            raise OptionError(f"max_tokens is {max_tokens}, expected 0 or more")
        if seed is not None and seed < 0:
            raise OptionError(f"seed is {seed}, expected 0 or more")
        sampling = Sampling(method, temperature, top_k, top_p, allow_unknown, repetition_penalty, repetition_window)
        stop_ids = {self._stop_id(text) for text in ([stop] if isinstance(stop, str) else stop)}
        if stop_at_end_of_sentence:
            stop_ids.add(self._predictor.vocabulary.end_of_sentence_id)
        return self._generate(max_tokens, sampling, np.random.default_rng(seed), stop_ids)

    def _stop_id(self, text: str) -> int:
        vocabulary = self._predictor.vocabulary
        tokens = vocabulary.tokenization.split(text)
        if len(tokens) != 1 or tokens[0] not in vocabulary:
            raise OptionError(
                f"stop holds {text!r}, which is no token of this model's vocabulary and would never be written; "
                f"expected single tokens of it"
            )
        return vocabulary.id(tokens[0])

    def _generate(
        self, max_tokens: int, sampling: Sampling, random: "np.random.Generator", stop_ids: Collection[int]
    ) -> Iterator[str]:
        vocabulary = self._predictor.vocabulary
        recent: deque[int] = deque(maxlen=sampling.repetition_window)
        for _ in range(max_tokens):
            logits = self.logits()
            if not sampling.allow_unknown:
                logits = logits.copy()
                logits[vocabulary.unknown_id] = -np.inf
            token_id = sampling.choose(logits, random, self._at_boundary(), recent)
            if token_id in stop_ids:
                return
            if token_id != vocabulary.end_of_sentence_id:
                recent.append(token_id)
            piece = vocabulary.piece(token_id, self._last_token)
            self.feed_ids([token_id])
            yield piece

    def _at_boundary(self) -> bool:
        vocabulary = self._predictor.vocabulary
        if vocabulary.tokenization.unit == "word" or self._last_token is None:
            return True
        return vocabulary.token(self._last_token).isspace()
