"""The predictor: one artifact in one onnxruntime session, for any number of threads and streams."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arguments import checked_flag, checked_path, checked_text, wrong_type
from .artifact.artifact import Artifact
from .batches.batch_invariance import first_difference
from .batches.line_scorer import BATCH_SIZES, LineScorer
from .cache import CacheOptions
from .errors import ArgumentError, ArtifactError, TokenError, counted
from .io.files import read_bytes
from .network import Network
from .score import Score, word_log_probs
from .session.providers import Provider, placement, provider_named
from .session.session import SessionOptions, create_runner, create_session
from .state import State
from .stream import Stream
from .text.text_size import perplexity
from .vocabulary import Vocabulary

_BYTES = (bytes, bytearray, memoryview)


@final
class Predictor:
    """A loaded language model. State goes in and comes out as a value; a predictor remembers nothing.

    Pickling, as for `multiprocessing`, sends the path and the hash of its file, which is loaded there.

    Attributes:
        artifact: The file's metadata.
        provider: Short name of the execution provider that runs it.
        threads: Threads of one call.
        session: onnxruntime's session.
        network: Runs the session; checks all arguments.

    Example:
        >>> from lmtool.runtime import Predictor
        >>> predictor = Predictor.load("model.onnx")
        >>> state = predictor.initial_state(batch_size=2)
        >>> logits, state = predictor.step([[2, 7, 1], [0, 4, 4]], state)
        >>> logits.shape == (2, 3, len(predictor.vocabulary))
        True
        >>> logits, state = predictor.step([[5], [3]], state)            # continues from the last step
        >>> len(predictor.score("the cat").token_log_probs)
        2
    """

    def __init__(
        self, artifact: Artifact, session: Any, provider: Provider, options: SessionOptions, path: Path | None = None
    ) -> None:
        """Use `Predictor.load`."""
        self._options = options
        self._path = path
        self.artifact = artifact
        self.provider = provider.name
        self.threads = options.threads
        self.session = session
        self.network = Network(artifact, create_runner(session, artifact, provider, options))

    @classmethod
    def load(
        cls,
        source: Path | str | bytes | bytearray | memoryview,
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
            source: Path or bytes of the artifact.
            provider: `cpu`, `cuda`, ... (`lmtool.runtime.PROVIDERS`). Loading fails rather than use another one.
            threads: Threads of one call on the CPU.
            sha256: The expected `lmtool.sha256`; None accepts any.
            spinning: Busy-wait between calls: faster calls with several threads on an otherwise idle machine.
            memory_arena: Keep the memory of the largest call for later calls instead of freeing it.
            provider_options: Options of the provider by onnxruntime's names, as `{"device_id": "1"}`. CUDA computes
                without TF32 unless they hold `use_tf32`.

        Raises:
            StorageError: The file cannot be read.
            ArtifactError: It is not an artifact, is damaged, breaks the contract, holds a NaN or infinite weight, or
                its hash is not `sha256`.
            ProviderError: The provider is not available, or would not run the recurrent layers.
            OptionError: An argument is outside its range.
        """
        chosen = provider_named(provider)
        options = SessionOptions(threads, spinning, memory_arena, {} if provider_options is None else provider_options)
        if isinstance(source, _BYTES):
            data, name = bytes(source), "the artifact"
        else:
            data, name = read_bytes(checked_path("source", source)), str(source)
        artifact = Artifact.parse(data, name)
        if sha256 is not None and checked_text("sha256", sha256).lower() != artifact.sha256:
            raise ArtifactError(f"the hash of {name} is {artifact.sha256}, the pinned one is {sha256}")
        path = None if isinstance(source, _BYTES) else checked_path("source", source).absolute()
        return cls(artifact, create_session(data, artifact, chosen, options), chosen, options, path)

    def __repr__(self) -> str:
        sizes = " ".join(map(str, self.artifact.architecture.layer_sizes))
        return (
            f"<Predictor {self._path or 'from bytes'}: {self.artifact.architecture.cell} {sizes}, "
            f"{len(self.vocabulary):,} tokens, {self.artifact.variant}, {self.provider}, threads={self.threads}>"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the file's path, its hash and the options; unpickling loads that file, and refuses another hash.

        Raises:
            ArgumentError: It was loaded from bytes.
        """
        if self._path is None:
            raise ArgumentError(
                "a predictor that was loaded from bytes cannot be pickled, expected one of a file; "
                "send the bytes, and load them there: Predictor.load(data)"
            )
        return _reload, (self._path, self.artifact.sha256, self.provider, asdict(self._options))

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens; converts text to ids and back."""
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
        return self.network.initial_state(batch_size)

    def step(
        self, token_ids: ArrayLike, state: State, *, logits_to_keep: int | None = None
    ) -> tuple[NDArray[np.float32], State]:
        """Read tokens.

        Logits may be NaN or infinite; `log_probs`, `score`, `perplexity` and streams check them.

        Args:
            token_ids: int64 [batch, time], any time including 0, each id in [0, vocabulary).
            state: The state of the same batch; it is not changed.
            logits_to_keep: Compute logits for the last k positions only, 1 <= k <= time; None for all.

        Returns:
            logits float32 [batch, kept, vocabulary] of the token after each position, and the state after the last.

        Raises:
            TokenError: `token_ids` has another type or shape, or an id lies outside the vocabulary.
            StateError: The state is another model's, has another batch size or shape, or has the cache of a stream.
            OptionError: `logits_to_keep` is outside its range.
        """
        return self.network.step(token_ids, state, logits_to_keep)

    def log_probs(self, token_ids: ArrayLike, state: State, targets: ArrayLike) -> tuple[NDArray[np.float64], State]:
        """Read tokens, and return the log-probabilities of `targets` after the last of them.

        Args:
            token_ids: int64 [batch, time], as for `step`.
            state: The state of the same batch; it is not changed.
            targets: int64 [batch, positions], 1 <= positions <= time, each id in [0, vocabulary): one token after each
                of the last positions.

        Returns:
            Natural log-probabilities, float64 [batch, positions], and the state after the last token. On a GPU only
            these are copied back.

        Example:
            >>> from lmtool.runtime import Predictor
            >>> predictor = Predictor.load("model.onnx")
            >>> log_probs, state = predictor.log_probs([[0, 4, 4]], predictor.initial_state(), targets=[[4, 7]])
            >>> log_probs.shape                                          # of 4 after 0 4, and of 7 after 0 4 4
            (1, 2)

        Raises:
            TokenError: As for `step`, of `token_ids` and `targets`.
            StateError: As for `step`.
            NumberError: A log-probability is NaN or infinite.
        """
        return self.network.log_probs(token_ids, state, targets)

    def stream(self, state: State | None = None, *, cache: CacheOptions | None = None) -> Stream:
        """A text stream for one owner.

        Args:
            state: Where to continue, batch 1; it is not changed. None begins a sentence.
            cache: Adapts the stream to its own text by a continuous cache (see `lmtool.runtime.cache`), which starts
                with the pairs of the state's cache. None keeps the state's options; a weight of 0 drops the cache.

        Raises:
            StateError: The state is another model's, holds more than one stream, or a NaN or infinite number.
        """
        if state is None:
            start = np.array([[self.vocabulary.end_of_sentence_id]], np.int64)
            return self._stream(replace(self.initial_state(1), pending=start), cache)
        self.network.check_state(state, 1)
        state.require_finite()
        return self._stream(state, cache)

    def _stream(self, state: State, cache: CacheOptions | None = None) -> Stream:
        return Stream(self.network, state, self.network.cache_memory(state.cache, cache))

    def score(self, text: str | Sequence[int], *, context: Sequence[int] | None = None) -> Score:
        """The log-probability of every token of a text.

        The spelling of an unknown word counts (see `Score`), but not that of an unknown token id.

        Args:
            text: Text, or token ids.
            context: Token ids before the text; None for the start of a sentence (the end-of-sentence token).

        Raises:
            TokenError: An id lies outside the vocabulary, or `context` is empty.
            NumberError: A log-probability is NaN or infinite.
        """
        scored = self.network.checked_text_or_ids("text", text)
        before = self.network.checked_ids([self.vocabulary.end_of_sentence_id] if context is None else context)
        if before.size == 0:
            raise TokenError("context is empty; the first token needs at least one token before it")
        before = before.astype(np.int64, copy=False)[None]
        state = self.initial_state(1)
        if before.size > 1:
            state = self.network.run(before[:, :-1], state, 1)[1]
        return self._stream(replace(state, pending=before[:, -1:])).score(scored)

    def score_words(self, text: str) -> list[tuple[str, float]]:
        """The words of a text with their log-probabilities, which sum to the text's: each the sum of its tokens'.

        Words are what stands between white space, whatever the model's tokens are, and newlines.

        Example:
            >>> from lmtool.runtime import Predictor
            >>> predictor = Predictor.load("model.onnx")
            >>> [word for word, log_prob in predictor.score_words("the cat saw a dog.")]
            ['the', 'cat', 'saw', 'a', 'dog.']

        Raises:
            NumberError: A log-probability is NaN or infinite.
        """
        return word_log_probs(checked_text("text", text), self.score(text), self.vocabulary)

    def scores(self, lines: Iterable[str], *, ranks: bool = False) -> Iterator[Score]:
        """The scores of many lines, each a separate text, in their order: those of `score`, to the bit.

        If the artifact is batch-invariant, and this machine confirms it, lines of similar length share a call, which is
        1.6 to 2 times as fast. Memory is bounded for any number of lines: at most 2,048 lines, or 131,072 characters
        and the line that exceeds them, are read ahead of the score that is yielded.

        Args:
            lines: A list, an open text file, or any other iterable of texts. A newline in a text, also at its end, is
                scored as the end of a sentence.
            ranks: Find the rank of each token among the vocabulary too (`Score.ranks`).

        Example:
            >>> from lmtool.runtime import Predictor
            >>> predictor = Predictor.load("model.onnx")
            >>> [len(score.tokens) for score in predictor.scores(["the cat", "", "a dog saw the cat"])]
            [2, 0, 5]
            >>> all(rank >= 1 for score in predictor.scores(["the cat"], ranks=True) for rank in score.ranks)
            True

        Raises:
            ArgumentError: `lines` is a single text, `ranks` is not a bool; when it is reached, a line that is not text.
            NumberError: When it is reached: a log-probability is NaN or infinite.
        """
        if isinstance(lines, str) or not isinstance(lines, Iterable):
            raise wrong_type("lines", lines, "a list or iterator of texts", "of one text: predictor.score(text)")
        return LineScorer(self, checked_flag("ranks", ranks)).scores(lines)

    @cached_property
    def batches_are_exact(self) -> bool:
        """Whether lines of a batch get the numbers that each gets alone: the artifact says so, and it was measured."""
        return self.artifact.batch_invariant and first_difference(self, BATCH_SIZES) is None

    def perplexity(self, token_ids: NDArray[np.integer[Any]], *, cache: CacheOptions | None = None) -> float:
        """Perplexity of one unbroken stream: each token after the first is scored once, from the zero state.

        Args:
            token_ids: integer [tokens], at least two.
            cache: Read them token by token with this cache.

        Raises:
            TokenError: There are fewer than two, or an id lies outside the vocabulary.
            NumberError: A log-probability is NaN or infinite.
        """
        ids = self.network.checked_ids(token_ids)
        if len(ids) < 2:
            raise TokenError(f"the text has {counted(len(ids), 'token')}, expected at least 2 for a perplexity")
        first = ids[None, :1].astype(np.int64)
        stream = self._stream(replace(self.initial_state(1), pending=first), cache)
        total = sum(float(chunk.sum()) for chunk in stream.token_log_probs(ids[1:]))
        return perplexity(total, len(ids) - 1)


def _reload(path: Path, sha256: str, provider: str, options: dict[str, Any]) -> Predictor:
    return Predictor.load(path, sha256=sha256, provider=provider, **options)
