"""Corpora, the network, training and checkpoints (needs torch)."""

from ..runtime.artifact.run_folders import RUNS
from .checkpoint import Checkpoint
from .data.corpus import Corpus, load_corpus, load_corpus_with
from .data.texts import PYDOCS, SPLITS, corpora, read_splits
from .data.write import write_splits
from .errors import CheckpointError, ConfigError, DataError, Interrupted, RunError, TrainingError
from .evaluation import Evaluation, evaluate_artifact, evaluate_perplexity, evaluate_run
from .latest_run import latest_run
from .network import LanguageModel, NetworkState
from .run import Run
from .training.config import TrainConfig
from .training.presets import PRESETS, preset_named
from .training.reporters import Reporter
from .training.train import TrainOptions, TrainResult, run_training
from .training.trainer import Trainer

__all__ = [
    "PRESETS",
    "PYDOCS",
    "RUNS",
    "SPLITS",
    "Checkpoint",
    "CheckpointError",
    "ConfigError",
    "Corpus",
    "DataError",
    "Evaluation",
    "Interrupted",
    "LanguageModel",
    "NetworkState",
    "Reporter",
    "Run",
    "RunError",
    "TrainConfig",
    "TrainOptions",
    "TrainResult",
    "Trainer",
    "TrainingError",
    "corpora",
    "evaluate_artifact",
    "evaluate_perplexity",
    "evaluate_run",
    "latest_run",
    "load_corpus",
    "load_corpus_with",
    "preset_named",
    "read_splits",
    "run_training",
    "write_splits",
]
