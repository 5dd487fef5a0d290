"""Perplexity of a network or of an exported artifact, by the same definition over the same corpus."""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from ..runtime.artifact.original import outdated
from ..runtime.artifact.summary import text_warning, training_warning
from ..runtime.cache import CacheOptions
from ..runtime.errors import NumberError
from ..runtime.predictor import Predictor
from ..runtime.score import format_perplexity
from ..runtime.session.session import check_threads
from ..runtime.text.text_size import perplexity
from ..runtime.vocabulary import Vocabulary
from .data.corpus import Corpus, load_corpus_with
from .data.texts import ALL, SPLITS
from .network import NetworkState
from .run import Run
from .run_choice import chosen_run

_READ = 2048
"""Tokens that the layers read at once."""

_SCORED = 128
"""Tokens whose logits are computed at once; with 33,000 words those of 256 take a third more time."""


class Network(Protocol):
    """What evaluation needs of a network: `LanguageModel` has it."""

    training: bool

    @property
    def projection(self) -> Any:
        """The module that computes the logits."""

    def initial_state(self, batch_size: int) -> NetworkState:
        """The all-zero state of `batch_size` rows."""

    def train(self, mode: bool = True) -> Any:
        """Switch dropout on, or off."""

    def read(self, token_ids: Tensor, state: NetworkState) -> Any:
        """The projection's input, twice, and the state after the last token, as `LanguageModel.read`."""


