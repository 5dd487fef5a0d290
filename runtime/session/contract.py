"""The artifact's contract: names, types and shapes of a graph's inputs and outputs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import final

from ..artifact.artifact import LOGITS, LOGITS_TO_KEEP, NEXT, TOKEN_IDS
from ..errors import ArtifactError, truncated


@final
@dataclass(frozen=True)
class TensorType:
    """The declared type of an input or output.

    Attributes:
        dtype: `float32`, `int64`, ..., or the name of a type that is no tensor's.
        shape: A number for each fixed axis, a name (perhaps empty) for each free one; None where none is declared.
    """

    dtype: str
    shape: tuple[int | str, ...] | None

    def fits(self, expected: "TensorType") -> bool:
        """Whether the types, the fixed axes and their sizes are the same; names of free axes may differ."""
        if self.shape is None or expected.shape is None or len(self.shape) != len(expected.shape):
            return False
        pairs = zip(self.shape, expected.shape, strict=True)
        return self.dtype == expected.dtype and all(
            found == size for found, size in pairs if isinstance(found, int) or isinstance(size, int)
        )

    def __str__(self) -> str:
        if self.shape is None:
            return f"{self.dtype} without a shape"
        return f"{self.dtype} [{', '.join(str(axis) if axis != '' else '?' for axis in self.shape)}]"


_KEEP = TensorType("int64", (1,))
_SHOWN_CHARACTERS = 300

Types = Mapping[str, TensorType]
"""The name of each input or output -> its type."""


def require_contract(
    inputs: Types,
    optional_inputs: Types,
    outputs: Types,
    states: Mapping[str, int | str],
    vocabulary_size: int | str,
) -> None:
    """Check the inputs and outputs of a graph.

    Args:
        inputs: Inputs without a default.
        optional_inputs: Inputs with a default.
        outputs: All outputs.
        states: Name of each state -> its width, or a name for a width that is free.
        vocabulary_size: Last axis of the logits, or a name for it where it is free.

    Raises:
        ArtifactError: One is missing, has another type or shape, or is not part of the contract; the message names the
            first one in the order of the contract.
    """
    tensors = {name: TensorType("float32", ("batch", width)) for name, width in states.items()}
    logits = TensorType("float32", ("batch", "kept", vocabulary_size))
    _require_keep(inputs, optional_inputs)
    _require("input", {TOKEN_IDS: TensorType("int64", ("batch", "time")), **tensors}, inputs)
    _require("output", {LOGITS: logits, **{f"{NEXT}{name}": tensor for name, tensor in tensors.items()}}, outputs)


def contract_error(direction: str, name: str, found: object, expected: object, names: Iterable[str]) -> ArtifactError:
    """The error about the input or output `name` of a graph; `names`: all inputs, or all outputs."""
    shown = truncated(", ".join(names), _SHOWN_CHARACTERS)
    return ArtifactError(
        f"the {direction} {name!r} breaks the contract: found {found}, expected {expected} "
        f"(the graph's {direction}s: {shown or 'none'}); export it with the contract's names and types"
    )


def _require_keep(inputs: Types, optional_inputs: Types) -> None:
    found = inputs.get(LOGITS_TO_KEEP) or optional_inputs.get(LOGITS_TO_KEEP, _KEEP)
    if found != _KEEP or LOGITS_TO_KEEP in inputs:
        shown = f"{found} {'without' if LOGITS_TO_KEEP in inputs else 'with'} a default"
        expected = f"{_KEEP} with 0 as its default, or no such input"
        raise contract_error("input", LOGITS_TO_KEEP, shown, expected, [*inputs, LOGITS_TO_KEEP])


def _require(direction: str, expected: Types, found: Types) -> None:
    for name in dict.fromkeys([*expected, *found]):
        if name not in expected or name not in found or not found[name].fits(expected[name]):
            raise contract_error(direction, name, found.get(name, "none"), expected.get(name, "none"), found)
