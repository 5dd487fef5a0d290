"""The parts of a network from elsewhere, in torch's order of gates, and the network that they make."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from ...runtime.artifact.architecture import MOST_WEIGHT_BYTES, Architecture
from ...runtime.errors import truncated
from ..errors import WeightsError
from ..network import LanguageModel

CELLS = {4: "lstm", 3: "gru", 1: "rnn"}
"""Number of gates -> cell."""


class Layer(NamedTuple):
    """One recurrent layer of g gates.

    Attributes:
        input: [g hidden, width of the layer before].
        recurrence: [g hidden, hidden].
        input_bias: [g hidden]; None for zeros.
        recurrent_bias: [g hidden]; None for zeros.
    """

    input: Tensor
    recurrence: Tensor
    input_bias: Tensor | None = None
    recurrent_bias: Tensor | None = None


@final
@dataclass(frozen=True, eq=False)
class Parts:
    """All weights of a network, float32.

    Attributes:
        embedding: [vocabulary, embedding size].
        layers: One or more, first to last.
        projection: [vocabulary, hidden size of the last layer]; None if it is the embedding's matrix.
        bias: [vocabulary]; None for zeros.
    """

    embedding: Tensor
    layers: tuple[Layer, ...]
    projection: Tensor | None = None
    bias: Tensor | None = None

    @property
    def architecture(self) -> Architecture:
        """Cell and sizes, read from the shapes; a projection with the embedding's numbers is tied to it.

        Raises:
            WeightsError: The shapes are not those of one network.
        """
        for what, tensor in (("embedding", self.embedding), *(("recurrent weight", x.recurrence) for x in self.layers)):
            if tensor.dim() != 2 or 0 in tensor.shape:
                raise WeightsError(f"the {what} is {list(tensor.shape)}, expected a matrix")
        sizes = tuple(layer.recurrence.shape[-1] for layer in self.layers)
        gates = {_gates(layer.recurrence) for layer in self.layers}
        if len(gates) != 1 or not gates <= CELLS.keys():
            rows = ", ".join(str(list(layer.recurrence.shape)) for layer in self.layers)
            raise WeightsError(
                f"the recurrent weights are {rows}, expected 4 (lstm), 3 (gru) or 1 (rnn) times as many rows as "
                "columns, the same in all layers"
            )
        tied = self.projection is None or (
            self.projection.shape == self.embedding.shape and torch.equal(self.projection, self.embedding)
        )
        architecture = Architecture(CELLS[gates.pop()], self.embedding.shape[-1], sizes, tied)
        self._require_shapes(architecture)
        return architecture

    def _require_shapes(self, architecture: Architecture) -> None:
        vocabulary, width = len(self.embedding), self.embedding.shape[-1]
        expected: list[tuple[str, Tensor | None, tuple[int, ...]]] = [
            ("the embedding", self.embedding, (vocabulary, width))
        ]
        for number, layer in enumerate(self.layers, 1):
            rows, hidden = layer.recurrence.shape
            shapes = ((rows, width), (rows, hidden), (rows,), (rows,))
            found = zip(_KINDS, layer, shapes, strict=True)
            expected += [(f"{what} of layer {number}", tensor, shape) for what, tensor, shape in found]
            width = hidden
        expected += [("the projection", self.projection, (vocabulary, width)), ("its bias", self.bias, (vocabulary,))]
        for what, tensor, shape in expected:
            if tensor is not None and tuple(tensor.shape) != shape:
                raise WeightsError(f"{what} is {list(tensor.shape)}, expected {list(shape)} beside the other tensors")
        if self.projection is None and width != architecture.embedding_size:
            raise WeightsError(
                f"there is no projection, and the embedding, {architecture.embedding_size} wide, cannot be it: the "
                f"last layer has {width}"
            )

    def network(self) -> LanguageModel:
        """The network, in evaluation mode.

        Raises:
            WeightsError: As for `architecture`.
        """
        network = LanguageModel(self.architecture, len(self.embedding))
        for parameter in network.parameters():  # a bias that is missing is zero
            parameter.data.zero_()
        network.load_weights({name: tensor for name, tensor in self._named(network).items() if tensor is not None})
        return network.eval()

    def _named(self, network: LanguageModel) -> Mapping[str, Tensor | None]:
        named = {"embedding.weight": self.embedding, "projection.bias": self.bias}
        if not network.architecture.tied:
            named["projection.weight"] = self.projection
        for index, layer in enumerate(self.layers):
            names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
            named |= {f"layers.{index}.{name}": tensor for name, tensor in zip(names, layer, strict=True)}
        return named


_KINDS = ("the input weight", "the recurrent weight", "the input bias", "the recurrent bias")


def _gates(recurrence: Tensor) -> int:
    """Rows over columns; 0 unless that is a whole number."""
    if recurrence.dim() != 2:
        return 0
    rows, columns = recurrence.shape
    return rows // columns if columns and rows % columns == 0 else 0


def as_weight(name: str, tensor: Tensor) -> Tensor:
    """The tensor as float32 on the CPU.

    Raises:
        WeightsError: It is of another kind, or holds NaN or infinity.
    """
    if not tensor.is_floating_point() or tensor.is_sparse or tensor.is_quantized:
        raise WeightsError(f"the tensor {name!r} is {tensor.dtype}, expected floating-point numbers")
    values = tensor.detach().cpu().to(torch.float32)
    if not bool(values.isfinite().all()):
        raise WeightsError(f"the tensor {name!r} holds numbers that are not finite in float32")
    return values


def listed(shapes: Mapping[str, tuple[int, ...]], most: int = 40) -> str:
    """The tensors with their shapes, a line each."""
    lines = [f"  {truncated(name, 100)} {list(shape)}" for name, shape in itertools.islice(shapes.items(), most)]
    more = len(shapes) - most
    return "\n".join([*lines, *([f"  and {more:,} more"] if more > 0 else [])])


def require_room(shapes: Mapping[str, tuple[int, ...]]) -> None:
    """WeightsError if one ONNX file cannot hold these tensors in float32; checked before they are read."""
    size = sum(4 * math.prod(shape) for shape in shapes.values())
    if size > MOST_WEIGHT_BYTES:
        raise WeightsError(
            f"its tensors have {size:,} bytes in float32, one ONNX file holds at most {MOST_WEIGHT_BYTES:,} of weights"
        )
