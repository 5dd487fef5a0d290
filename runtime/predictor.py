"""The predictor: one artifact in one onnxruntime session, shared by any number of threads and streams.

numpy and onnxruntime, nothing else. State goes in and comes out as a value; a predictor remembers nothing.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arrays import freeze, types
from .artifact.artifact import Artifact
from .cache import Cache, CacheMemory, CacheOptions
from .errors import ArtifactError, ForkError, OptionError, StateError, TokenError
from .io.files import read_bytes
from .score import Score, perplexity, require_finite
from .session.providers import Provider, placement, provider_named
from .session.session import SessionOptions, create_runner, create_session
from .state import State
from .stream import Stream
from .vocabulary import Vocabulary


@final
class Predictor:
    """A loaded language model.

    Attributes:
        artifact: What it was loaded from.
        provider: Short name of the execution provider that runs it.
        threads: Threads of one call.
        session: onnxruntime's session.

    Example:
        >>> from lmtool.runtime import Predictor
        >>> predictor = Predictor.load("model.onnx")
        >>> state = predictor.initial_state(batch_size=2)
        >>> logits, state = predictor.step([[2, 7, 1], [0, 4, 4]], state)
        >>> logits.shape == (2, 3, len(predictor.vocabulary))
        True
        >>> logits, state = predictor.step([[5], [3]], state)            # goes on where the last step ended
        >>> predictor.score("the cat").token_log_probs.shape
        (2,)
    """

    def __init__(self, artifact: Artifact, session: Any, provider: Provider, options: SessionOptions) -> None:
        """Use `Predictor.load`."""
        self.artifact = artifact
        self.provider = provider.name
        self.threads = options.threads
        self.session = session
        self._runner = create_runner(session, artifact, provider, options)
        self._widths = tuple(artifact.architecture.states.values())
        self._state_inputs = tuple(artifact.architecture.states)
        self._last_hidden = self._state_inputs.index(f"hidden_{len(artifact.architecture.layer_sizes) - 1}")
        self._vocabulary_size = len(artifact.vocabulary)
        self._process = os.getpid()
        self._mark = object()  # of the states that this predictor made

    @classmethod
    def load(
        cls,
        source: Path | str | bytes,
        *,
        provider: str = "cpu",
        threads: int = 1,
        sha256: str | None = None,
        spinning: bool = False,
        memory_arena: bool = False,
        provider_options: Mapping[str, str] | None = None,
    ) -> "Predictor":
        """Load an artifact.

        Args:
            source: Its path, or its bytes.
            provider: `cpu`, `cuda`, ... (`lmtool.runtime.PROVIDERS`). It is used or refused, never replaced.
            threads: Threads of one call on the CPU.
            sha256: The `lmtool.sha256` that the artifact must have; None takes any.
            spinning: Let threads wait for work awake: quicker calls of several threads on a machine with nothing else
                to do.
            memory_arena: Keep the memory of the largest call so far for later ones instead of giving it back.
            provider_options: Options of the provider by onnxruntime's names, as `{"device_id": "1"}`. CUDA computes
                without TF32 unless they hold `use_tf32`.

        Raises:
            StorageError: The file cannot be read.
            ArtifactError: It is no artifact, is damaged, is another one than `sha256` says, breaks the contract, or has
                a weight that is no finite number.
            ProviderError: The provider is not there, or would not run the recurrent layers.
            OptionError: An argument is outside its range.
        """
        chosen = provider_named(provider)
        options = SessionOptions(threads, spinning, memory_arena, dict(provider_options or {}))
        data = source if isinstance(source, bytes) else read_bytes(Path(source))
        where = "the artifact" if isinstance(source, bytes) else str(source)
        artifact = Artifact.parse(data, where)
        if sha256 is not None and sha256.lower() != artifact.sha256:
            raise ArtifactError(f"the hash of {where} is {artifact.sha256}, the pinned one is {sha256}")
        return cls(artifact, create_session(data, artifact, chosen, options), chosen, options)

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens, and text <-> ids."""
        return self.artifact.vocabulary

    @property
    def placement(self) -> dict[str, dict[str, int]]:
        """Where the nodes run: provider -> operator -> number of nodes."""
        return placement(self.session)

    def initial_state(self, batch_size: int = 1) -> State:
        """The all-zero state of `batch_size` streams that have read nothing.

        Raises:
            OptionError: `batch_size` is below 1.
        """
        if batch_size < 1:
            raise OptionError(f"batch_size is {batch_size}, expected 1 or more")
        tensors = tuple(freeze(np.zeros((batch_size, width), np.float32)) for width in self._widths)
        return State.made_by(self._mark, self.artifact.sha256, tensors, batch_size)

    def step(
        self, token_ids: ArrayLike, state: State, *, logits_to_keep: int | None = None
    ) -> tuple[NDArray[np.float32], State]:
        """Read tokens.

        What the network computes is returned as it is. That logits are numbers is checked by all that makes something
        of them: `log_probs`, `score`, `perplexity` and streams.

        Args:
            token_ids: int64 [batch, time], any time including 0, each id in [0, vocabulary).
            state: The state of the same batch; it is not changed.
            logits_to_keep: Compute logits for the last k positions only, 1 <= k <= time; None for all.

        Returns:
            logits float32 [batch, kept, vocabulary] (of the token after each position), and the state after the last.

        Raises:
            TokenError: `token_ids` has another type or shape, or an id lies outside the vocabulary.
            StateError: The state is another model's, has another batch size or shape, or has the cache of a stream.
            OptionError: `logits_to_keep` is outside its range.
        """
        tokens, given = self._checked(token_ids, state)
        kept = given if logits_to_keep is None else logits_to_keep
        if logits_to_keep is not None and not 1 <= kept <= given:
            raise OptionError(f"logits_to_keep is {kept}, expected 1 to the {given} positions given")
        batch_size, time = tokens.shape
        if time == 0:
            return np.zeros((batch_size, 0, self._vocabulary_size), np.float32), state
        logits, tensors = self._runner.run(tokens, state.tensors, kept)
        return logits, State.made_by(self._mark, self.artifact.sha256, tensors, batch_size)

    def log_probs(self, token_ids: ArrayLike, state: State, targets: ArrayLike) -> tuple[NDArray[np.float64], State]:
        """Read tokens, and say how probable given tokens are after the last of them.

        Args:
            token_ids: int64 [batch, time], as for `step`.
            state: The state of the same batch; it is not changed.
            targets: int64 [batch, positions], 1 <= positions <= time, each id in [0, vocabulary): the token whose
                probability is asked for after each of the last positions.

        Returns:
            Natural log-probabilities, float64 [batch, positions], and the state after the last token. On a GPU these
            are all that comes back.

        Example:
            >>> from lmtool.runtime import Predictor
            >>> predictor = Predictor.load("model.onnx")
            >>> found, state = predictor.log_probs([[0, 4, 4]], predictor.initial_state(), targets=[[4, 7]])
            >>> found.shape                                              # of 4 after 0 4, and of 7 after 0 4 4
            (1, 2)

        Raises:
            TokenError: As for `step`, of `token_ids` and `targets`.
            StateError: As for `step`.
            NumberError: A log-probability is no finite number.
        """
        tokens, given = self._checked(token_ids, state)
        wanted = self._checked_tokens(targets, "targets")
        if wanted.shape[0] != len(tokens) or not 1 <= wanted.shape[1] <= given:
            raise TokenError(
                f"targets has the shape {list(wanted.shape)}, expected [{len(tokens)}, positions] "
                f"for 1 to the {given} positions given"
            )
        log_probs, tensors = self._runner.log_probs(tokens, state.tensors, wanted)
        require_finite(log_probs, "log-probabilities")
        return log_probs, State.made_by(self._mark, self.artifact.sha256, tensors, len(tokens))

    def _checked(self, token_ids: ArrayLike, state: State) -> tuple[NDArray[np.int64], int]:
        """All tokens that a call has to read, int64 [batch, time], and how many of them were given."""
        if os.getpid() != self._process:
            raise ForkError(
                f"the predictor was loaded in process {self._process}, this is {os.getpid()}: no session lives on "
                f"after a fork; load the artifact in each process, after the fork"
            )
        tokens = self._checked_tokens(token_ids)
        batch_size, given = tokens.shape
        if state.__class__ is State and state.is_made_by(self._mark, batch_size):
            return tokens, given
        self.check_state(state, batch_size)
        if state.cache is not None:
            raise StateError(
                f"the state has a stream's cache of {len(state.cache)} pairs, which a step would lose; "
                f"go on with predictor.stream(state=...), or drop it: dataclasses.replace(state, cache=None)"
            )
        return (np.concatenate([state.pending, tokens], axis=1) if state.pending.size else tokens), given

    def stream(self, state: State | None = None, *, cache: CacheOptions | None = None) -> Stream:
        """A text stream for one owner, at the start of a sentence or going on from `state`.

        Args:
            state: Where to go on; it is not changed.
            cache: Adapts the stream to its own text by a continuous cache (see `lmtool.runtime.cache`), which goes on
                with what the state's cache holds, if it has one. None keeps the state's options; a weight of 0 drops
                the cache.

        Raises:
            StateError: The state is another model's, holds more than one stream, or numbers that are not finite.
        """
        if state is None:
            start = np.array([[self.vocabulary.end_of_sentence_id]], np.int64)
            state = replace(self.initial_state(1), pending=start)
        self.check_state(state, 1)
        state.require_finite()
        return Stream(self, state, self._cache_memory(state.cache, cache))

    def _cache_memory(self, kept: Cache | None, options: CacheOptions | None) -> CacheMemory | None:
        if options is None and kept is not None:
            options = kept.options
        if options is None or options.weight == 0:
            return None
        if kept is not None:
            return CacheMemory(kept.resized(options))
        width = self._widths[self._last_hidden]
        return CacheMemory(Cache(options, np.zeros((0, width), np.float32), np.zeros(0, np.int64)))

    def last_hidden(self, state: State) -> NDArray[np.float32]:
        """The last layer's hidden state, float32 [batch, width]."""
        return state.tensors[self._last_hidden]

    def score(self, text: str | Sequence[int], *, context: Sequence[int] | None = None) -> Score:
        """The log-probability of every token of a text.

        Args:
            text: Text, or token ids.
            context: Token ids that stand before it; None for a sentence's start (the end-of-sentence token).

        Raises:
            TokenError: An id lies outside the vocabulary, or `context` is empty.
            NumberError: A log-probability is no finite number.
        """
        token_ids = self.checked_ids(self.vocabulary.encode(text) if isinstance(text, str) else text)
        before = self.checked_ids([self.vocabulary.end_of_sentence_id] if context is None else context)
        if before.size == 0:
            raise TokenError("context is empty; the first token needs at least one token before it")
        state = self.initial_state(1)
        if len(before) > 1:
            state = self.step(before[None, :-1], state, logits_to_keep=1)[1]
        return self.stream(replace(state, pending=before[None, -1:])).score(token_ids)

    def perplexity(self, token_ids: NDArray[np.integer[Any]], *, cache: CacheOptions | None = None) -> float:
        """Perplexity of one unbroken stream: each token after the first is scored once, from the zero state.

        Args:
            token_ids: integer [tokens], at least two.
            cache: Read them by a stream with this cache, token by token.

        Raises:
            TokenError: There are fewer than two, or an id lies outside the vocabulary.
            NumberError: A log-probability is no finite number.
        """
        if len(token_ids) < 2:
            raise TokenError(f"{len(token_ids)} tokens have no perplexity, expected at least 2")
        ids = self._checked_array(token_ids)
        stream = self.stream(self.initial_state(1), cache=cache)
        stream.feed_ids(ids[:1])
        total = sum(float(chunk.sum()) for chunk in stream.token_log_probs(ids[1:]))
        return perplexity(total, len(ids) - 1)

    def checked_ids(self, token_ids: ArrayLike) -> NDArray[np.int64]:
        """`token_ids` as int64 [tokens].

        Raises:
            TokenError: They have another type or shape, or one lies outside the vocabulary.
        """
        return self._checked_array(token_ids).astype(np.int64, copy=False)

    def _checked_array(self, token_ids: ArrayLike) -> NDArray[np.integer[Any]]:
        """`token_ids` [tokens] in the type they came in, not copied."""
        ids = _array(token_ids)
        if ids.ndim != 1:
            raise TokenError(f"token ids have the shape {list(ids.shape)}, expected [tokens]")
        self._check_values(ids)
        return ids

    def _checked_tokens(self, token_ids: ArrayLike, name: str = "token_ids") -> NDArray[np.int64]:
        tokens = _array(token_ids)
        if tokens.ndim != 2 or tokens.shape[0] < 1:
            raise TokenError(f"{name} has the shape {list(tokens.shape)}, expected [batch, time]")
        self._check_values(tokens, name)
        return tokens.astype(np.int64, copy=False)

    def _check_values(self, tokens: NDArray[Any], name: str = "token_ids") -> None:
        if tokens.size == 1 and tokens.dtype == np.int64 and 0 <= tokens.item() < self._vocabulary_size:
            return
        if tokens.size == 0:
            return
        if tokens.dtype.kind not in "iu":
            raise TokenError(f"{name} has the type {tokens.dtype}, expected int64")
        lowest, highest = tokens.min(), tokens.max()
        if lowest < 0 or highest >= self._vocabulary_size:
            wrong = lowest if lowest < 0 else highest
            raise TokenError(f"token id {wrong} is outside the vocabulary, expected 0 to {self._vocabulary_size - 1}")

    def check_state(self, state: State, batch_size: int) -> None:
        """Check that a state fits this model and so many streams.

        Raises:
            StateError: It is another model's, or has another batch size or shape.
        """
        if not isinstance(state, State):
            raise StateError(f"the state is {type(state).__name__}, expected a State; begin with initial_state()")
        if state.model_sha256 != self.artifact.sha256:
            raise StateError(
                f"the state belongs to the model {state.model_sha256[:12]}..., this is {self.artifact.sha256[:12]}..."
            )
        if len(state.tensors) != len(self._widths):
            raise StateError(f"the state has {len(state.tensors)} tensors, expected {len(self._widths)}")
        kinds = zip(state.shapes, types(state.tensors), strict=True)
        for name, (shape, kind), width in zip(self._state_inputs, kinds, self._widths, strict=True):
            if shape != (batch_size, width) or kind != np.float32:
                raise StateError(f"the state's {name} is {kind} {list(shape)}, expected float32 {[batch_size, width]}")
        if state.cache is not None:
            self._check_cache(state.cache, batch_size)
        if state.pending.size:
            self._checked_tokens(state.pending)
            if state.pending.shape[0] != batch_size:
                raise StateError(
                    f"the state's pending tokens are of {state.pending.shape[0]} streams, expected {batch_size}"
                )

    def _check_cache(self, cache: Cache, batch_size: int) -> None:
        self.checked_ids(cache.token_ids)
        width = self._widths[self._last_hidden]
        if cache.hidden.shape[1] != width or cache.hidden.dtype != np.float32 or batch_size != 1:
            raise StateError(
                f"the state's cache holds {cache.hidden.dtype} {list(cache.hidden.shape)} for a batch of {batch_size}, "
                f"expected float32 [pairs, {width}] for one stream"
            )


def _array(token_ids: ArrayLike) -> NDArray[Any]:
    try:
        return np.asarray(token_ids)
    except ValueError as error:
        raise TokenError(f"token ids are no array: {error}") from error
