"""Corpora, the network, training and checkpoints (needs torch).

Names are imported on first use: corpora and typing need no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..runtime.artifact.run_folders import RUNS
    from .checkpoint import Checkpoint
    from .data.corpus import Corpus, load_corpus, load_corpus_with
    from .data.texts import PYDOCS, SPLITS, corpora, read_splits
    from .data.write import write_splits
    from .errors import CheckpointError, ConfigError, DataError, Interrupted, RunError, TrainingError, WeightsError
    from .evaluation import Evaluation, evaluate_artifact, evaluate_perplexity, evaluate_run
    from .foreign.importer import Imported, ImportOptions, import_weights
    from .keyboard.evaluation import TypingEvaluation, evaluate_typing
    from .network import LanguageModel, NetworkState
    from .run import Run
    from .run_choice import latest_run
    from .training.config import TrainConfig
    from .training.presets import PRESETS, preset_named
    from .training.reporters import Reporter
    from .training.train import TrainOptions, TrainResult, run_training
    from .training.trainer import Trainer

_MODULES = {
    "PRESETS": ".training.presets",
    "PYDOCS": ".data.texts",
    "RUNS": "..runtime.artifact.run_folders",
    "SPLITS": ".data.texts",
    "Checkpoint": ".checkpoint",
    "CheckpointError": ".errors",
    "ConfigError": ".errors",
    "Corpus": ".data.corpus",
    "DataError": ".errors",
    "Evaluation": ".evaluation",
    "ImportOptions": ".foreign.importer",
    "Imported": ".foreign.importer",
    "Interrupted": ".errors",
    "LanguageModel": ".network",
    "NetworkState": ".network",
    "Reporter": ".training.reporters",
    "Run": ".run",
    "RunError": ".errors",
    "TrainConfig": ".training.config",
    "TrainOptions": ".training.train",
    "TrainResult": ".training.train",
    "Trainer": ".training.trainer",
    "TrainingError": ".errors",
    "TypingEvaluation": ".keyboard.evaluation",
    "WeightsError": ".errors",
    "corpora": ".data.texts",
    "evaluate_artifact": ".evaluation",
    "evaluate_perplexity": ".evaluation",
    "evaluate_run": ".evaluation",
    "evaluate_typing": ".keyboard.evaluation",
    "import_weights": ".foreign.importer",
    "latest_run": ".run_choice",
    "load_corpus": ".data.corpus",
    "load_corpus_with": ".data.corpus",
    "preset_named": ".training.presets",
    "read_splits": ".data.texts",
    "run_training": ".training.train",
    "write_splits": ".data.write",
}

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
    "ImportOptions",
    "Imported",
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
    "TypingEvaluation",
    "WeightsError",
    "corpora",
    "evaluate_artifact",
    "evaluate_perplexity",
    "evaluate_run",
    "evaluate_typing",
    "import_weights",
    "latest_run",
    "load_corpus",
    "load_corpus_with",
    "preset_named",
    "read_splits",
    "run_training",
    "write_splits",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name], __name__), name)
