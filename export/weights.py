"""The network's weights as ONNX wants them: gates in the order i, o, f, c, biases of input and recurrence joined."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from ..model.network import LanguageModel

_TORCH_GATES = "ifgo"
_ONNX_GATES = "iofg"  # ONNX calls torch's g the cell gate c

Array = NDArray[np.float32]


@final
@dataclass(frozen=True, eq=False)
class LayerWeights:
    """One LSTM layer: input [1, 4 hidden, width], recurrence [1, 4 hidden, hidden], bias [1, 8 hidden]."""

    input: Array
    recurrence: Array
    bias: Array


@final
@dataclass(frozen=True, eq=False)
class Weights:
    """All weights, float32.

    Attributes:
        embedding: [vocabulary, embedding size].
        layers: One entry per LSTM layer.
        projection: [last hidden size, vocabulary], or None where it is the embedding transposed (tied).
        bias: [vocabulary].
    """

    embedding: Array
    layers: tuple[LayerWeights, ...]
    projection: Array | None
    bias: Array

    @classmethod
    def of(cls, network: LanguageModel, *, untie: bool = False) -> "Weights":
        """The weights of `network`; `untie` gives tied ones a projection of their own."""
        tied = network.architecture.tied and not untie
        return cls(
            embedding=_array(network.embedding.weight),
            layers=tuple(_layer(dict(layer.named_parameters())) for layer in network.layers),
            projection=None if tied else np.ascontiguousarray(_array(network.projection.weight).T),
            bias=_array(network.projection.bias),
        )


def _layer(parameters: Mapping[str, torch.Tensor]) -> LayerWeights:
    named = {name: _reordered(_array(parameter)) for name, parameter in parameters.items()}
    return LayerWeights(
        input=named["weight_ih_l0"][None],
        recurrence=named["weight_hh_l0"][None],
        bias=np.concatenate([named["bias_ih_l0"], named["bias_hh_l0"]])[None],
    )


def _reordered(array: Array) -> Array:
    """The blocks of the first axis, one per gate, moved from torch's order to ONNX's."""
    blocks = dict(zip(_TORCH_GATES, np.split(array, len(_TORCH_GATES)), strict=True))
    return np.concatenate([blocks[gate] for gate in _ONNX_GATES])


def _array(tensor: torch.Tensor) -> Array:
    return tensor.detach().cpu().numpy()
