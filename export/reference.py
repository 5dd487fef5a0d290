"""The original: what an artifact is compared with. A PyTorch network, or another predictor of the same network."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, final

import numpy as np
import torch
from numpy.typing import NDArray

from ..model.checkpoint import weights_hash
from ..model.evaluation import evaluate_perplexity, single_thread
from ..model.network import LanguageModel, state_from_tensors, state_tensors
from ..runtime.artifact.architecture import Architecture
from ..runtime.predictor import Predictor
from ..runtime.state import State
from ..runtime.vocabulary import Vocabulary

Tokens = NDArray[np.int64]
Array = NDArray[Any]
States = Mapping[str, Array]
"""The name of each state, as `cell_0`, -> float32 [batch, width]."""


@final
@dataclass(frozen=True, eq=False)
class Text:
    """What perplexities are measured on.

    Attributes:
        token_ids: int32 [tokens], at least 2.
        source: Where they are from.
    """

    token_ids: NDArray[np.int32]
    source: str


class Original(Protocol):
    """A computation of the network that an artifact has to agree with."""

    @property
    def name(self) -> str:
        """What it is, in a few words."""
        ...

    @property
    def architecture(self) -> Architecture:
        """Cell and sizes."""
        ...

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens."""
        ...

    @property
    def weights_sha256(self) -> str:
        """Hash of the weights."""
        ...

    @property
    def text(self) -> Text | None:
        """A text for the perplexities; None where none is at hand: then one is drawn from the original itself."""
        ...

    def run(self, token_ids: Tokens, states: States) -> tuple[Array, States]:
        """Logits float32 [batch, time, vocabulary] of token_ids int64 [batch, time], and the states after them."""
        ...

    def run_exactly(self, token_ids: Tokens, states: States) -> tuple[Array, States] | None:
        """The same in float64, which rounds almost nothing; None where it cannot compute in that."""
        ...

    def perplexity(self, token_ids: NDArray[np.int32]) -> float:
        """Perplexity of one unbroken stream [tokens], read from the zero state."""
        ...


@final
@dataclass(frozen=True, eq=False)
class TorchOriginal:
    """The PyTorch network that an artifact was exported from.

    Attributes:
        network: The trained network, in evaluation mode.
        vocabulary: Its vocabulary.
        text: A text in its tokens; None for one that is drawn from it.
        name: What it is.
    """

    network: LanguageModel
    vocabulary: Vocabulary
    text: Text | None = None
    name: str = "the PyTorch network"

    @property
    def architecture(self) -> Architecture:
        """See `Original`."""
        return self.network.architecture

    @property
    def weights_sha256(self) -> str:
        """See `Original`."""
        return weights_hash(self.network.weights())

    def run(self, token_ids: Tokens, states: States) -> tuple[Array, States]:
        """See `Original`."""
        return _run(self.network, token_ids, states)

    def run_exactly(self, token_ids: Tokens, states: States) -> tuple[Array, States]:
        """See `Original`."""
        return _run(self._double, token_ids, {name: state.astype(np.float64) for name, state in states.items()})

    def perplexity(self, token_ids: NDArray[np.int32]) -> float:
        """See `Original`."""
        with single_thread():
            return evaluate_perplexity(self.network, token_ids)

    @cached_property
    def _double(self) -> LanguageModel:
        return copy.deepcopy(self.network).double()


@final
@dataclass(frozen=True, eq=False)
class PredictorOriginal:
    """An artifact of the same network in another runtime.

    Attributes:
        predictor: The artifact there.
        name: What runs it.
        text: A text in its tokens; None for one that is drawn from it.
    """

    predictor: Predictor
    name: str
    text: Text | None = None

    @property
    def architecture(self) -> Architecture:
        """See `Original`."""
        return self.predictor.artifact.architecture

    @property
    def vocabulary(self) -> Vocabulary:
        """See `Original`."""
        return self.predictor.vocabulary

    @property
    def weights_sha256(self) -> str:
        """Hash of the weights that the artifact says it was exported from; where it says nothing, its own hash."""
        artifact = self.predictor.artifact
        return str(artifact.parity.get("original_sha256", artifact.sha256))

    def run(self, token_ids: Tokens, states: States) -> tuple[Array, States]:
        """See `Original`."""
        names = tuple(self.architecture.states)
        state = State(self.predictor.artifact.sha256, tuple(states[name] for name in names))
        logits, after = self.predictor.step(token_ids, state)
        return logits, dict(zip(names, after.tensors, strict=True))

    def run_exactly(self, token_ids: Tokens, states: States) -> None:
        """None: a session computes in the types of its file."""

    def perplexity(self, token_ids: NDArray[np.int32]) -> float:
        """See `Original`."""
        return self.predictor.perplexity(token_ids)


@torch.inference_mode()
def _run(network: LanguageModel, token_ids: Tokens, states: States) -> tuple[Array, States]:
    device = network.projection.weight.device
    # torch warns of arrays that nobody may write to
    state = state_from_tensors({name: torch.from_numpy(array.copy()).to(device) for name, array in states.items()})
    with single_thread():
        logits, after = network(torch.from_numpy(token_ids).to(device), state)
    return logits.cpu().numpy(), {name: tensor.cpu().numpy() for name, tensor in state_tensors(after).items()}
