"""Perplexity from either side of the export, by one definition and over one corpus."""

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, final

import torch

from ..runtime.cache import CacheOptions
from ..runtime.errors import NumberError
from ..runtime.predictor import Predictor
from ..runtime.threads import check_threads
from .corpus import Corpus, load_corpus_with
from .errors import DataError
from .evaluation import evaluate_perplexity
from .run import Run, chosen_run


@final
@dataclass(frozen=True)
class Evaluation:
    """A measured perplexity.

    Attributes:
        what: The run or the artifact.
        corpus: Name of the corpus.
        split: Its split.
        tokens: Number of its tokens; each after the first is scored.
        unknown: How many are outside the vocabulary (each is scored as the unknown token).
        perplexity: exp(mean negative log-likelihood of a token).
        cache: The cache it was read with, if any.
    """

    what: str
    corpus: str
    split: str
    tokens: int
    unknown: int
    perplexity: float
    cache: CacheOptions | None = None

    def format(self) -> str:
        """The findings in one line."""
        line = (
            f"{self.what}: perplexity {self.perplexity:.4f} on {self.split} of {self.corpus}, {self.tokens:,} tokens, "
            f"{self.unknown:,} unknown"
        )
        if self.cache is not None:
            line += f", cache of {self.cache.size:,} (theta {self.cache.theta:g}, weight {self.cache.weight:g})"
        return line

    def to_json(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return asdict(self)


def evaluate_run(path: Path | None, data: str | None, split: str, threads: int) -> Evaluation:
    """Evaluate the best weights of a run.

    Args:
        path: Run folder; None for the latest.
        data: Corpus; None for the one it was trained on.
        split: `train`, `valid` or `test`.
        threads: Threads of torch.

    Raises:
        RunError: There is no such run.
        OptionError: `threads` is outside its range.
        DataError: There is no such corpus or split, or the split has fewer than two tokens.
        NumberError: The perplexity is no finite number.
    """
    check_threads(threads)
    run = chosen_run(path)
    network, _ = run.trained()
    corpus = run.corpus() if data is None else load_corpus_with(data, run.vocabulary())
    torch.set_num_threads(threads)
    return _evaluation(str(run.path), corpus, split, lambda ids: evaluate_perplexity(network, ids))


def evaluate_artifact(
    path: Path, data: str | None, split: str, provider: str, threads: int, cache: CacheOptions | None = None
) -> Evaluation:
    """Evaluate an artifact.

    Args:
        path: The artifact.
        data: Corpus; None for that of the run folder it lies in.
        split: `train`, `valid` or `test`.
        provider: Execution provider.
        threads: Threads of one call.
        cache: Read the split with this continuous cache, token by token.

    Raises:
        ArtifactError: The artifact cannot be used.
        DataError: There is no such corpus or split, or the split has fewer than two tokens.
        NumberError: The perplexity is no finite number.
    """
    predictor = Predictor.load(path, provider=provider, threads=threads)
    run = Run(path.resolve().parent)
    if data is None and not run.best.exists():
        raise DataError(
            f"{path} lies in no run folder, so its corpus is not known; name one: --data pydocs, or a folder"
        )
    corpus = run.corpus() if data is None else load_corpus_with(data, predictor.vocabulary)
    found = _evaluation(str(path), corpus, split, lambda ids: predictor.perplexity(ids, cache=cache))
    return replace(found, cache=cache)


def _evaluation(what: str, corpus: Corpus, split: str, measure: Any) -> Evaluation:
    ids = corpus.split(split)
    if len(ids) < 2:
        raise DataError(f"the {split} text of {corpus.name} holds {len(ids)} tokens, expected at least 2")
    found = measure(ids)
    if not math.isfinite(found):
        raise NumberError(
            f"the perplexity of {what} on {split} of {corpus.name} is {found}: its weights are too large or damaged; "
            "train again with a lower learning_rate or clip_norm"
        )
    return Evaluation(what, corpus.name, split, len(ids), corpus.count_unknown(split), found)
