"""NaN and infinity injected into artifacts and trainings."""

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

NON_FINITE = (math.nan, math.inf, -math.inf)
INJECTION_POINTS = ("weight", "unseen", "average", "optimizer", "state", "loss", "gradient")
"""Parts of a training; `unseen` is the embedding of a word that occurs in no text."""

_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)


def float_weights(path: Path) -> list[str]:
    """The names of an artifact's floating-point initializers."""
    return [tensor.name for tensor in onnx.load(path).graph.initializer if tensor.data_type in _FLOATS]


def artifact_with(path: Path, name: str, value: float, draw: random.Random, share: float = 0.0) -> bytes:
    """The artifact with `value` in one element, or a share of the elements, of an initializer; its hash is valid."""
    model = onnx.load(path)
    (tensor,) = [entry for entry in model.graph.initializer if entry.name == name]
    array = numpy_helper.to_array(tensor).copy()
    flat = array.reshape(-1)
    for place in {draw.randrange(flat.size) for _ in range(max(int(share * flat.size), 1))}:
        flat[place] = value * draw.choice((1, -1))
    tensor.CopyFrom(numpy_helper.from_array(array, name))
    return seal(model, {entry.key: entry.value for entry in model.metadata_props if entry.key != HASH_KEY})


def weight_as_constant(data: bytes, name: str) -> bytes:
    """The artifact with initializer `name` as a `Constant` node."""

    def move(model: onnx.ModelProto, held: onnx.TensorProto) -> None:
        node = onnx.helper.make_node("Constant", [], [name], value=held)
        model.graph.node.insert(0, node)

    return _moved(data, name, move)


def weight_as_cast_half(data: bytes, name: str) -> bytes:
    """The artifact with initializer `name` as half-precision `int32_data` and a `Cast` to its own type."""

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
    (held,) = [entry for entry in model.graph.initializer if entry.name == name]
    kept = onnx.TensorProto.FromString(held.SerializeToString())
    model.graph.initializer.remove(held)
    move(model, kept)
    return seal(model, {entry.key: entry.value for entry in model.metadata_props if entry.key != HASH_KEY})


def tensors_at(trainer: Trainer, place: str) -> list[Tensor]:
    """The tensors of a training at an injection point."""
    if place == "weight":
        return list(trainer._learner.network.weights().values())
    if place == "unseen":
        return [trainer._learner.network.embedding.weight.detach()[trainer.corpus.vocabulary.unknown_id]]
    if place == "average":
        return list(trainer._learner.average._average.values())
    if place == "optimizer":
        tensors = trainer._learner._optimizers.tensors()
        return [tensor for name, tensor in tensors.items() if not name.endswith(".step")]
    return [tensor for layer in trainer._learner._state for tensor in layer]


class ValueInjector(RecordingReporter):
    """A reporter that injects a value after a number of steps, and keeps the best checkpoint of that moment."""

    def __init__(self, trainer: Trainer, place: str, value: float, steps: int, draw: random.Random) -> None:
        super().__init__()
        self.best: bytes | None = None
        self.injected = False
        self._trainer, self._place, self._value = trainer, place, value
        self._left, self._draw = steps, draw

    def step(self, *_: object) -> None:
        self._left -= 1
        if self._left > 0 or self.injected:
            return
        self.injected = True
        self._save_best()
        if self._place == "loss":
            self._trainer._learner._objective.register_forward_hook(self._scaled_loss)
        elif self._place == "gradient":
            self._trainer._learner.network.projection.weight.register_hook(self._scaled_gradient)
        else:
            self._inject()

    def _inject(self) -> None:
        flat = self._draw.choice(tensors_at(self._trainer, self._place)).view(-1)
        with torch.no_grad():
            flat[self._draw.randrange(flat.numel())] = self._value

    def _save_best(self) -> None:
        best = self._trainer.run.best
        self.best = best.read_bytes() if best.exists() else None

    def _scaled_gradient(self, gradient: Tensor) -> Tensor:
        self._save_best()
        return gradient * self._value

    def _scaled_loss(self, _: object, __: object, outputs: Any) -> Any:
        self._save_best()
        loss, token_loss, state = outputs
        return loss * self._value, token_loss * self._value, state


def is_finite(value: Any) -> bool:
    """Whether all numbers in a result are finite."""
    return bool(np.isfinite(np.asarray(value, np.float64)).all())
