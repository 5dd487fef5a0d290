"""Files of named tensors: safetensors, and state_dicts that `torch.save` wrote, read without running code of theirs."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import safetensors
import torch
from torch import Tensor

from ...runtime.errors import truncated
from ...runtime.io.files import opened
from ..errors import WeightsError
from .parts import as_weight, listed

_HEAD_BYTES = 16
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_MOST_DEPTH = 8
_ADVICE = "weights_only"
"""What torch says to change for a file that is refused; nobody should."""

_RECURRENT = "weight_hh"
_GLOBAL = re.compile(r"GLOBAL (\S+)")


@final
@dataclass(frozen=True, eq=False)
class WeightsFile:
    """Named tensors; each is read when it is asked for.

    Attributes:
        path: The file.
        shapes: Name -> shape.
        get: Returns the tensor of a name.
    """

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    get: Callable[[str], Tensor]

    @classmethod
    def open(cls, path: Path) -> "WeightsFile":
        """Open a file of safetensors or of `torch.save`.

        Raises:
            StorageError: It cannot be read.
            WeightsError: It is neither, is damaged, holds objects instead of tensors, or several networks.
        """
        with opened(path) as file:
            head = file.read(_HEAD_BYTES)
        return _of_safetensors(path) if head[8:9] == b"{" else _of_torch(path, head)

    def read(self, name: str) -> Tensor:
        """The tensor as float32.

        Raises:
            WeightsError: It holds other numbers, NaN or infinity, or cannot be read.
        """
        return as_weight(name, self.get(name))


def _of_safetensors(path: Path) -> WeightsFile:
    try:
        file: Any = safetensors.safe_open(path, framework="pt")
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is no safetensors file, or is damaged: {truncated(error)}") from error
    return WeightsFile(path, shapes, file.get_tensor)


def _of_torch(path: Path, head: bytes) -> WeightsFile:
    mapped = head.startswith(_ZIP)  # files of torch before 1.6 are none, and cannot be mapped
    try:
        value = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)  # noqa: TID251 (weights only)
    except Exception as error:  # torch raises errors of many kinds
        raise _refusal(path, str(error), mapped or head.startswith(_PICKLE)) from error
    tensors = _network(path, value)
    return WeightsFile(path, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, tensors.__getitem__)


def _refusal(path: Path, message: str, is_pickled: bool) -> WeightsError:
    found = _GLOBAL.search(message)
    if found is None and not (is_pickled and _ADVICE in message):
        reason = "" if _ADVICE in message else f": {truncated(' '.join(message.split()), 200)}"
        return WeightsError(
            f"{path} is no file of weights that this version reads (safetensors, a state_dict of torch.save, Keras' "
            f".keras or .h5), or is damaged{reason}"
        )
    what = f"the object {found[1]}" if found else "objects"
    return WeightsError(
        f"{path} holds {what}, not only tensors, and reading it would run its code. If you trust it, turn it into "
        "safetensors where that code can be imported:\n"
        f"  import torch; from safetensors.torch import save_model; saved = torch.load({str(path)!r}, "
        "weights_only=False)\n"
        '  save_model(saved[0] if isinstance(saved, (list, tuple)) else saved, "weights.safetensors")'
    )


def _network(path: Path, value: Any) -> dict[str, Tensor]:
    """The tensors of the one network in what `torch.save` saved; others, an optimizer's for example, are left out."""
    groups = dict(_groups(value))
    if not groups:
        raise WeightsError(f"{path} holds {type(value).__name__} and no named tensors, expected a state_dict")
    networks = {key: group for key, group in groups.items() if any(_RECURRENT in name for name in group)}
    if len(networks) > 1:
        keys = [str(key) for key in networks]
        raise WeightsError(
            f"{path} holds {len(keys)} networks, {truncated(', '.join(keys), 200)}; save one of them: "
            f"torch.save(torch.load({str(path)!r}, weights_only=True)[{keys[0]!r}], 'weights.pt')"
        )
    if not networks:
        everything = {name: tuple(tensor.shape) for group in groups.values() for name, tensor in group.items()}
        raise WeightsError(
            f"{path} has no recurrent layer: no tensor is named weight_hh or weight_hh_l0, as those of nn.LSTM, nn.GRU "
            f"and nn.RNN are; its tensors:\n{listed(everything)}"
        )
    return next(iter(networks.values()))


def _groups(value: Any, key: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Each mapping of names to tensors within `value`, with its place there."""
    if isinstance(value, Tensor) or depth > _MOST_DEPTH:
        return
    if isinstance(value, Mapping):
        tensors = {name: item for name, item in value.items() if isinstance(name, str) and isinstance(item, Tensor)}
        if tensors:
            yield key, tensors
        items = [(str(name), item) for name, item in value.items()]
    else:
        items = [(str(index), item) for index, item in enumerate(value)] if isinstance(value, list | tuple) else []
    for name, item in items:
        yield from _groups(item, f"{key}.{name}" if key else name, depth + 1)
