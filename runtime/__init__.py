"""The streaming predictor that applications embed; it needs only numpy and onnxruntime."""

from .artifact.architecture import CELLS, Architecture
from .artifact.artifact import PRECISIONS, Artifact
from .artifact.choice import latest_artifact
from .artifact.summary import LayerRow, Summary, layer_table, summarize
from .autocompletion import Autocompletion
from .cache import Cache, CacheOptions
from .errors import (
    ArgumentError,
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
from .pool.generation_job import GenerationJob
from .pool.options import PoolOptions
from .pool.pool_stats import PoolStats
from .pool.stream_pool import StreamPool
from .predictor import Predictor
from .rescoring.rescorer import Hypothesis, Rescorer
from .sampling import METHODS, Sampling
from .score import Score
from .session.providers import PROVIDERS, available_providers
from .state import State
from .stateful.state_tensors import StateTensors
from .stateful.stateful_session import StatefulSession
from .stream import Stream
from .suggestions import Suggestion
from .text.text_decoder import TextDecoder
from .tokenization import RULES, Tokenization
from .vocabulary import Vocabulary

__all__ = [
    "CELLS",
    "METHODS",
    "PRECISIONS",
    "PROVIDERS",
    "RULES",
    "Architecture",
    "ArgumentError",
    "Artifact",
    "ArtifactError",
    "Autocompletion",
    "BusyError",
    "Cache",
    "CacheOptions",
    "ForkError",
    "GenerationJob",
    "Hypothesis",
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
    "Rescorer",
    "Sampling",
    "Score",
    "State",
    "StateError",
    "StateTensors",
    "StatefulSession",
    "StorageError",
    "Stream",
    "StreamPool",
    "Suggestion",
    "Summary",
    "TextDecoder",
    "TokenError",
    "Tokenization",
    "Vocabulary",
    "VocabularyError",
    "available_providers",
    "latest_artifact",
    "layer_table",
    "summarize",
]
