"""The profiler of each runtime, or the reason why there is none."""

from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from ..backends.node_process import NODE_PACKAGE, WEB_PACKAGE
from ..backends.registry import BACKENDS, ONNXRUNTIME, REFERENCE, TORCH, torch_device
from ..backends.source import Source
from ..errors import BenchError
from ..scenario import Scenario
from .onnxruntime_profiler import OnnxruntimeProfiler
from .openvino_counters import OpenVinoCounters
from .reference_clock import ReferenceClock
from .span import Profiler


def load_profiler(backend: str, source: Source, scenario: Scenario, folder: Path) -> Profiler:
    """The calls of a scenario under the backend's profiler, whose files go into `folder`.

    Raises:
        BenchError: It has no profiler that tells operators here.
        LmtoolError: It refuses the file.
    """
    if backend not in _PROFILERS:
        raise BenchError(f"no profiler of {backend} is read")
    return _PROFILERS[backend](backend, source, scenario, folder)


def _torch(backend: str, source: Source, scenario: Scenario, folder: Path) -> Profiler:
    from .torch_profiler import TorchProfiler  # imports torch, which other backends must not load

    return TorchProfiler(BACKENDS[backend].load(source), scenario, torch_device(source.provider))


def _openvino(backend: str, source: Source, scenario: Scenario, folder: Path) -> Profiler:
    return OpenVinoCounters(backend, source, scenario)


def _in_node(backend: str, source: Source, scenario: Scenario, folder: Path) -> NoReturn:
    raise BenchError(f"lmtool reads no profiles of {backend}; onnxruntime runs the same operators")


_PROFILERS: dict[str, Callable[[str, Source, Scenario, Path], Profiler]] = {
    ONNXRUNTIME: lambda _, source, scenario, folder: OnnxruntimeProfiler(source, scenario, folder),
    TORCH: _torch,
    "torch-compile": _torch,
    "openvino": _openvino,
    "openvino-default": _openvino,
    REFERENCE: lambda _, source, scenario, __: ReferenceClock(source, scenario),
    NODE_PACKAGE: _in_node,
    WEB_PACKAGE: _in_node,
}
