"""Numbers that are none, put into artifacts, states and trainings."""

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from lmtool.export.build import seal
from lmtool.model import Trainer
from lmtool.runtime.artifact.artifact import HASH_KEY
from onnx import numpy_helper
from torch import Tensor

from support.runs.reporters import RecordingReporter

NONE = (math.nan, math.inf, -math.inf)
PLACES = ("weight", "unseen", "average", "optimizer", "state", "loss", "gradient")
"""Where a training can be hit; `unseen` is a weight that no text uses."""

_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)


def floats(path: Path) -> list[str]:
    """The initializers of an artifact that hold floating-point numbers."""
    return [tensor.name for tensor in onnx.load(path).graph.initializer if tensor.data_type in _FLOATS]


def planted(path: Path, name: str, value: float, draw: random.Random, share: float = 0.0) -> bytes:
    """The artifact with `value` in one number of an initializer, or in a share of them, under a right hash."""
    model = onnx.load(path)
    (tensor,) = [found for found in model.graph.initializer if found.name == name]
    array = numpy_helper.to_array(tensor).copy()
    flat = array.reshape(-1)
    for place in {draw.randrange(flat.size) for _ in range(max(int(share * flat.size), 1))}:
        flat[place] = value * draw.choice((1, -1))
    tensor.CopyFrom(numpy_helper.from_array(array, name))
    return seal(model, {entry.key: entry.value for entry in model.metadata_props if entry.key != HASH_KEY})


def as_constant(data: bytes, name: str) -> bytes:
    """The artifact whose initializer `name` is a `Constant` node instead."""

    def move(model: onnx.ModelProto, held: onnx.TensorProto) -> None:
        node = onnx.helper.make_node("Constant", [], [name], value=held)
        model.graph.node.insert(0, node)

    return _moved(data, name, move)


def as_cast_half(data: bytes, name: str) -> bytes:
    """The artifact whose initializer `name` is half-precision numbers in `int32_data`, cast to what it was."""

    def move(model: onnx.ModelProto, held: onnx.TensorProto) -> None:
        with np.errstate(over="ignore"):
            values = numpy_helper.to_array(held).astype(np.float16)
        half = onnx.TensorProto(name=f"{name} in half", data_type=onnx.TensorProto.FLOAT16, dims=held.dims)
        half.int32_data.extend(values.reshape(-1).view(np.uint16).tolist())
        model.graph.initializer.append(half)
        model.graph.node.insert(0, onnx.helper.make_node("Cast", [half.name], [name], to=held.data_type))

    return _moved(data, name, move)


def _moved(data: bytes, name: str, move: Callable[[onnx.ModelProto, onnx.TensorProto], None]) -> bytes:
    model = onnx.load_model_from_string(data)
    (held,) = [found for found in model.graph.initializer if found.name == name]
    kept = onnx.TensorProto.FromString(held.SerializeToString())
    model.graph.initializer.remove(held)
    move(model, kept)
    return seal(model, {entry.key: entry.value for entry in model.metadata_props if entry.key != HASH_KEY})


def tensors_of(trainer: Trainer, place: str) -> list[Tensor]:
    """The tensors of a training that are hit at `place`; none while it has none there."""
    if place == "weight":
        return list(trainer._learner.network.weights().values())
    if place == "unseen":
        return [trainer._learner.network.embedding.weight.detach()[trainer.corpus.vocabulary.unknown_id]]
    if place == "average":
        return list(trainer._learner.average._average.values())
    if place == "optimizer":
        return [entry[name] for entry in trainer._learner._optimizer.state.values() for name in entry if name != "step"]
    return [tensor for layer in trainer._learner._state for tensor in layer]


class Planter(RecordingReporter):
    """A reporter that plants one number after so many steps, and remembers what the best checkpoint was then."""

    def __init__(self, trainer: Trainer, place: str, value: float, steps: int, draw: random.Random) -> None:
        super().__init__()
        self.best: bytes | None = None
        self.planted = False
        self._trainer, self._place, self._value = trainer, place, value
        self._left, self._draw = steps, draw

    def step(self, *_: object) -> None:
        self._left -= 1
        if self._left > 0 or self.planted:
            return
        self.planted = True
        self._remember()
        if self._place == "loss":
            self._trainer._learner._objective.register_forward_hook(self._spoilt)
        elif self._place == "gradient":
            self._trainer._learner.network.projection.weight.register_hook(self._spoilt_gradient)
        else:
            self._plant()

    def _plant(self) -> None:
        flat = self._draw.choice(tensors_of(self._trainer, self._place)).view(-1)
        with torch.no_grad():
            flat[self._draw.randrange(flat.numel())] = self._value

    def _remember(self) -> None:
        best = self._trainer.run.best
        self.best = best.read_bytes() if best.exists() else None

    def _spoilt_gradient(self, gradient: Tensor) -> Tensor:
        self._remember()
        return gradient * self._value

    def _spoilt(self, _: object, __: object, found: Any) -> Any:
        self._remember()
        loss, token_loss, state = found
        return loss * self._value, token_loss * self._value, state


def is_number(value: Any) -> bool:
    """Whether everything in a result is a finite number."""
    return bool(np.isfinite(np.asarray(value, np.float64)).all())
