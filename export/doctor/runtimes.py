"""The runtimes that a file is run on: onnxruntime, onnx.reference, and OpenVINO where it is installed."""

import importlib.util
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import onnx
from numpy.typing import NDArray

from ...runtime.errors import LmtoolError, truncated
from ...runtime.session.providers import import_onnxruntime, provider_named
from ...runtime.session.session import FATAL_ONLY, SessionOptions
from ...runtime.stateful.stateful_session import start_checked

Arrays = Mapping[str, NDArray[Any]]
Run = Callable[[Arrays], dict[str, NDArray[Any]]]
"""Inputs by name to outputs by name."""

_SHOWN_CHARACTERS = 300


class RefusedError(Exception):
    """A runtime that refuses a file or a call; the message is its own, shortened."""


def open_onnxruntime(model: onnx.ModelProto, provider: str = "cpu") -> Run:
    """The file in onnxruntime.

    Raises:
        RefusedError: It refuses the file.
    """
    silence = import_onnxruntime().RunOptions()
    silence.log_severity_level = FATAL_ONLY
    try:
        session = start_checked(model.SerializeToString(), provider_named(provider), SessionOptions(), silent=True)
    except LmtoolError as error:
        raise RefusedError(_shortened(error)) from error
    names = [output.name for output in session.get_outputs()]

    def run(feed: Arrays) -> dict[str, NDArray[Any]]:
        try:
            return dict(zip(names, session.run(names, dict(feed), silence), strict=True))
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise RefusedError(_shortened(error)) from error

    return run


def _open_reference(model: onnx.ModelProto) -> Run:
    from onnx.reference import ReferenceEvaluator

    try:
        evaluator = ReferenceEvaluator(model)
    except Exception as error:  # of several kinds
        raise RefusedError(_shortened(error)) from error
    names = [output.name for output in model.graph.output]

    def run(feed: Arrays) -> dict[str, NDArray[Any]]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of overflow, in numpy
                return dict(zip(names, evaluator.run(None, dict(feed)), strict=True))
        except Exception as error:  # whatever an operator raises
            raise RefusedError(_shortened(error)) from error

    return run


def _open_openvino(model: onnx.ModelProto) -> Run:
    # Its import would send a report, and write an id under HOME; without this package it does neither.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    names = [output.name for output in model.graph.output]
    try:
        core = openvino.Core()
        hints = {"INFERENCE_PRECISION_HINT": "f32"}
        compiled = core.compile_model(core.read_model(model.SerializeToString(), b""), "CPU", hints)
    except Exception as error:  # of several kinds
        raise RefusedError(_shortened(error)) from error

    def run(feed: Arrays) -> dict[str, NDArray[Any]]:
        try:
            results = compiled(dict(feed))
            return {name: results[name] for name in names}
        except Exception as error:  # of several kinds
            raise RefusedError(_shortened(error)) from error

    return run


Opener = Callable[[onnx.ModelProto], Run]
"""Opens a model in a runtime, or raises RefusedError."""

RUNTIMES: dict[str, Opener] = {
    "onnxruntime": open_onnxruntime,
    "onnx.reference": _open_reference,
    **({"OpenVINO": _open_openvino} if importlib.util.find_spec("openvino") else {}),
}
"""By name."""


def _shortened(error: Exception) -> str:
    """The message in one line."""
    return truncated(" ".join(str(error).split()) or type(error).__name__, _SHOWN_CHARACTERS)
