"""The network of an artifact: token ids and states in, logits and states out.

Public methods check their arguments, here and nowhere else; `run` and `run_log_probs` trust theirs, so that a stream
checks its tokens once.
"""

import os
from collections.abc import Mapping, Set
from functools import cached_property
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arguments import checked_instance, checked_integer, wrong_type
from .arrays import Tensors, freeze, types
from .artifact.artifact import Artifact
from .cache import Cache, CacheMemory, CacheOptions
from .errors import ForkError, OptionError, StateError, TokenError, counted
from .score import require_finite
from .session.device import DeviceRunner
from .session.host import HostRunner
from .state import State
from .vocabulary import Vocabulary
from .word_search.word_finder import WordFinder

_NO_ARRAYS = (str, bytes, Mapping, Set, type(None))
"""Types of which numpy makes an array of one object."""


@final
class Network:
    """A network that any number of threads and streams share; it remembers nothing between calls."""

    def __init__(self, artifact: Artifact, runner: HostRunner | DeviceRunner) -> None:
        """`runner` calls the session of `artifact`."""
        self._runner = runner
        self._sha256 = artifact.sha256
        self.vocabulary: Vocabulary = artifact.vocabulary
        self._vocabulary_size = len(artifact.vocabulary)
        self._state_inputs = tuple(artifact.architecture.states)
        self._widths = tuple(artifact.architecture.states.values())
        self._last_hidden = self._state_inputs.index(f"hidden_{len(artifact.architecture.layer_sizes) - 1}")
        self._process = os.getpid()
        self._mark = object()  # states that this network made need no checks

    @cached_property
    def word_finder(self) -> WordFinder:
        """Finds words by tokens of the rule `bpe`."""
        return WordFinder(self)

    def initial_state(self, batch_size: int) -> State:
        """The all-zero state of `batch_size` streams; OptionError if it is below 1."""
        batch_size = checked_integer("batch_size", batch_size)
        if batch_size < 1:
            raise OptionError(f"batch_size is {batch_size}, expected 1 or more")
        tensors = tuple(freeze(np.zeros((batch_size, width), np.float32)) for width in self._widths)
        return State.made_by(self._mark, self._sha256, tensors, batch_size)

    def step(self, token_ids: ArrayLike, state: State, logits_to_keep: int | None) -> tuple[NDArray[np.float32], State]:
        """`Predictor.step`: check the arguments, then `run`."""
        tokens, given = self._checked(token_ids, state)
        kept = given if logits_to_keep is None else checked_integer("logits_to_keep", logits_to_keep)
        if logits_to_keep is not None and not 1 <= kept <= given:
            raise OptionError(f"logits_to_keep is {kept}, expected 1 to the {given} positions given")
        if tokens.shape[1] == 0:
            return np.zeros((len(tokens), 0, self._vocabulary_size), np.float32), state
        return self.run(tokens, state, kept)

    def log_probs(self, token_ids: ArrayLike, state: State, targets: ArrayLike) -> tuple[NDArray[np.float64], State]:
        """`Predictor.log_probs`: check the arguments, then `run_log_probs`."""
        tokens, given = self._checked(token_ids, state)
        wanted = self._checked_array(targets, "targets", 2).astype(np.int64, copy=False)
        if wanted.shape[0] != len(tokens) or not 1 <= wanted.shape[1] <= given:
            raise TokenError(
                f"targets has the shape {list(wanted.shape)}, expected [{len(tokens)}, positions] "
                f"for 1 to the {given} positions given"
            )
        return self.run_log_probs(tokens, state, wanted)

    def run(self, token_ids: NDArray[np.int64], state: State, kept: int) -> tuple[NDArray[np.float32], State]:
        """One call with checked arguments; `state.pending` is not run.

        Args:
            token_ids: int64 [batch, time], time at least 1.
            state: The state of the same batch.
            kept: Compute logits for this number of last positions.

        Returns:
            logits float32 [batch, kept, vocabulary], which may be NaN or infinite, and the state after the last token.

        Raises:
            ForkError: This process was forked from the one that loaded the artifact.
            ArtifactError: onnxruntime cannot run the graph.
        """
        if os.getpid() != self._process:
            raise self._fork_error()
        logits, tensors = self._runner.run(token_ids, state.tensors, kept)
        return logits, State.made_by(self._mark, self._sha256, tensors, len(token_ids))

    def run_rows(self, token_ids: NDArray[np.int64], tensors: Tensors) -> tuple[NDArray[np.float32], State]:
        """As `run`, after states that calls of this network returned, with the last position's logits."""
        return self.run(token_ids, State.made_by(self._mark, self._sha256, tensors, len(token_ids)), 1)

    def run_log_probs(
        self, token_ids: NDArray[np.int64], state: State, targets: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], State]:
        """As `run`: the log-probabilities of `targets`, int64 [batch, positions], at the last positions.

        Raises:
            NumberError: A log-probability is NaN or infinite.
        """
        if os.getpid() != self._process:
            raise self._fork_error()
        log_probs, tensors = self._runner.log_probs(token_ids, state.tensors, targets)
        require_finite(log_probs, "log-probabilities")
        return log_probs, State.made_by(self._mark, self._sha256, tensors, len(token_ids))

    def run_ranks(
        self, token_ids: NDArray[np.int64], state: State, targets: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64], State]:
        """As `run_log_probs`, and the rank of each target, int64 [batch, positions]: 1 for the most probable token.

        Raises:
            NumberError: A log-probability is NaN or infinite.
        """
        logits, after = self.run(token_ids, state, targets.shape[1])
        log_probs = self.target_log_probs(logits, targets[..., None])[..., 0]
        chosen = np.take_along_axis(logits, targets[..., None], axis=2)
        return log_probs, 1 + np.count_nonzero(logits > chosen, axis=2), after

    def target_log_probs(self, logits: NDArray[np.float32], targets: NDArray[np.int64]) -> NDArray[np.float64]:
        """Log-probabilities, float64 [..., k], of k targets of each row of logits float32 [..., vocabulary].

        Raises:
            NumberError: A log-probability is NaN or infinite.
        """
        log_probs = self._runner.target_log_probs(logits, targets)
        require_finite(log_probs, "log-probabilities")
        return log_probs

    def last_hidden(self, state: State) -> NDArray[np.float32]:
        """The last layer's hidden state, float32 [batch, width]."""
        return state.tensors[self._last_hidden]

    def cache_memory(self, cache: Cache | None, options: CacheOptions | None) -> CacheMemory | None:
        """The working cache of a stream that begins with the pairs of `cache`; None where there is no cache.

        Args:
            cache: The cache of the stream's state.
            options: None keeps those of `cache`; a weight of 0 drops it.
        """
        if options is not None:
            checked_instance("cache", options, CacheOptions)
        if options is None and cache is not None:
            options = cache.options
        if options is None or options.weight == 0:
            return None
        if cache is not None:
            return CacheMemory(cache.resized(options))
        width = self._widths[self._last_hidden]
        return CacheMemory(Cache(options, np.zeros((0, width), np.float32), np.zeros(0, np.int64)))

    def checked_ids(self, token_ids: ArrayLike) -> NDArray[np.integer[Any]]:
        """`token_ids` as an array [tokens] of their own integer type, not copied; TokenError if they are invalid."""
        return self._checked_array(token_ids, "token_ids", 1)

    def checked_text_or_ids(self, name: str, value: str | ArrayLike) -> str | NDArray[np.integer[Any]]:
        """Text as it is, or token ids as from `checked_ids`; ArgumentError for anything else."""
        if isinstance(value, str):
            return value
        if isinstance(value, _NO_ARRAYS) or np.isscalar(value):
            fix = 'decode it: str(data, "utf-8")' if isinstance(value, bytes) else ""
            raise wrong_type(name, value, "text (str) or token ids", fix)
        return self._checked_array(value, name, 1)

    def check_state(self, state: State, batch_size: int) -> None:
        """Raise StateError for a state of another model, batch size or shape."""
        if not isinstance(state, State):
            raise StateError(f"the state is {type(state).__name__}, expected a State; begin with initial_state()")
        if state.model_sha256 != self._sha256:
            raise StateError(
                f"the state belongs to the model {state.model_sha256[:12]}..., this is {self._sha256[:12]}..."
            )
        if len(state.tensors) != len(self._widths):
            raise StateError(f"the state has {counted(len(state.tensors), 'tensor')}, expected {len(self._widths)}")
        kinds = zip(state.shapes, types(state.tensors), strict=True)
        for name, (shape, kind), width in zip(self._state_inputs, kinds, self._widths, strict=True):
            if shape != (batch_size, width) or kind != np.float32:
                raise StateError(f"the state's {name} is {kind} {list(shape)}, expected float32 {[batch_size, width]}")
        if state.cache is not None:
            self._check_cache(state.cache, batch_size)
        if state.pending.size:
            self._checked_array(state.pending, "token_ids", 2)
            if state.pending.shape[0] != batch_size:
                streams = counted(state.pending.shape[0], "stream")
                raise StateError(f"the state's pending tokens are of {streams}, expected {batch_size}")

    def _check_cache(self, cache: Cache, batch_size: int) -> None:
        self.checked_ids(cache.token_ids)
        width = self._widths[self._last_hidden]
        if cache.hidden.shape[1] != width or cache.hidden.dtype != np.float32 or batch_size != 1:
            raise StateError(
                f"the state's cache holds {cache.hidden.dtype} {list(cache.hidden.shape)} for a batch of {batch_size}, "
                f"expected float32 [pairs, {width}] for one stream"
            )

    def _checked(self, token_ids: ArrayLike, state: State) -> tuple[NDArray[np.int64], int]:
        """All tokens that a call has to read, int64 [batch, time], and the number of positions in `token_ids`."""
        tokens = self._checked_array(token_ids, "token_ids", 2).astype(np.int64, copy=False)
        batch_size, given = tokens.shape
        if state.__class__ is State and state.is_made_by(self._mark, batch_size):
            return tokens, given
        self.check_state(state, batch_size)
        if state.cache is not None:
            raise StateError(
                f"the state has a stream's cache of {counted(len(state.cache), 'pair')}, which a step would lose; "
                f"go on with predictor.stream(state=...), or drop it: dataclasses.replace(state, cache=None)"
            )
        return (np.concatenate([state.pending, tokens], axis=1) if state.pending.size else tokens), given

    def _checked_array(self, token_ids: ArrayLike, name: str, axes: int) -> NDArray[np.integer[Any]]:
        if token_ids.__class__ not in (np.ndarray, list) and isinstance(token_ids, _NO_ARRAYS):
            raise wrong_type(name, token_ids, "token ids", "of a text: predictor.vocabulary.encode(text)")
        try:
            tokens = np.asarray(token_ids)
        except (TypeError, ValueError) as error:
            raise TokenError(f"token ids are no array: {error}") from error
        if tokens.dtype.kind in "US":
            raise wrong_type(name, token_ids, "token ids", 'of words: predictor.vocabulary.encode(" ".join(words))')
        if tokens.ndim != axes or (axes == 2 and len(tokens) == 0):
            expected = "[batch, time]" if axes == 2 else "[tokens]"
            raise TokenError(f"{name} has the shape {list(tokens.shape)}, expected {expected}")
        if tokens.size == 1 and tokens.dtype == np.int64 and 0 <= tokens.item() < self._vocabulary_size:
            return tokens
        if tokens.size == 0:
            return tokens
        if tokens.dtype.kind not in "iu":
            raise TokenError(f"{name} has the type {tokens.dtype}, expected int64")
        lowest, highest = tokens.min(), tokens.max()
        if lowest < 0 or highest >= self._vocabulary_size:
            wrong = lowest if lowest < 0 else highest
            raise TokenError(f"token id {wrong} is outside the vocabulary, expected 0 to {self._vocabulary_size - 1}")
        return tokens

    def _fork_error(self) -> ForkError:
        return ForkError(
            f"the predictor was loaded in process {self._process}, this is {os.getpid()}: no session lives on "
            f"after a fork; load the artifact in each process, after the fork"
        )
