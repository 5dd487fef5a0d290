"""The network's weights in ONNX's layout: its order of gates, biases of input and recurrence joined."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from ..model.network import LanguageModel

GATES = {"lstm": ("ifgo", "iofg"), "gru": ("rzn", "zrn"), "rnn": ("h", "h")}
"""Cell -> its gates in torch's order and in ONNX's, as torch names them."""

Array = NDArray[np.float32]


@final
@dataclass(frozen=True, eq=False)
class LayerWeights:
    """One layer of g gates: input [1, g hidden, width], recurrence [1, g hidden, hidden], bias [1, 2 g hidden]."""

    input: Array
    recurrence: Array
    bias: Array


@final
@dataclass(frozen=True, eq=False)
class Weights:
    """All weights, float32.

    Attributes:
        embedding: [vocabulary, embedding size].
        layers: One entry for each recurrent layer.
        projection: [last hidden size, vocabulary]; None where it is the transposed embedding (tied).
        bias: [vocabulary].
    """

    embedding: Array
    layers: tuple[LayerWeights, ...]
    projection: Array | None
    bias: Array

    @classmethod
    def of(cls, network: LanguageModel, *, untie: bool = False) -> "Weights":
        """Read the weights of a network; `untie` copies a tied embedding into the projection."""
        tied = network.architecture.tied and not untie
        cell = network.architecture.cell
        return cls(
            embedding=_array(network.embedding.weight),
            layers=tuple(_layer(cell, dict(layer.named_parameters())) for layer in network.layers),
            projection=None if tied else np.ascontiguousarray(_array(network.projection.weight).T),
            bias=_array(network.projection.bias),
        )


def _layer(cell: str, parameters: Mapping[str, torch.Tensor]) -> LayerWeights:
    named = {name: _reordered(cell, _array(parameter)) for name, parameter in parameters.items()}
    return LayerWeights(
        input=named["weight_ih_l0"][None],
        recurrence=named["weight_hh_l0"][None],
        bias=np.concatenate([named["bias_ih_l0"], named["bias_hh_l0"]])[None],
    )


def _reordered(cell: str, array: Array) -> Array:
    """Reorder the first axis, one block for each gate, from torch's order to ONNX's."""
    torch_gates, onnx_gates = GATES[cell]
    blocks = dict(zip(torch_gates, np.split(array, len(torch_gates)), strict=True))
    return np.concatenate([blocks[gate] for gate in onnx_gates])


def _array(tensor: torch.Tensor) -> Array:
    return tensor.detach().cpu().numpy()
