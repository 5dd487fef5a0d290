"""References: what an artifact is compared with, a PyTorch network or another predictor of the same network."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, final

import numpy as np
import torch
from numpy.typing import NDArray

from ..model.checkpoint import weights_hash
from ..model.evaluation import Network, evaluate_perplexity, single_thread
from ..model.network import NetworkState, state_from_tensors, state_tensors
from ..runtime.artifact.architecture import Architecture
from ..runtime.predictor import Predictor
from ..runtime.state import State
from ..runtime.vocabulary import Vocabulary
from .parity import Array

_UNKNOWN_CORPUS = "its corpus is not known"

Tokens = NDArray[np.int64]
States = Mapping[str, Array]
"""The name of each state, as `cell_0`, -> float32 [batch, width]."""


def zero_states(architecture: Architecture, batch_size: int) -> States:
    """The states of streams that have read nothing."""
    return {name: np.zeros((batch_size, width), np.float32) for name, width in architecture.states.items()}


@final
@dataclass(frozen=True, eq=False)
class Text:
    """A text that perplexities are measured on.

    Attributes:
        token_ids: int32 [tokens], at least 2.
        source: Where the text comes from.
    """

    token_ids: NDArray[np.int32]
    source: str


class Reference(Protocol):
    """A computation of the network that an artifact must agree with."""

    @property
    def name(self) -> str:
        """A short description, for reports."""

    @property
    def architecture(self) -> Architecture:
        """Cell and sizes."""

    @property
    def vocabulary(self) -> Vocabulary:
        """Tokens and tokenization."""

    @property
    def weights_sha256(self) -> str:
        """Hash of the weights."""

    @property
    def text(self) -> Text | None:
        """A text to measure perplexities on; None to draw one from the reference itself."""

    @property
    def why_no_text(self) -> str:
        """Why `text` is None."""

    def run(self, token_ids: Tokens, states: States) -> tuple[Array, States]:
        """Logits float32 [batch, time, vocabulary] of token_ids int64 [batch, time], and the states after them."""

    def run_exactly(self, token_ids: Tokens, states: States) -> tuple[Array, States] | None:
        """The same in float64; None where it cannot compute in float64."""

    def perplexity(self, token_ids: NDArray[np.int32]) -> float:
        """Perplexity of token_ids int32 [tokens], read as one stream from the zero state."""


class TorchNetwork(Network, Protocol):
    """A network of PyTorch that can be a reference: `LanguageModel` is one."""

    @property
    def architecture(self) -> Architecture:
        """Cell and sizes."""

    def weights(self) -> Mapping[str, torch.Tensor]:
        """The weights by name."""

    def double(self) -> Any:
        """Compute in float64 from now on."""

    def __call__(self, token_ids: torch.Tensor, state: NetworkState) -> Any:
        """Logits and the state after the last token, as `LanguageModel.forward`."""


@final
@dataclass(frozen=True, eq=False)
class TorchReference:
    """The PyTorch network that an artifact was exported from.

    Attributes:
        network: The trained network, in evaluation mode.
        vocabulary: Its vocabulary.
        text: A text in its tokens; None to draw one from it.
        name: A short description.
        why_no_text: Why there is none.
    """

    network: TorchNetwork
    vocabulary: Vocabulary
    text: Text | None = None
    name: str = "the PyTorch network"
    why_no_text: str = _UNKNOWN_CORPUS

    @property
    def architecture(self) -> Architecture:
        """Cell and sizes."""
        return self.network.architecture

    @property
    def weights_sha256(self) -> str:
        """Hash of the weights."""
        return weights_hash(self.network.weights())

    def run(self, token_ids: Tokens, states: States) -> tuple[Array, States]:
        """Logits float32 [batch, time, vocabulary] and next states of token_ids int64 [batch, time]."""
        return _run(self.network, token_ids, states)

    def run_exactly(self, token_ids: Tokens, states: States) -> tuple[Array, States]:
        """Logits and next states in float64."""
        return _run(self._double, token_ids, {name: state.astype(np.float64) for name, state in states.items()})

    def perplexity(self, token_ids: NDArray[np.int32]) -> float:
        """Perplexity of token_ids int32 [tokens], computed on one thread."""
        with single_thread():
            return evaluate_perplexity(self.network, token_ids)

    @cached_property
    def _double(self) -> TorchNetwork:
        network: TorchNetwork = copy.deepcopy(self.network).double()
        return network


@final
@dataclass(frozen=True, eq=False)
class PredictorReference:
    """An artifact of the same network in another runtime.

    Attributes:
        predictor: The artifact in that runtime.
        name: The runtime's name.
        text: A text in its tokens; None to draw one from it.
        why_no_text: Why there is none.
    """

    predictor: Predictor
    name: str
    text: Text | None = None
    why_no_text: str = _UNKNOWN_CORPUS

    @property
    def architecture(self) -> Architecture:
        """Cell and sizes."""
        return self.predictor.artifact.architecture

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens."""
        return self.predictor.vocabulary

    @property
    def weights_sha256(self) -> str:
        """Hash of the weights that the artifact was exported from, or the artifact's own hash where it records none."""
        artifact = self.predictor.artifact
        return str(artifact.parity.get("original_sha256", artifact.sha256))

    def run(self, token_ids: Tokens, states: States, logits_to_keep: int | None = None) -> tuple[Array, States]:
        """Logits float32 [batch, kept, vocabulary] and next states of token_ids int64 [batch, time]."""
        names = tuple(self.architecture.states)
        state = State(self.predictor.artifact.sha256, tuple(states[name] for name in names))
        logits, after = self.predictor.step(token_ids, state, logits_to_keep=logits_to_keep)
        return logits, dict(zip(names, after.tensors, strict=True))

    def run_exactly(self, token_ids: Tokens, states: States) -> None:
        """Return None: a session computes in the types of its file."""

    def perplexity(self, token_ids: NDArray[np.int32]) -> float:
        """Perplexity of token_ids int32 [tokens]."""
        return self.predictor.perplexity(token_ids)


@torch.inference_mode()
def _run(network: TorchNetwork, token_ids: Tokens, states: States) -> tuple[Array, States]:
    device = network.projection.weight.device
    # torch warns about read-only arrays, so the states are copied.
    state = state_from_tensors({name: torch.from_numpy(array.copy()).to(device) for name, array in states.items()})
    with single_thread():
        logits, after = network(torch.from_numpy(token_ids).to(device), state)
    tensors = state_tensors(after)
    return logits.cpu().numpy(), {name: tensors[name].cpu().numpy() for name in states}
