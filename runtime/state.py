"""The recurrent state as a value: copied, forked, saved to bytes and restored in another process.

The bytes are a magic, the header's length (4 bytes, little-endian), a JSON header (model hash, shapes, hash of the
rest), the tensors in the artifact's order as little-endian float32, and the pending token ids as int64. The state of a
stream with a cache has another magic, followed at the end by the cache's hidden states as float32, its token ids as
int64, and its size, theta, weight and oldest pair as float64. Where the text ends within a character, the header has
its bytes as hexadecimal digits: `partial`; where it ends within a word of a model of parts of words, `letters`.
"""

import codecs
import hashlib
import json
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from .arguments import checked_array, checked_bytes, checked_instance, checked_text, wrong_type
from .arrays import DeviceTensors, Tensors, as_read_only, as_value, freeze, shapes
from .cache import Cache, CacheOptions
from .errors import JsonError, OptionError, StateError, counted
from .io.json_reader import parse_json
from .text.text_decoder import MOST_LETTERS, is_letters

_MAGIC, _MAGIC_WITH_CACHE = b"lmstate1", b"lmstate2"
_FLOAT, _INT, _DOUBLE = np.dtype("<f4"), np.dtype("<i8"), np.dtype("<f8")
_CACHE_TYPES: list[np.dtype[Any]] = [_FLOAT, _INT, _DOUBLE]
_KEYS = {"model_sha256", "shapes", "pending_shape", "sha256", "partial", "letters"}

_NO_TOKENS = freeze(np.zeros((0, 0), np.int64))


