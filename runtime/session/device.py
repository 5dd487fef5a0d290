"""Runs a session on the memory of a device: states stay there, only results are copied back.

Inputs and outputs are bound (https://onnxruntime.ai/docs/api/python/api_summary.html#data-on-device). Each call takes
the memory of its outputs from the device's arena, so a state is a value there too. Log-probabilities are computed there
too, so that float32 [batch, positions, vocabulary] is never copied.
"""

from collections.abc import Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..arrays import DeviceTensors, Tensors
from ..artifact.artifact import LOGITS, LOGITS_TO_KEEP, TOKEN_IDS
from .calls import Graph, translate_onnxruntime_errors
from .log_probs import LogProbs


@final
class DeviceRunner:
    """Runs a session on memory of its device. Thread-safe, as sessions are."""

    def __init__(self, session: Any, graph: Graph, device: tuple[str, int], scorer: LogProbs) -> None:
        """Use `create_runner`.

        Args:
            session: The artifact's session.
            graph: Its graph.
            device: onnxruntime's type and number of the device: `("cuda", 0)`.
            scorer: Computes log-probabilities on the same device.
        """
        self._session = session
        self._graph = graph
        self._device = device
        self._scorer = scorer

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
        logits, after = self._run(token_ids, tensors, targets.shape[1], self._device)
        return self._scorer.of_value(logits, targets), after

    def target_log_probs(self, logits: NDArray[np.float32], targets: NDArray[np.int64]) -> NDArray[np.float64]:
        """As `HostRunner.target_log_probs`."""
        return self._scorer.of_arrays(logits, targets)

    def _run(
        self, token_ids: NDArray[np.int64], tensors: Tensors, positions: int, logits_on: tuple[str, int]
    ) -> tuple[Any, DeviceTensors]:
        """One call: the logits as an OrtValue on the device `logits_on`, and the states."""
        with translate_onnxruntime_errors():  # copying inputs to a device can fail as a run can
            binding = self._bind(token_ids, tensors, positions, logits_on)
            self._session.run_with_iobinding(binding)
        logits, after = binding.get_outputs()[0], DeviceTensors(_states(binding))
        self._graph.check_shapes(logits.shape(), after.shapes, len(token_ids), positions)
        return logits, after

    def _bind(self, token_ids: NDArray[np.int64], tensors: Tensors, positions: int, logits_on: tuple[str, int]) -> Any:
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
        return binding

    def _values(self, tensors: Tensors) -> Sequence[Any]:
        """The states as OrtValues on the device: those that are there already, else copies."""
        if isinstance(tensors, DeviceTensors):
            return tensors.values
        return [_value(tensor, *self._device) for tensor in tensors]


def _states(binding: Any) -> list[Any]:
    """The outputs after the logits as OrtValues, not copied. `get_outputs` gives such as keep all outputs in memory."""
    from onnxruntime import OrtValue
    from onnxruntime.capi.onnxruntime_pybind11_state import OrtValueVector

    outputs, states = binding.get_outputs_as_ortvaluevector(), OrtValueVector()
    for index in range(1, len(outputs)):
        states.push_back(outputs[index])
    return [OrtValue(states[index]) for index in range(len(states))]


def _value(array: NDArray[Any], device: str = "cpu", device_id: int = 0) -> Any:
    from onnxruntime import OrtValue

    return OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), device, device_id)
