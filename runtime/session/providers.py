"""Execution providers by short name, and the check that the requested one runs the graph.

Where a provider is missing or fails to start, onnxruntime only warns and uses the CPU
(https://github.com/microsoft/onnxruntime/issues/17801); here that is an error.
"""

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, final

from ..arguments import checked_text
from ..errors import OptionError, ProviderError
from .cuda import cuda_fault

LOWEST_ONNXRUNTIME = (1, 25)
"""1.24's MatMulInteger is wrong on processors with AMX: 32 or 64 rows, columns no multiple of 16."""


@final
@dataclass(frozen=True)
class Provider:
    """One execution provider.

    Attributes:
        name: Short name.
        onnxruntime_name: Name in onnxruntime.
        fix: How to install it.
        options: Default options.
        device: onnxruntime's name of the memory that states stay in between calls; None for the processor's.
    """

    name: str
    onnxruntime_name: str
    fix: str
    options: Mapping[str, str] = field(default_factory=dict)
    device: str | None = None


_GPU_FIX = "pip uninstall onnxruntime; pip install 'lmtool[gpu]' (and an NVIDIA driver)"
_UPDATE = "a GPU, its driver and the CUDA libraries are there; update the driver, it may be too old for the libraries"
_OTHER_WHEEL = "pip uninstall onnxruntime; pip install onnxruntime"

PROVIDERS = {
    provider.name: provider
    for provider in (
        Provider("cpu", "CPUExecutionProvider", "pip install 'lmtool[cpu]'"),
        Provider("cuda", "CUDAExecutionProvider", _GPU_FIX, {"use_tf32": "0"}, "cuda"),
        Provider("tensorrt", "TensorrtExecutionProvider", _GPU_FIX + " and TensorRT", device="cuda"),
        Provider(
            "openvino", "OpenVINOExecutionProvider", "pip uninstall onnxruntime; pip install onnxruntime-openvino"
        ),
        Provider("coreml", "CoreMLExecutionProvider", "pip install 'lmtool[cpu]' on macOS"),
        Provider("directml", "DmlExecutionProvider", _OTHER_WHEEL + "-directml"),
    )
}

_HEAVY_OPERATORS = frozenset(
    ["LSTM", "GRU", "RNN", "MatMul", "Gemm", "DynamicQuantizeLSTM", "MatMulInteger", "MatMulNBits"]
)


def provider_named(name: str) -> Provider:
    """The provider with this short name; OptionError if there is none."""
    if checked_text("provider", name) not in PROVIDERS:
        raise OptionError(f"provider {name!r} is not known, expected one of {', '.join(PROVIDERS)}")
    return PROVIDERS[name]


def import_onnxruntime() -> ModuleType:
    """Import onnxruntime; ProviderError if it is missing, too old, or its wheels overwrite each other."""
    wheels = [name for name in ("onnxruntime", "onnxruntime-gpu") if _installed(name)]
    if len(wheels) == 2:
        raise ProviderError(
            "both onnxruntime and onnxruntime-gpu are installed, and each overwrites the other's files; "
            "keep one: pip uninstall onnxruntime onnxruntime-gpu; pip install 'lmtool[cpu]' (or 'lmtool[gpu]')"
        )
    try:
        onnxruntime = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise ProviderError(
            f"onnxruntime cannot be imported ({error}); pip install 'lmtool[cpu]', or 'lmtool[gpu]' for CUDA"
        ) from error
    _require_recent(onnxruntime.__version__)
    _stop_telemetry(onnxruntime)
    return onnxruntime


def _stop_telemetry(onnxruntime: ModuleType) -> None:
    """End the reports about sessions and runs, for an onnxruntime that was imported before `lmtool` set the variable.

    It has reported the process already, as the variable is read at its import.
    """
    if os.environ.get("ORT_DISABLE_TELEMETRY") == "1":
        onnxruntime.disable_telemetry_events()


def _require_recent(version: str) -> None:
    if tuple(map(int, version.split(".")[:2])) < LOWEST_ONNXRUNTIME:
        lowest = ".".join(map(str, LOWEST_ONNXRUNTIME))
        raise ProviderError(
            f"onnxruntime {version} is too old: on some processors it multiplies int8 matrices wrongly; "
            f"expected {lowest} or newer; pip install --upgrade 'onnxruntime>={lowest}' "
            f"(or 'onnxruntime-gpu>={lowest}')"
        )


def available_providers() -> list[str]:
    """Short names of the providers that the installed onnxruntime carries.

    Raises:
        ProviderError: onnxruntime cannot be imported.
    """
    carried = set(import_onnxruntime().get_available_providers())
    return [provider.name for provider in PROVIDERS.values() if provider.onnxruntime_name in carried]


def require_provider(provider: Provider) -> None:
    """Raise ProviderError, which says how to install it, if the installed onnxruntime lacks `provider`."""
    available = available_providers()
    if provider.name not in available:
        version = import_onnxruntime().__version__
        raise ProviderError(
            f"provider {provider.name!r} is not available: onnxruntime {version} here carries {', '.join(available)}; "
            f"to get {provider.name}: {provider.fix}"
        )


def fault_of(provider: Provider) -> str | None:
    """What keeps a provider that the installed onnxruntime carries from starting, and the fix; None if unknown."""
    return cuda_fault(import_onnxruntime()) if provider.device == "cuda" else None


def placement(session: Any) -> dict[str, dict[str, int]]:
    """Where the session's nodes run: short provider name -> operator -> number of nodes."""
    names = {provider.onnxruntime_name: provider.name for provider in PROVIDERS.values()}
    placed: dict[str, dict[str, int]] = {}
    for subgraph in session.get_provider_graph_assignment_info():
        operators = placed.setdefault(names.get(subgraph.ep_name, subgraph.ep_name), {})
        for node in subgraph.get_nodes():
            operators[node.op_type] = operators.get(node.op_type, 0) + 1
    return placed


def require_placement(session: Any, provider: Provider) -> None:
    """Raise ProviderError if a recurrent layer or matrix product runs on another provider."""
    got = session.get_providers()
    if got[0] != provider.onnxruntime_name:
        fix = _UPDATE if provider.device == "cuda" else f"the fix: {provider.fix}"
        raise ProviderError(
            f"provider {provider.name!r} was asked for, onnxruntime started {', '.join(got)}; "
            f"{fault_of(provider) or fix}"
        )
    placed = placement(session)
    if not placed.get(provider.name):
        raise ProviderError(f"provider {provider.name!r} was asked for, but no part of the graph would run on it")
    for name, operators in placed.items():
        strays = sorted(_HEAVY_OPERATORS & operators.keys())
        if name != provider.name and strays:
            raise ProviderError(
                f"provider {provider.name!r} was asked for, but {', '.join(strays)} would run on {name}; "
                f"this artifact's precision may not suit {provider.name}"
            )


def _installed(distribution: str) -> bool:
    import importlib.metadata  # a third of the time that importing this package would take

    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
