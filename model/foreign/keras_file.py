"""Models of Keras, version 3 (`.keras`) and version 2 (`.h5`): a chain of Embedding, recurrent layers and Dense."""

import contextlib
import io
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, final

import torch
from torch import Tensor

from ...runtime.errors import JsonError, truncated
from ...runtime.io.files import opened
from ...runtime.io.json_reader import LARGE_BYTES, parse_json
from ..errors import WeightsError
from .parts import Layer, Parts, as_weight, require_room

_HDF5 = b"\x89HDF\r\n\x1a\n"
_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_RECURRENT = ("LSTM", "GRU", "SimpleRNN")
_PASSED = {"InputLayer", "Dropout", "SpatialDropout1D", "GaussianNoise", "GaussianDropout", "NotEqual"}
"""Layers that do nothing when the model predicts, and the computation of a mask."""
_MASKED = "token 0 was masked (mask_zero) and did not change the state; here it is read as any other"
_GRU_BLOCKS = (1, 0, 2)
"""Places of torch's gates (reset, update, new) among Keras' (update, reset, new)."""
_MOST_WEIGHTS_BYTES = 1 << 32
_MOST_EXPANSION, _ALWAYS_UNPACKED_BYTES = 200, 1 << 20


def is_keras(path: Path) -> bool:
    """Whether a file is a model of Keras.

    Raises:
        StorageError: It cannot be read.
    """
    with opened(path) as file:
        if file.read(len(_HDF5)) == _HDF5:
            return True
        with contextlib.suppress(Exception):  # zipfile raises errors of many kinds
            return {_CONFIG, _WEIGHTS} <= set(zipfile.ZipFile(file).namelist())
    return False


def read_keras(path: Path) -> tuple[Parts, list[str]]:
    """The parts of a model, and what to know about it.

    Raises:
        StorageError: The file cannot be read.
        WeightsError: It is damaged, or has layers or settings that artifacts cannot have; the message names them.
        ModuleNotFoundError: h5py is not installed.
    """
    with opened(path) as file:
        try:
            is_old = file.read(len(_HDF5)) == _HDF5
            with _old(file) if is_old else _new(file) as model:
                return _parts(model)
        except WeightsError as error:
            raise WeightsError(f"{path}: {error}") from error
        except (ModuleNotFoundError, MemoryError):
            raise
        except Exception as error:  # zipfile and h5py raise errors of many kinds
            raise WeightsError(f"{path} is damaged, or no model of Keras: {truncated(error, 200)}") from error


@final
class _Model:
    """The layers of a model, in order, and where their weights are."""

    def __init__(self, layers: list[Mapping[str, Any]], weights: Any, keys: list[list[str]]) -> None:
        """`keys`: for each layer the places of its weights in `weights`, an HDF5 group."""
        self.layers = layers
        self._weights = weights
        self._keys = keys

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Place -> shape of all weights."""
        return {key: tuple(_dataset(self._weights, key).shape) for keys in self._keys for key in keys}

    def read(self, index: int) -> list[Tensor]:
        """The weights of a layer."""
        return [as_weight(key, torch.from_numpy(_dataset(self._weights, key)[()])) for key in self._keys[index]]


@contextlib.contextmanager
def _old(file: BinaryIO) -> Iterator[_Model]:
    import h5py  # in the extra `keras`

    with h5py.File(file, "r") as content:
        if "model_config" not in content.attrs:
            raise WeightsError("it holds weights without their model; save the whole model: model.save('model.keras')")
        layers = _layers(content.attrs["model_config"])
        yield _Model(layers, content, [_named(content, f"model_weights/{each['config']['name']}") for each in layers])


@contextlib.contextmanager
def _new(file: BinaryIO) -> Iterator[_Model]:
    import h5py  # in the extra `keras`

    archive = zipfile.ZipFile(file)
    layers = _layers(_content(archive, _CONFIG, LARGE_BYTES))
    with h5py.File(io.BytesIO(_content(archive, _WEIGHTS, _MOST_WEIGHTS_BYTES)), "r") as content:
        counts: dict[str, int] = {}
        keys = []
        for layer in layers:
            name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", layer["class_name"]).lower()
            number = counts[name] = counts.get(name, -1) + 1
            group = f"layers/{name}_{number}" if number else f"layers/{name}"
            keys.append([*_numbered(content, f"{group}/vars"), *_numbered(content, f"{group}/cell/vars")])
            keys[-1] += _numbered(content, f"{group}/layer/vars")  # of TimeDistributed
        yield _Model(layers, content, keys)


def _content(archive: zipfile.ZipFile, name: str, most_bytes: int) -> bytes:
    part = archive.getinfo(name)
    most_bytes = min(most_bytes, _ALWAYS_UNPACKED_BYTES + _MOST_EXPANSION * part.compress_size)
    if part.file_size > most_bytes:
        raise WeightsError(f"its {name} has {part.file_size:,} bytes, expected {most_bytes:,} at most")
    with archive.open(name) as file:
        return file.read(most_bytes)


def _layers(config: Any) -> list[Mapping[str, Any]]:
    """The configurations of the layers, in order."""
    try:
        value = parse_json(config, LARGE_BYTES)
    except JsonError as error:
        raise WeightsError(f"its configuration {error}") from error
    if value["class_name"] not in ("Sequential", "Functional", "Model"):
        raise WeightsError(
            f"it is a {value['class_name']}, expected a Sequential or Functional model of Embedding, LSTM, GRU or "
            "SimpleRNN, and Dense; save its layers as one: keras.Sequential(model.layers)"
        )
    inner = value["config"]
    layers: list[Mapping[str, Any]] = inner if isinstance(inner, list) else inner["layers"]
    _require_chain(layers)
    return layers


def _require_chain(layers: list[Mapping[str, Any]]) -> None:
    """WeightsError if a layer reads another one than the one before it; masks do not count."""
    before, masks = None, set()
    for layer in layers:
        name = layer["config"]["name"]
        if layer["class_name"] == "NotEqual":
            masks.add(name)
            continue
        read = set(_sources(layer.get("inbound_nodes", ()))) - masks
        if read - {before}:
            raise WeightsError(f"its layer {name!r} reads {' and '.join(sorted(read))}, expected a chain of layers")
        before = name


def _sources(nodes: Any) -> Iterator[str]:
    """The names of the layers that a layer reads, as Keras 3 writes them, or as Keras 2: `[name, 0, 0, {}]`."""
    if isinstance(nodes, dict):
        if "keras_history" in nodes:
            yield nodes["keras_history"][0]
        else:
            for value in nodes.values():
                yield from _sources(value)
    elif isinstance(nodes, list | tuple):
        if len(nodes) > 2 and isinstance(nodes[0], str) and type(nodes[1]) is int:
            yield nodes[0]
        else:
            for value in nodes:
                yield from _sources(value)


def _named(content: Any, group: str) -> list[str]:
    """The weights that a layer's group lists; none if there is no such group."""
    found = _member(content, group)
    names = () if found is None else found.attrs["weight_names"]
    return [f"{group}/{name.decode() if isinstance(name, bytes) else name}" for name in names]


