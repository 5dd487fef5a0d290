"""The OpenVINO backend: an ONNX file with the interface of an onnxruntime session."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from numpy.typing import NDArray

from .refusal import refusal


@final
class OpenVinoSession:
    """One stream of inference on the CPU, in a precision such as `f32`; None for OpenVINO's default on this processor.

    Attributes:
        model: The compiled model.
        precision: What it computes in.

    Raises:
        BenchError: OpenVINO rejects the file.
    """

    def __init__(self, artifact: Path, threads: int, precision: str | None, counters: bool = False) -> None:
        # Its import would send a report, and write an id under HOME; without this package it does neither.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        import openvino

        hints: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": threads}
        if counters:
            hints["PERF_COUNT"] = True
        if precision is not None:
            hints["INFERENCE_PRECISION_HINT"] = precision
        try:
            self.model = openvino.Core().compile_model(artifact, "CPU", hints)
        except RuntimeError as error:
            raise refusal(f"OpenVINO {openvino.__version__}", artifact, error) from error
        self._request = self.model.create_infer_request()
        self.precision = self.model.get_property("INFERENCE_PRECISION_HINT").get_type_name()

    def run(self, outputs: Sequence[str], feed: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs for these inputs, copies."""
        results = self._request.infer(dict(feed), share_inputs=True)
        return [results[name] for name in outputs]

    def counters(self) -> list[Any]:
        """OpenVINO's record of each node: name, type, and its mean time over all calls, if it keeps `counters`."""
        records: list[Any] = self._request.profiling_info
        return records