@contextlib.contextmanager
def single_thread() -> Iterator[None]:
    """Run the block with one torch thread.

    The matrix products of a single stream are too small to share: on a busy machine two threads that wait for each
    other are many times slower than one.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@torch.inference_mode()
def evaluate_perplexity(
    network: Network, token_ids: NDArray[np.int32], check: Callable[[], None] = lambda: None
) -> float:
    """exp(mean negative log-likelihood) of `token_ids` [tokens] read from the zero state, without dropout.

    The layers run on one thread, the projection on all that torch uses: it is most of the work of a large vocabulary.
    `check` is called every hundred tokens or so; an exception that it raises ends the evaluation.
    """
    device = network.projection.weight.device
    state = network.initial_state(1)
    was_training = network.training
    network.train(False)
    loss = 0.0
    try:
        for start in range(0, len(token_ids) - 1, _READ):
            ids = torch.from_numpy(token_ids[start : start + _READ + 1].astype(np.int64)).to(device)
            with single_thread():
                output, _, state = network.read(ids[None, :-1], state)
            for first in range(0, len(ids) - 1, _SCORED):
                check()
                logits = network.projection(output[0, first : first + _SCORED])
                loss += cross_entropy(logits, ids[1:][first : first + _SCORED], reduction="sum").item()
    finally:
        network.train(was_training)
    return perplexity(-loss, len(token_ids) - 1)


@final
@dataclass(frozen=True)
class Evaluation:
    """A measured perplexity.

    Attributes:
        what: The run or the artifact.
        corpus: Name of the corpus.
        split: Its split; `all` for the whole text.
        tokens: Number of its tokens; each after the first is scored.
        unknown: Number of tokens outside the vocabulary (each is scored as the unknown token).
        perplexity: exp(mean negative log-likelihood of a token).
        bits_per_byte: Negative log2-likelihood for each byte of the text, with the spelling of unknown tokens (see
            `Score`): comparable between models of any tokens.
        word_perplexity: The same for each word, newlines included, as a perplexity.
        cache: The cache that was used, if any.
        notes: Files of the corpus that were not read, and why.
        warning: That the artifact is older than its run's weights, the training ended worse than word frequencies, or
            the text takes over twice the bits per byte of the model's own test text;
            empty without reason.
    """

    what: str
    corpus: str
    split: str
    tokens: int
    unknown: int
    perplexity: float
    bits_per_byte: float
    word_perplexity: float
    cache: CacheOptions | None = None
    notes: tuple[str, ...] = ()
    warning: str = ""

    def format(self) -> str:
        """The result in one line."""
        line = (
            f"{self.what}: perplexity {format_perplexity(self.perplexity, 4)} on {self.split} of {self.corpus}, "
            f"{self.tokens:,} tokens, {self.unknown:,} unknown; {self.bits_per_byte:.4f} bits per byte, "
            f"{format_perplexity(self.word_perplexity)} a word"
        )
        if self.cache is not None:
            line += f", cache of {self.cache.size:,} (theta {self.cache.theta:g}, weight {self.cache.weight:g})"
        return line

    def to_json(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return asdict(self)


def evaluate_run(path: Path | None, data: str | None, split: str | None, threads: int) -> Evaluation:
    """Evaluate the best weights of a run.

    Args:
        path: Run folder; None for the latest.
        data: Corpus; None for the one it was trained on.
        split: `train`, `valid`, `test`, or `all` for the whole text; None for `all` of a single file, else for `test`.
        threads: Threads of torch, for the projection.

    Raises:
        RunError: There is no such run.
        OptionError: `threads` is outside its range.
        DataError: There is no such corpus or split, or the split has fewer than two tokens.
        NumberError: The perplexity is NaN or infinite.
    """
    check_threads(threads)
    run = chosen_run(path)
    network, checkpoint = run.trained()
    facts = run.training_facts(checkpoint)
    corpus, split = _text_of(run, data, split, run.vocabulary)
    torch.set_num_threads(threads)
    evaluation = _evaluate(str(run.path), corpus, split, lambda ids: evaluate_perplexity(network, ids))
    return replace(evaluation, warning=_warnings(evaluation, facts))


def evaluate_artifact(
    path: Path, data: str | None, split: str | None, provider: str, threads: int, cache: CacheOptions | None = None
) -> Evaluation:
    """Evaluate an artifact.

    Args:
        path: The artifact.
        data: Corpus; None for that of the run folder it lies in.
        split: As for `evaluate_run`.
        provider: Execution provider.
        threads: Threads of one call.
        cache: Continuous cache to evaluate with; the split is then read token by token.

    Raises:
        ArtifactError: The artifact cannot be used.
        DataError: There is no such corpus or split, or the split has fewer than two tokens.
        NumberError: The perplexity is NaN or infinite.
    """
    predictor = Predictor.load(path, provider=provider, threads=threads)
    run = Run.of_artifact(path) if data is None else Run(path.resolve().parent)
    corpus, split = _text_of(run, data, split, lambda: predictor.vocabulary)
    evaluation = _evaluate(str(path), corpus, split, lambda ids: predictor.perplexity(ids, cache=cache))
    warning = _warnings(evaluation, predictor.artifact.training, outdated(path, predictor.artifact))
    return replace(evaluation, cache=cache, warning=warning)


def _warnings(evaluation: Evaluation, facts: Mapping[str, Any], older: str = "") -> str:
    found = (older, training_warning(facts), text_warning(evaluation.bits_per_byte, facts))
    return "; ".join(filter(None, found))


def _text_of(run: Run, data: str | None, split: str | None, vocabulary: Callable[[], Vocabulary]) -> tuple[Corpus, str]:
    """The corpus and its split; of a foreign corpus only what the split needs."""
    if data is None:
        split = split or "test"
        return run.corpus(split if split in SPLITS else None), split
    whole = None if split is None else split == ALL
    corpus = load_corpus_with(data, vocabulary(), whole, split if split in SPLITS else "test")
    return corpus, split or (ALL if ALL in corpus.ids else "test")


def _evaluate(
    what: str, corpus: Corpus, split: str, compute_perplexity: Callable[[NDArray[np.int32]], float]
) -> Evaluation:
    ids = corpus.scorable(split)
    value = compute_perplexity(ids)
    if not math.isfinite(value):
        raise NumberError(
            f"the perplexity of {what} on {split} of {corpus.name} is {value}: its weights are too large or damaged; "
            "train again with a lower learning_rate or clip_norm"
        )
    unknown, figures = corpus.count_unknown(split), corpus.figures(split, value)
    return Evaluation(what, corpus.name, split, len(ids), unknown, value, *figures, notes=corpus.notes)