@final
@dataclass(frozen=True, eq=False)
class State:
    """The recurrent state of a batch of streams. Its arrays are read-only; a step returns a new state.

    Attributes:
        model_sha256: Hash of the artifact it belongs to.
        tensors: For each state input in the artifact's order, float32 [batch, width]. Tensors on a GPU stay there
            until they are read.
        pending: int64 [batch, n], tokens fed but not yet run; the next step runs them first. A step returns a state
            with none.
        cache: The pairs in a stream's cache; None without a cache. It includes the pair of the last hidden state in
            `tensors` and the first token in `pending`.
        partial: At the end of a stream's text, the bytes of a character that is not complete, 3 at most; for tokens
            that hold single bytes.
        letters: At the end of a stream's text, what follows its last white space, 64 characters at most; for tokens
            that are parts of words, where the words that are never written depend on it.
    """

    model_sha256: str
    tensors: Tensors
    pending: NDArray[np.int64] = field(default_factory=lambda: _NO_TOKENS)
    cache: Cache | None = None
    partial: bytes = b""
    letters: str = ""

    def __post_init__(self) -> None:
        """Copy writable arrays; raise ArgumentError for a field of a wrong type."""
        checked_text("model_sha256", self.model_sha256)
        if not isinstance(self.tensors, DeviceTensors):
            if not isinstance(self.tensors, Sequence):
                raise wrong_type("tensors", self.tensors, "a sequence of arrays")
            for tensor in self.tensors:
                checked_array("an entry of tensors", tensor, "fiu", "an array of float32 [batch, width]")
        checked_array("pending", self.pending, "iu", "an array of int64 [batch, tokens]")
        if self.cache is not None:
            checked_instance("cache", self.cache, Cache)
        if not _is_partial(checked_bytes("partial", self.partial)):
            raise StateError(f"partial is {reprlib.repr(self.partial)}, expected the first bytes of a UTF-8 character")
        if not is_letters(checked_text("letters", self.letters)):
            raise StateError(
                f"letters are {reprlib.repr(self.letters)}, expected at most {MOST_LETTERS} without white space"
            )
        object.__setattr__(self, "tensors", as_value(self.tensors))
        object.__setattr__(self, "pending", as_read_only(self.pending))

    @classmethod
    def made_by(cls, maker: object, model_sha256: str, tensors: Tensors, batch_size: int) -> "State":
        """The state that a call returned: valid by construction, so it is not copied, and `maker` skips its checks."""
        state = object.__new__(cls)
        fields = state.__dict__  # the class has the defaults of the others
        fields["model_sha256"], fields["tensors"], fields["pending"] = model_sha256, tensors, _NO_TOKENS
        fields["_made"] = maker, batch_size
        return state

    def is_made_by(self, maker: object, batch_size: int) -> bool:
        """Whether `made_by` made it for the same maker and number of streams."""
        made = self.__dict__.get("_made")
        return made is not None and made[0] is maker and made[1] == batch_size

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the tensors, [batch, width] each."""
        return shapes(self.tensors)

    @property
    def batch_size(self) -> int:
        """The number of streams."""
        return self.shapes[0][0]

    def __repr__(self) -> str:
        cache = "" if self.cache is None else f", a cache of {counted(len(self.cache), 'pair')}"
        shapes = " ".join(str(list(shape)) for shape in self.shapes)
        pending = counted(self.pending.size, "pending token")
        return f"<State of model {self.model_sha256[:12]}: {shapes}, {pending}{cache}>"

    def require_finite(self) -> None:
        """Raise StateError for NaN or infinity; skips tensors on a device, which were computed there."""
        arrays = [] if isinstance(self.tensors, DeviceTensors) else [*self.tensors]
        arrays += [] if self.cache is None else [self.cache.hidden]
        if not all(np.isfinite(array).all() for array in arrays):
            raise StateError("the state holds numbers that are not finite; begin with initial_state()")

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy through bytes, so that copies are read-only and on the host."""
        return State.from_bytes, (self.to_bytes(),)

    def to_bytes(self) -> bytes:
        """The state as bytes, for `from_bytes` in any process that has the same artifact."""
        cached = [] if self.cache is None else _cache_arrays(self.cache)
        arrays = [*self.tensors, self.pending, *cached]
        types = _types(len(self.tensors), with_cache=bool(cached))
        body = b"".join(np.ascontiguousarray(array, kind).tobytes() for array, kind in zip(arrays, types, strict=True))
        header = {
            "model_sha256": self.model_sha256,
            "shapes": [list(shape) for shape in self.shapes],
            "pending_shape": list(self.pending.shape),
            "sha256": hashlib.sha256(body).hexdigest(),
        }
        if cached:
            header["cache_shapes"] = [list(array.shape) for array in cached]
        if self.partial:
            header["partial"] = self.partial.hex()
        if self.letters:
            header["letters"] = self.letters
        encoded = json.dumps(header, separators=(",", ":")).encode()
        magic = _MAGIC_WITH_CACHE if cached else _MAGIC
        return b"".join([magic, len(encoded).to_bytes(4, "little"), encoded, body])

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview) -> "State":
        """Read the result of `to_bytes`. A predictor checks whether it fits the model.

        Raises:
            StateError: The bytes are not a state, are damaged, or hold NaN or infinity.
        """
        data = checked_bytes("data", data)
        header, body = _header_and_body(data)
        with_cache = data.startswith(_MAGIC_WITH_CACHE)
        try:
            cache_shapes = header["cache_shapes"] if with_cache else []
            shapes = [(*shape,) for shape in [*header["shapes"], header["pending_shape"], *cache_shapes]]
            count = len(header["shapes"])
            model_sha256, sha256 = str(header["model_sha256"]), header["sha256"]
            partial, letters = _partial_of(header.get("partial", "")), _letters_of(header.get("letters", ""))
            if not count or not all(_is_shape(shape) for shape in shapes):
                raise StateError(f"no saved state: the shapes {reprlib.repr(shapes)} are not those of matrices")
        except (KeyError, TypeError) as error:
            raise StateError(f"no saved state: its header lacks {error}") from error
        if hashlib.sha256(body).hexdigest() != sha256:
            raise StateError("the saved state is damaged: its bytes do not match its hash")
        types = _types(count, with_cache)
        if len(types) != len(shapes):
            raise StateError(f"no saved state: it has {counted(len(shapes), 'array')}, expected {len(types)}")
        arrays = _arrays(body, shapes, types)
        cache = _cache_of(*arrays[count + 1 :]) if with_cache else None
        state = cls(model_sha256, tuple(arrays[:count]), arrays[count], cache, partial, letters)
        state.require_finite()
        return state