def _numbered(content: Any, group: str) -> list[str]:
    """The members `0`, `1`, ... of a group; none if there is no such group."""
    names = _member(content, group)
    return [] if names is None else [f"{group}/{name}" for name in sorted(names, key=int)]


def _member(content: Any, path: str) -> Any:
    """A member of the file, None if it is missing; links, which may lead to other files, are not followed."""
    import h5py

    for part in path.split("/"):
        link = content.get(part, getlink=True)
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise WeightsError(f"its part {path!r} is a link, which is not followed")
        content = content[part]
    return content


def _dataset(content: Any, path: str) -> Any:
    """An array within the file; one whose numbers are in other files is refused."""
    import h5py

    found = _member(content, path)
    if not isinstance(found, h5py.Dataset) or found.external or found.is_virtual:
        raise WeightsError(f"its part {path!r} is no array within the file")
    return found


def _parts(model: _Model) -> tuple[Parts, list[str]]:
    require_room(model.shapes())
    embedding, dense = None, None
    layers: list[Layer] = []
    notes = []
    described = ", ".join(f"{each['class_name']} {each['config'].get('name', '')!r}" for each in model.layers)
    for index, layer in enumerate(model.layers):
        name, config = layer["class_name"], layer["config"]
        if name == "TimeDistributed" and config["layer"]["class_name"] == "Dense":
            name, config = "Dense", config["layer"]["config"]
        if name == "Embedding" and embedding is None and not layers:
            (embedding,) = model.read(index)
            if config.get("mask_zero"):
                notes.append(_MASKED)
        elif name in _RECURRENT and embedding is not None and dense is None:
            layers.append(_layer(name, config, model.read(index)))
        elif name == "Dense" and layers and dense is None and config.get("activation") in ("softmax", "linear", None):
            dense = model.read(index)
        elif name not in _PASSED:
            raise WeightsError(f"{_refusal(name, config)}; its layers: {described}")
    if embedding is None or not layers or dense is None:
        raise WeightsError(f"expected Embedding, recurrent layers and Dense in this order; its layers: {described}")
    return Parts(embedding, tuple(layers), dense[0].T.contiguous(), dense[1] if len(dense) > 1 else None), notes


def _refusal(name: str, config: Mapping[str, Any]) -> str:
    if name == "Bidirectional":
        return "its recurrent layer is bidirectional: it reads the text's end first, so it cannot be streamed"
    if name == "Dense":
        return f"expected one Dense of softmax after the recurrent layers, found one of {config.get('activation')!r}"
    return f"artifacts cannot have its layer {name} at this place"


def _layer(name: str, config: Mapping[str, Any], weights: list[Tensor]) -> Layer:
    """A recurrent layer in torch's order of gates."""
    expected = {"activation": "tanh", "recurrent_activation": "sigmoid", "go_backwards": False, "reset_after": True}
    for key, value in expected.items():
        if config.get(key, False if key == "reset_after" and name == "GRU" else value) != value:
            raise WeightsError(
                f"its layer {config.get('name')!r} ({name}) has {key}={config.get(key)!r}, artifacts can only have "
                f"{value!r}"
            )
    kernel, recurrence, *biases = (tensor.T if tensor.dim() == 2 else tensor for tensor in weights)
    if name == "GRU":
        return Layer(*map(_gru_gates, (kernel, recurrence, *(biases[0].T if biases else ()))))
    return Layer(kernel, recurrence, *biases)


def _gru_gates(tensor: Tensor) -> Tensor:
    blocks = tensor.chunk(len(_GRU_BLOCKS))
    return torch.cat([blocks[place] for place in _GRU_BLOCKS])
