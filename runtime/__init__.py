"""The streaming predictor that other applications embed: numpy and onnxruntime, nothing else."""

from .artifact import CELLS, PRECISIONS, PURPOSES, Architecture, Artifact, latest_artifact
from .autocompletion import Autocompletion, Suggestion
from .batcher import PoolStats
from .cache import Cache, CacheOptions
from .errors import (
    ArtifactError,
    BusyError,
    ForkError,
    LmtoolError,
    NumberError,
    OptionError,
    OwnerError,
    PoolError,
    ProviderError,
    RequestTimeoutError,
    StateError,
    StorageError,
    TokenError,
    VocabularyError,
)
from .pool import StreamPool
from .pool_options import PoolOptions
from .predictor import Predictor
from .providers import PROVIDERS, available_providers
from .sampling import METHODS, Sampling
from .score import Score
from .state import State
from .stream import Stream
from .summary import LayerRow, Summary, layer_table, summarize
from .tokenization import RULES, Tokenization
from .vocabulary import Vocabulary

__all__ = [
    "CELLS",
    "METHODS",
    "PRECISIONS",
    "PROVIDERS",
    "PURPOSES",
    "RULES",
    "Architecture",
    "Artifact",
    "ArtifactError",
    "Autocompletion",
    "BusyError",
    "Cache",
    "CacheOptions",
    "ForkError",
    "LayerRow",
    "LmtoolError",
    "NumberError",
    "OptionError",
    "OwnerError",
    "PoolError",
    "PoolOptions",
    "PoolStats",
    "Predictor",
    "ProviderError",
    "RequestTimeoutError",
    "Sampling",
    "Score",
    "State",
    "StateError",
    "StorageError",
    "Stream",
    "StreamPool",
    "Suggestion",
    "Summary",
    "TokenError",
    "Tokenization",
    "Vocabulary",
    "VocabularyError",
    "available_providers",
    "latest_artifact",
    "layer_table",
    "summarize",
]
