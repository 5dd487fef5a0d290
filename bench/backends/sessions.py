"""Other runtimes in this process that run an ONNX file, each opened as a function like a session's `run`."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, final

from numpy.typing import NDArray

from .iree import IreeSession
from .opencv import OpenCvSession
from .openvino import OpenVinoSession
from .reference import reference_evaluator
from .source import Source
from .tract import TractSession

Run = Callable[[Sequence[str], dict[str, NDArray[Any]]], Sequence[NDArray[Any]]]
"""The names of outputs and the inputs by name -> the outputs, which no later call changes."""


@final
@dataclass(frozen=True)
class SessionSpec:
    """How to open and find a runtime.

    Attributes:
        open: Opens a file, or raises an LmtoolError.
        reason_missing: Why it cannot run here, and the fix; None if it can.
        runs_int8: Whether it is known to run artifacts in int8.
    """

    open: Callable[[Source], Run]
    reason_missing: Callable[[], str | None]
    runs_int8: bool = True


def not_installed(module: str, install: str) -> str | None:
    """Why a package is missing, and the command that installs it; None if it is installed."""
    return None if importlib.util.find_spec(module) else f"it is not installed; pip install {install}"


OPENVINO_MISSING = partial(not_installed, "openvino", "'lmtool[portability]'")

SESSIONS: Mapping[str, SessionSpec] = {
    "openvino": SessionSpec(
        lambda source: OpenVinoSession(source.artifact, source.threads, "f32", source.counters).run, OPENVINO_MISSING
    ),
    "reference": SessionSpec(
        lambda source: reference_evaluator(source.artifact).run, partial(not_installed, "onnx", "onnx")
    ),
    "tract": SessionSpec(
        lambda source: TractSession(source.artifact, source.threads).run,
        partial(not_installed, "tract", "tract"),
        runs_int8=False,
    ),
    "opencv": SessionSpec(
        lambda source: OpenCvSession(source.artifact, source.threads).run,
        partial(not_installed, "cv2", "'opencv-python-headless>=5'"),
        runs_int8=False,
    ),
    "iree": SessionSpec(
        lambda source: IreeSession(source.artifact, source.threads).run,
        partial(not_installed, "iree", "iree-base-compiler iree-base-runtime"),
        runs_int8=False,
    ),
}
"""By name."""
