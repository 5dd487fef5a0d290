"""The profiler of each runtime that has one."""

from collections.abc import Callable, Mapping
from pathlib import Path

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
        BenchError: No profile of it can be read here.
        LmtoolError: It refuses the file.
    """
    if backend not in _PROFILERS:
        raise BenchError(f"lmtool reads no profile of {backend}, expected one of {', '.join(_PROFILERS)}")
    return _PROFILERS[backend](backend, source, scenario, folder)


def _torch(backend: str, source: Source, scenario: Scenario, _: Path) -> Profiler:
    from .torch_profiler import TorchProfiler  # imports torch, which other backends must not load

    return TorchProfiler(BACKENDS[backend].load(source), scenario, torch_device(source.provider))


def _openvino(backend: str, source: Source, scenario: Scenario, _: Path) -> Profiler:
    return OpenVinoCounters(backend, source, scenario)


_PROFILERS: Mapping[str, Callable[[str, Source, Scenario, Path], Profiler]] = {
    ONNXRUNTIME: lambda _, source, scenario, folder: OnnxruntimeProfiler(source, scenario, folder),
    TORCH: _torch,
    "torch-compile": _torch,
    "openvino": _openvino,
    "openvino-default": _openvino,
    REFERENCE: lambda _, source, scenario, __: ReferenceClock(source, scenario),
}
