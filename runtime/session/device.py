"""Runs a session on the memory of a device: states stay there, only results are copied back.

Inputs and outputs are bound (https://onnxruntime.ai/docs/api/python/api_summary.html#data-on-device). Each call takes
the memory of its outputs from the device's arena, so a state is a value there too. Log-probabilities are computed there
by a second graph without weights, so that float32 [batch, positions, vocabulary] is never copied.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..arrays import DeviceTensors, Tensors
from ..artifact import protobuf
from ..artifact.artifact import LOGITS, LOGITS_TO_KEEP, TOKEN_IDS
from .calls import Graph, translate_onnxruntime_errors

TARGETS = "targets"
LOG_PROBS = "log_probs"

_FLOAT, _INT64 = 1, 7
_INT_ATTRIBUTE = 2
_IR_VERSION, _OPSET = 8, 17


def scoring_graph() -> bytes:
    """An ONNX model: logits float32 [batch, positions, vocabulary] and targets int64 [batch, positions, 1] to float32.

    The field numbers are from https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
    """
    graph = protobuf.message(
        (1, _node("LogSoftmax", [LOGITS], "all_log_probs")),
        (1, _node("GatherElements", ["all_log_probs", TARGETS], LOG_PROBS)),
        (2, "scoring"),
        (11, _tensor(LOGITS, _FLOAT, "vocabulary")),
        (11, _tensor(TARGETS, _INT64, 1)),
        (12, _tensor(LOG_PROBS, _FLOAT, 1)),
    )
    return protobuf.message((1, _IR_VERSION), (2, "lmtool"), (7, graph), (8, protobuf.message((1, ""), (2, _OPSET))))


def _node(operator: str, inputs: list[str], output: str) -> bytes:
    """A node along the last of three axes."""
    axis = protobuf.message((1, "axis"), (3, 2), (20, _INT_ATTRIBUTE))
    return protobuf.message(*((1, name) for name in inputs), (2, output), (4, operator), (5, axis))


def _tensor(name: str, kind: int, last: str | int) -> bytes:
    axes = [
        protobuf.message((1, size) if isinstance(size, int) else (2, size)) for size in ("batch", "positions", last)
    ]
    tensor = protobuf.message((1, kind), (2, protobuf.message(*((1, axis) for axis in axes))))
    return protobuf.message((1, name), (2, protobuf.message((1, tensor))))


@final
class DeviceRunner:
    """Runs a session on memory of its device. Thread-safe, as sessions are."""

    def __init__(self, session: Any, graph: Graph, device: tuple[str, int], start: Callable[[bytes], Any]) -> None:
        """Use `create_runner`.

        Args:
            session: The artifact's session.
            graph: Its graph.
            device: onnxruntime's type and number of the device: `("cuda", 0)`.
            start: Starts a session over another graph on the same device.
        """
        self._session = session
        self._graph = graph
        self._device = device
        self._start = start

    def run(
        self, token_ids: NDArray[np.int64], tensors: Tensors, positions: int
    ) -> tuple[NDArray[np.float32], Tensors]:
        """As `HostRunner.run`; the states are `DeviceTensors`."""
        logits, after = self._run(token_ids, tensors, positions, ("cpu", 0))
        copied = logits.numpy()
        return copied[:, copied.shape[1] - positions :], after

    def log_probs(
        self, token_ids: NDArray[np.int64], tensors: Tensors, targets: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], Tensors]:
        """As `HostRunner.log_probs`, computed on the device."""
        batch, positions = targets.shape
        logits, after = self._run(token_ids, tensors, positions, self._device)
        aligned = np.zeros((batch, logits.shape()[1], 1), np.int64)  # the graph may keep more
        aligned[:, -positions:, 0] = targets
        binding = self._scorer.io_binding()
        binding.bind_ortvalue_input(LOGITS, logits)
        binding.bind_cpu_input(TARGETS, aligned)
        binding.bind_output(LOG_PROBS, "cpu")
        with translate_onnxruntime_errors():
            self._scorer.run_with_iobinding(binding)
        log_probs = binding.get_outputs()[0].numpy()
        return log_probs[:, -positions:, 0].astype(np.float64), after

    @cached_property
    def _scorer(self) -> Any:
        return self._start(scoring_graph())

    def _run(
        self, token_ids: NDArray[np.int64], tensors: Tensors, positions: int, logits_on: tuple[str, int]
    ) -> tuple[Any, DeviceTensors]:
        """One call: the logits as an OrtValue on the device `logits_on`, and the states."""
        binding = self._session.io_binding()
        binding.bind_cpu_input(TOKEN_IDS, np.ascontiguousarray(token_ids))
        if self._graph.can_keep and positions != token_ids.shape[1]:
            # onnxruntime 1.31 binds an input that has a default only as an OrtValue.
            binding.bind_ortvalue_input(LOGITS_TO_KEEP, _value(np.array([max(positions, 1)], np.int64)))
        for name, value in zip(self._graph.states, self._values(tensors), strict=True):
            binding.bind_ortvalue_input(name, value)
        binding.bind_output(LOGITS, *logits_on)
        for name in self._graph.outputs[1:]:
            binding.bind_output(name, *self._device)
        with translate_onnxruntime_errors():
            self._session.run_with_iobinding(binding)
        logits, *outputs = binding.get_outputs()
        after = DeviceTensors(outputs)
        self._graph.check_shapes(logits.shape(), after.shapes, len(token_ids), positions)
        return logits, after

    def _values(self, tensors: Tensors) -> Sequence[Any]:
        """The states as OrtValues on the device: those that are there already, else copies."""
        if isinstance(tensors, DeviceTensors):
            return tensors.values
        return [_value(tensor, *self._device) for tensor in tensors]


def _value(array: NDArray[Any], device: str = "cpu", device_id: int = 0) -> Any:
    from onnxruntime import OrtValue

    return OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), device, device_id)
