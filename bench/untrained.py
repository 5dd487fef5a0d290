"""Run folders of networks that nobody trained: for measurements over sizes of which there is no trained one.

What a network costs does not depend on what it has learned. The folder is what a training writes, but for the corpus:
export and verification take it as any other run, and draw the text that they compare from the network.
"""

import hashlib
from pathlib import Path

from ..model.checkpoint import Checkpoint
from ..model.config import TrainConfig
from ..model.corpus import Corpus
from ..model.network import initial_network
from ..model.run import Run
from ..runtime.artifact import Architecture
from ..runtime.errors import OptionError
from ..runtime.tokenization import Tokenization
from ..runtime.vocabulary import Vocabulary

_PRESET = "untrained"
_NO_CORPUS = "no-corpus"
_INIT_RANGE = 0.05


def make_untrained_run(folder: Path, architecture: Architecture, vocabulary_size: int, seed: int) -> Run:
    """Write the run folder of a network as a training would begin it.

    Args:
        folder: Where; it holds no run yet.
        architecture: Cell and sizes.
        vocabulary_size: Tokens, the end of a sentence and the unknown one among them; the others are made up.
        seed: Of the weights, which are uniform in (-0.05, 0.05), biases 0.

    Raises:
        OptionError: A size is below 1, or there is no room for the two special tokens.
        ConfigError: The cell is not known, a size is too large, or tied layers do not fit each other.
        RunError: The folder holds a run.
        StorageError: It cannot be written.
    """
    vocabulary = _vocabulary(vocabulary_size)
    config = _config(architecture, seed)
    run = Run(folder)
    run.create(config, _no_corpus(folder, vocabulary))
    facts = {"epoch": 0, "valid_perplexity": None, "test_perplexity": None}
    weights = initial_network(config, vocabulary_size).weights()
    Checkpoint.of_weights(weights, vocabulary, facts).write(run.best)
    return run


def _vocabulary(size: int) -> Vocabulary:
    """The special tokens and `word2`, `word3`, ..., each with its id."""
    tokenization = Tokenization()
    specials = tokenization.specials
    if size < len(specials):
        raise OptionError(
            f"vocabulary_size is {size}, expected {len(specials)} or more: {' and '.join(specials)} are among them"
        )
    return Vocabulary([*specials, *(f"word{number}" for number in range(len(specials), size))], tokenization)


def _config(architecture: Architecture, seed: int) -> TrainConfig:
    sizes = {"embedding_size": (architecture.embedding_size,), "layer_sizes": architecture.layer_sizes}
    for name, found in sizes.items():
        if min(found, default=0) < 1:
            raise OptionError(f"{name} is {', '.join(map(str, found)) or 'empty'}, expected 1 or more")
    return TrainConfig(
        _PRESET,
        cell=architecture.cell,
        embedding_size=architecture.embedding_size,
        layer_sizes=architecture.layer_sizes,
        tied=architecture.tied,
        init_range=_INIT_RANGE,
        seed=seed,
    )


def _no_corpus(folder: Path, vocabulary: Vocabulary) -> Corpus:
    """No text, under the name of a folder that is not there."""
    return Corpus(str(folder / _NO_CORPUS), hashlib.sha256().hexdigest(), vocabulary, {})