def _header_and_body(data: bytes) -> tuple[dict[str, Any], bytes]:
    start = len(_MAGIC) + 4
    if data[: len(_MAGIC)] not in (_MAGIC, _MAGIC_WITH_CACHE) or len(data) < start:
        raise StateError(
            f"no saved state: {len(data):,} bytes that begin with {data[:8]!r}, "
            f"expected {_MAGIC!r} or {_MAGIC_WITH_CACHE!r}"
        )
    end = start + int.from_bytes(data[len(_MAGIC) : start], "little")
    try:
        header = parse_json(data[start:end])
    except JsonError as error:
        raise StateError(f"no saved state: its header {error}") from error
    if not isinstance(header, dict):
        raise StateError(f"no saved state: its header is {type(header).__name__}, expected an object")
    known = _KEYS | {"cache_shapes"} if data.startswith(_MAGIC_WITH_CACHE) else _KEYS
    if unknown := header.keys() - known:
        raise StateError(f"no saved state: its header has {reprlib.repr(min(unknown))}, expected {sorted(known)}")
    return header, data[end:]


def _partial_of(digits: Any) -> bytes:
    try:
        return bytes.fromhex(digits)
    except (TypeError, ValueError) as error:
        raise StateError(f"no saved state: its partial is {reprlib.repr(digits)}, not hexadecimal digits") from error


def _letters_of(letters: Any) -> str:
    if not isinstance(letters, str):
        raise StateError(f"no saved state: its letters are {reprlib.repr(letters)}, not text")
    return letters


def _is_partial(data: bytes) -> bool:
    """Whether some character begins with these bytes and has more."""
    try:
        return codecs.utf_8_decode(data, "strict", False) == ("", 0)
    except UnicodeDecodeError:
        return False


def _is_shape(shape: tuple[Any, ...]) -> bool:
    return len(shape) == 2 and all(type(size) is int and 0 <= size < 2**31 for size in shape)


def _types(tensor_count: int, with_cache: bool) -> list[np.dtype[Any]]:
    return [*[_FLOAT] * tensor_count, _INT, *(_CACHE_TYPES if with_cache else [])]


def _cache_arrays(cache: Cache) -> list[NDArray[Any]]:
    options = cache.options
    settings = np.array([[options.size, options.theta, options.weight, cache.oldest]], np.float64)
    return [cache.hidden, cache.token_ids[None], settings]


def _cache_of(hidden: NDArray[np.float32], token_ids: NDArray[np.int64], settings: NDArray[np.float64]) -> Cache:
    numbers = settings.ravel().tolist()
    if len(token_ids) != 1 or len(numbers) != 4 or not (numbers[0].is_integer() and numbers[3].is_integer()):
        raise StateError(f"no saved state: its cache has token ids {list(token_ids.shape)} and the options {numbers}")
    size, theta, weight, oldest = numbers
    try:
        return Cache(CacheOptions(int(size), theta, weight), hidden, token_ids[0], int(oldest))
    except OptionError as error:
        raise StateError(f"no saved state: {error}") from error


def _arrays(body: bytes, shapes: list[tuple[int, ...]], types: list[np.dtype[Any]]) -> list[Any]:
    sizes = [shape[0] * shape[1] * kind.itemsize for shape, kind in zip(shapes, types, strict=True)]
    if sum(sizes) != len(body):
        raise StateError(f"the saved state is damaged: {len(body):,} bytes of numbers, expected {sum(sizes):,}")
    arrays, offset = [], 0
    for shape, kind, size in zip(shapes, types, sizes, strict=True):
        array = np.frombuffer(body[offset : offset + size], kind).reshape(shape)
        arrays.append(array.astype(kind.newbyteorder("="), copy=False))
        offset += size
    return arrays
