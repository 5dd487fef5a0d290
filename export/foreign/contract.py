"""The artifact's contract (README, "The artifact") held against the inputs and outputs that a graph declares."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import onnx
from onnx import helper

from ...runtime.artifact.artifact import LOGITS, LOGITS_TO_KEEP, NEXT, TOKEN_IDS
from ...runtime.errors import ArtifactError

_STATE = re.compile(rf"(?:{NEXT})?(cell|hidden)_(0|[1-9]\d*)")
_MOST_LAYERS = 1000


@final
@dataclass(frozen=True)
class Tensor:
    """The declared type of an input or output.

    Attributes:
        kind: `float32`, `int64`, ..., or what else it is.
        shape: A number, or a name (perhaps empty) for an axis that is free; None where no shape is declared.
    """

    kind: str
    shape: tuple[int | str, ...] | None

    @classmethod
    def of(cls, value: onnx.ValueInfoProto) -> "Tensor":
        """What the graph declares of an input or output."""
        declared = value.type.tensor_type
        if not value.type.HasField("tensor_type"):
            return cls(str(value.type.WhichOneof("value") or "untyped").removesuffix("_type"), None)
        try:
            kind = helper.tensor_dtype_to_np_dtype(declared.elem_type).name
        except KeyError:
            kind = f"type {declared.elem_type}"
        if not declared.HasField("shape"):
            return cls(kind, None)
        return cls(
            kind, tuple(axis.dim_value if axis.HasField("dim_value") else axis.dim_param for axis in declared.shape.dim)
        )

    def fits(self, expected: "Tensor") -> bool:
        """Whether it can be `expected`: a free axis can be of any size, one that must be free is."""
        if self.kind != expected.kind or self.shape is None or expected.shape is None:
            return False
        if len(self.shape) != len(expected.shape):
            return False
        pairs = zip(self.shape, expected.shape, strict=True)
        return all(not isinstance(ours, int) or ours == theirs for ours, theirs in pairs)

    @property
    def width(self) -> int | None:
        """The size of the last axis, where it is fixed and is the second or third."""
        last = self.shape[-1] if self.shape is not None and len(self.shape) in (2, 3) else None
        return last if isinstance(last, int) else None

    def __str__(self) -> str:
        """As `float32 [batch, 200]`."""
        if self.shape is None:
            return f"{self.kind} without a shape"
        return f"{self.kind} [{', '.join(str(axis) if axis != '' else '?' for axis in self.shape)}]"


_KEEP = Tensor("int64", (1,))


@final
@dataclass(frozen=True)
class Fit:
    """A graph that keeps the contract, as far as it says.

    Attributes:
        inputs: Name of each required input -> its type, the widths of the states filled in.
        outputs: Name of each output -> its type, likewise.
        layer_sizes: Hidden size of each layer.
        has_cells: Whether layers have a cell state beside the hidden one.
        vocabulary_size: Of the logits; None where the graph leaves it open.
    """

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    layer_sizes: tuple[int, ...]
    has_cells: bool
    vocabulary_size: int | None

    @classmethod
    def of(cls, graph: onnx.GraphProto) -> "Fit":
        """Hold a graph, its shapes inferred, against the contract.

        Raises:
            ArtifactError: An input or output differs; the message names the first one in the order of the contract.
        """
        defaults = {tensor.name for tensor in graph.initializer}
        given = {value.name: Tensor.of(value) for value in graph.input}
        inputs = {name: tensor for name, tensor in given.items() if name not in defaults}
        outputs = {value.name: Tensor.of(value) for value in graph.output}
        _require_keep(given, defaults)
        has_cells, widths = _states({**inputs, **outputs})
        names = [*(["cell"] if has_cells else []), "hidden"]
        states = {
            f"{name}_{layer}": Tensor("float32", ("batch", width or f"size of layer {layer}"))
            for name in names
            for layer, width in enumerate(widths)
        }
        expected_inputs = {TOKEN_IDS: Tensor("int64", ("batch", "time")), **states}
        logits = outputs[LOGITS].width if LOGITS in outputs else None
        expected_outputs = {
            LOGITS: Tensor("float32", ("batch", "time", logits or "vocabulary")),
            **{f"{NEXT}{name}": tensor for name, tensor in states.items()},
        }
        _require("input", expected_inputs, inputs)
        _require("output", expected_outputs, outputs)
        for layer, width in enumerate(widths):
            if not width:
                name = f"hidden_{layer}"
                raise _difference("input", name, str(inputs[name]), "a number as its last axis", inputs)
        return cls(expected_inputs, expected_outputs, tuple(width or 0 for width in widths), has_cells, logits)


def _require_keep(given: Mapping[str, Tensor], defaults: set[str]) -> None:
    if LOGITS_TO_KEEP not in given:
        return
    found, with_default = given[LOGITS_TO_KEEP], LOGITS_TO_KEEP in defaults
    if not (found == _KEEP and with_default):
        shown = f"{found} {'with' if with_default else 'without'} a default"
        raise _difference("input", LOGITS_TO_KEEP, shown, f"{_KEEP} with 0 as its default, or no such input", given)


def _states(tensors: Mapping[str, Tensor]) -> tuple[bool, list[int | None]]:
    """Whether there are cells, and each layer's width, told from the names; one layer at least is expected."""
    found = {name: match for name in tensors if (match := _STATE.fullmatch(name))}
    layers = [int(match[2]) for match in found.values()]
    count = max((layer for layer in layers if layer < _MOST_LAYERS), default=0) + 1
    has_cells = any(match[1] == "cell" for match in found.values())
    widths: list[int | None] = [None] * count
    for layer in range(count):
        names = [f"{prefix}{state}_{layer}" for prefix in ("", NEXT) for state in ("hidden", "cell")]
        known = (tensors[name].width for name in names if name in tensors)
        widths[layer] = next((width for width in known if width), None)
    return has_cells, widths


def _require(direction: str, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    for name in dict.fromkeys([*expected, *found]):
        if name not in expected or name not in found or not found[name].fits(expected[name]):
            raise _difference(
                direction, name, str(found.get(name, "none")), str(expected.get(name, "none")), list(found)
            )


def _difference(
    direction: str, name: str, found: str, expected: str, names: Mapping[str, Tensor] | Sequence[str]
) -> ArtifactError:
    return ArtifactError(
        f"the {direction} {name!r} breaks the contract: found {found}, expected {expected} "
        f"(the graph's {direction}s: {', '.join(names) or 'none'}); export it with the contract's names and types"
    )
