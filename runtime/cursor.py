"""The place of a text in a network: the tokens that it has not run yet, and the state before them."""

from typing import final

import numpy as np
from numpy.typing import NDArray

from .arrays import freeze
from .cache import CacheMemory
from .errors import StateError
from .network import Network
from .score import require_finite
from .state import State
from .text.text_decoder import TextDecoder

_FLUSH_AT = 512


@final
class Cursor:
    """Reads tokens and predicts the next one; a network call is made when a prediction is needed.

    Attributes:
        network: Runs the tokens.
        state: After the tokens before `pending`.
        pending: Token ids that were appended and have not run.
        memory: The pairs of the cache; None without one.
        last_token: The id of the last token; None if it is not known.
    """

    def __init__(self, network: Network, state: State, memory: CacheMemory | None) -> None:
        """Begin at a checked state."""
        self.network = network
        self.state = State(state.model_sha256, state.tensors)
        self.pending: list[int] = state.pending[0].tolist() if state.pending.size else []
        self.memory = memory
        self.last_token: int | None = self.pending[-1] if self.pending else None
        self._spaces = network.vocabulary.spaces
        self._lookahead: tuple[NDArray[np.float32], State] | None = None
        self._one_token = np.zeros((1, 1), np.int64)
        if state.cache is None:
            self._remember_next()

    def copy(self) -> "Cursor":
        """An independent cursor at the same place."""
        copy = object.__new__(Cursor)
        copy.__dict__.update(self.__dict__)  # states and logits are values
        copy.pending = self.pending.copy()
        copy.memory = None if self.memory is None else CacheMemory(self.memory.cache)
        copy._one_token = np.zeros((1, 1), np.int64)
        return copy

    def snapshot(self, text: TextDecoder) -> State:
        """The place as a value, with the end of its text."""
        pending = np.array([self.pending], np.int64).reshape(1, -1)
        cache = None if self.memory is None else self.memory.cache
        return State(self.state.model_sha256, self.state.tensors, pending, cache, text.partial, text.letters)

    def append(self, ids: list[int]) -> None:
        """Append valid token ids; runs them when a few hundred have gathered."""
        if not ids:
            return
        if self._lookahead is not None:
            if self._spaces.before(ids[0]) is None:  # the token before a space is kept, see `before_word`
                self.state, self.pending = self._lookahead[1], []
            self._lookahead = None
        had_next = bool(self.pending)
        self.pending.extend(ids)
        self.last_token = ids[-1]
        if not had_next:
            self._remember_next()
        while len(self.pending) > _FLUSH_AT:
            self._run(_FLUSH_AT - 1)  # leaves the token before a space

    def logits(self) -> NDArray[np.float32]:
        """As `Stream.logits`."""
        return self.look_ahead()[0]

    def write(self, token_id: int) -> None:
        """Append a token that was drawn from `logits`. If it is a space, the next word does not take it."""
        assert self._lookahead is not None
        self.state, self.pending = self._lookahead[1], [token_id]
        self._lookahead = None
        self.last_token = token_id
        self._remember_next()

    def before_word(self) -> "Cursor":
        """Where the next word begins: another cursor if the text ends with a space, else this one.

        With the rule `bpe` a word's first token holds the space before it. So the place is the one before that space,
        if the token before it is pending; else it is after the space.
        """
        before = self._spaces.before(self.pending[-1]) if len(self.pending) > 1 else None
        if before is None:
            return self
        if len(self.pending) > 2:
            self._run(len(self.pending) - 2)
        place = self.copy()
        place.pending[1:] = before
        place.last_token, place._lookahead = place.pending[-1], None
        return place

    def look_ahead(self) -> tuple[NDArray[np.float32], State]:
        """Logits of the next token, and the state after all pending tokens; they run once."""
        if self._lookahead is None:
            self._require_pending()
            if self.memory is not None:
                self._run(len(self.pending) - 1)
            self._lookahead = self._predict()
        return self._lookahead

    def score(self, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """Append tokens, int64 [tokens], one where there is a cache; their log-probabilities, float64 [tokens]."""
        if self.memory is not None:
            log_probs = self.network.target_log_probs(self.logits()[None], ids[None])
            self.append(ids.tolist())
            return np.asarray(log_probs[0])
        self._require_pending()
        tokens, state = [*self.pending, *ids.tolist()], self.state
        stay = self._spaces.pending(tokens[-1])  # with the token before a space, see `before_word`
        found = []
        if leave := tokens[:-stay]:
            scored = ids[None, : len(ids) + 1 - stay]
            log_probs, state = self.network.run_log_probs(np.array([leave], np.int64), state, scored)
            found.append(log_probs[0])
        if stay > 1:
            before = np.array([tokens[-2:-1]], np.int64)
            found.append(self.network.run_log_probs(before, state, ids[None, -1:])[0][0])
        self.state, self.pending, self._lookahead, self.last_token = state, tokens[-stay:], None, tokens[-1]
        return np.concatenate(found)

    def _run(self, count: int) -> None:
        """Run the first `count` pending tokens: in one call, or one by one where a cache needs every hidden state."""
        size = count if self.memory is None else 1
        for _ in range(0, count, size):
            self.state = self.network.run(np.array([self.pending[:size]], np.int64), self.state, 1)[1]
            del self.pending[:size]
            self._remember_next()

    def _remember_next(self) -> None:
        """Cache the hidden state with the token that follows it, unless the network has read nothing yet."""
        if self.memory is not None and self.pending:
            hidden = self.network.last_hidden(self.state)[0]
            if hidden.any():
                self.memory.remember(hidden, self.pending[0])

    def _predict(self) -> tuple[NDArray[np.float32], State]:
        """Logits and the state after all pending tokens, of which there is 1 with a cache."""
        if len(self.pending) == 1:
            token_ids = self._one_token
            token_ids[0, 0] = self.pending[0]
        else:
            token_ids = np.array([self.pending], np.int64)
        logits, state = self.network.run(token_ids, self.state, 1)
        last = logits[0, -1]
        require_finite(last, "logits")
        if self.memory is not None:
            last = self.memory.mixed(last, self.network.last_hidden(state)[0])
            require_finite(last, "mixed logits")
        return freeze(last), state

    def _require_pending(self) -> None:
        if not self.pending:
            raise StateError(
                "nothing was fed since this state was returned by a step, so there is no next token to predict; "
                "feed a token, or begin from the state of a stream, which keeps its last token"
            )
