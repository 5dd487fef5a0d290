"""The run folder of an untrained network, for measurements: its weights do not change the cost.

The folder holds no corpus; verification samples its text from the network.
"""

import hashlib
from pathlib import Path

from ..model.checkpoint import Checkpoint
from ..model.data.corpus import Corpus
from ..model.run import Run
from ..model.training.config import TrainConfig
from ..model.training.learner import initial_network
from ..runtime.artifact.architecture import Architecture
from ..runtime.errors import OptionError
from ..runtime.tokenization import Tokenization
from ..runtime.vocabulary import Vocabulary

_PRESET = "untrained"
_NO_CORPUS = "no-corpus"
_INIT_RANGE = 0.05


def make_untrained_run(folder: Path, architecture: Architecture, vocabulary_size: int, seed: int) -> Run:
    """Write the run folder of an untrained network.

    The weights are uniform in (-0.05, 0.05), biases are 0. The vocabulary's size includes the two special tokens.

    Raises:
        OptionError: A size is below 1, or the vocabulary has no room for the special tokens.
        ConfigError: The cell is unknown, a size is too large, or tied layers do not match.
        RunError: The folder holds a run.
        StorageError: The folder cannot be written.
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
    """The special tokens, then `word2`, `word3` and so on."""
    tokenization = Tokenization()
    specials = tokenization.specials
    if size < len(specials):
        raise OptionError(
            f"vocabulary_size is {size}, expected {len(specials)} or more: {' and '.join(specials)} are among them"
        )
    return Vocabulary([*specials, *(f"word{number}" for number in range(len(specials), size))], tokenization)


def _config(architecture: Architecture, seed: int) -> TrainConfig:
    sizes = {"embedding_size": (architecture.embedding_size,), "layer_sizes": architecture.layer_sizes}
    for name, values in sizes.items():
        if min(values, default=0) < 1:
            raise OptionError(f"{name} is {', '.join(map(str, values)) or 'empty'}, expected 1 or more")
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
    """A corpus without text, named after a folder that does not exist."""
    return Corpus(str(folder / _NO_CORPUS), hashlib.sha256().hexdigest(), vocabulary, {})
