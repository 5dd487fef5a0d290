"""The recurrent state as a value: taken, kept, copied, forked, saved to bytes and restored elsewhere.

The bytes are a magic, the header's length (4 bytes, little-endian), a JSON header (model hash, shapes, hash of the
rest), then the tensors in the artifact's order as little-endian float32 and the pending token ids as int64.
"""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from .errors import StateError

_MAGIC = b"lmstate1"
_FLOAT, _INT = np.dtype("<f4"), np.dtype("<i8")


def _nothing_pending() -> NDArray[np.int64]:
    return np.zeros((0, 0), np.int64)


@final
@dataclass(frozen=True, eq=False)
class State:
    """What a network remembers of a batch of streams. Its arrays are read-only; a step gives a new state.

    Attributes:
        model_sha256: Hash of the artifact it belongs to.
        tensors: For each state input in the artifact's order, float32 [batch, width].
        pending: int64 [batch, n], token ids that a stream was fed but that no step has run yet; the next step runs
            them first. A step returns a state with none.
    """

    model_sha256: str
    tensors: tuple[NDArray[np.float32], ...]
    pending: NDArray[np.int64] = field(default_factory=_nothing_pending)

    def __post_init__(self) -> None:
        """Keep copies of arrays that somebody could still write to."""
        object.__setattr__(self, "tensors", tuple(_read_only(tensor) for tensor in self.tensors))
        object.__setattr__(self, "pending", _read_only(self.pending))

    @property
    def batch_size(self) -> int:
        """The number of streams."""
        return int(self.tensors[0].shape[0])

    def to_bytes(self) -> bytes:
        """The state as bytes, for `from_bytes` in any process that has the same artifact."""
        arrays = [np.ascontiguousarray(tensor, _FLOAT).tobytes() for tensor in self.tensors]
        body = b"".join([*arrays, np.ascontiguousarray(self.pending, _INT).tobytes()])
        header = {
            "model_sha256": self.model_sha256,
            "shapes": [list(tensor.shape) for tensor in self.tensors],
            "pending_shape": list(self.pending.shape),
            "sha256": hashlib.sha256(body).hexdigest(),
        }
        encoded = json.dumps(header, separators=(",", ":")).encode()
        return b"".join([_MAGIC, len(encoded).to_bytes(4, "little"), encoded, body])

    @classmethod
    def from_bytes(cls, data: bytes) -> "State":
        """Read what `to_bytes` gave. Whether it fits a model is checked where it is used.

        Raises:
            StateError: The bytes are no state, or are damaged.
        """
        header, body = _header_and_body(data)
        try:
            shapes = [(*shape,) for shape in [*header["shapes"], header["pending_shape"]]]
            model_sha256, sha256 = str(header["model_sha256"]), header["sha256"]
            if len(shapes) < 2 or not all(_is_shape(shape) for shape in shapes):
                raise StateError(f"no saved state: the shapes {shapes} are not those of matrices")
        except (KeyError, TypeError) as error:
            raise StateError(f"no saved state: its header lacks {error}") from error
        if hashlib.sha256(body).hexdigest() != sha256:
            raise StateError("the saved state is damaged: its bytes do not match its hash")
        *tensors, pending = _arrays(body, shapes)
        return cls(model_sha256, tuple(tensors), pending)


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    if array.flags.writeable:
        array = array.copy()
        array.flags.writeable = False
    return array


def _header_and_body(data: bytes) -> tuple[dict[str, Any], bytes]:
    start = len(_MAGIC) + 4
    if data[: len(_MAGIC)] != _MAGIC or len(data) < start:
        raise StateError(f"no saved state: {len(data):,} bytes that begin with {data[:8]!r}, expected {_MAGIC!r}")
    end = start + int.from_bytes(data[len(_MAGIC) : start], "little")
    try:
        header = json.loads(data[start:end])
    except (ValueError, RecursionError) as error:
        raise StateError(f"no saved state: its header is not JSON ({error})") from error
    if not isinstance(header, dict):
        raise StateError(f"no saved state: its header is {type(header).__name__}, expected an object")
    return header, data[end:]


def _is_shape(shape: tuple[Any, ...]) -> bool:
    return len(shape) == 2 and all(type(size) is int and 0 <= size < 2**31 for size in shape)


def _arrays(body: bytes, shapes: list[tuple[int, ...]]) -> list[Any]:
    types = [_FLOAT] * (len(shapes) - 1) + [_INT]
    sizes = [shape[0] * shape[1] * kind.itemsize for shape, kind in zip(shapes, types, strict=True)]
    if sum(sizes) != len(body):
        raise StateError(f"the saved state is damaged: {len(body):,} bytes of numbers, expected {sum(sizes):,}")
    arrays, offset = [], 0
    for shape, kind, size in zip(shapes, types, sizes, strict=True):
        array = np.frombuffer(body[offset : offset + size], kind).reshape(shape)
        arrays.append(array.astype(kind.newbyteorder("="), copy=False))
        offset += size
    return arrays
