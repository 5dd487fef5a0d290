"""Providers: the requested one, or an error that says what is available and what to install."""

import contextlib
import importlib.metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from lmtool.runtime import OptionError, Predictor, ProviderError, available_providers
from lmtool.runtime.session import providers
from lmtool.runtime.session.providers import PROVIDERS, require_placement


def test_an_unknown_provider_is_wrong_usage(artifact_path: object) -> None:
    with pytest.raises(OptionError, match="provider 'cude' is not known, expected one of cpu, cuda"):
        Predictor.load(artifact_path, provider="cude")  # type: ignore[arg-type]


def test_a_missing_provider_is_an_error_that_says_what_to_install(artifact_path: object) -> None:
    missing = next(name for name in PROVIDERS if name not in available_providers())
    with pytest.raises(ProviderError, match=rf"'{missing}' is not available: .* carries .*; to get {missing}: pip"):
        Predictor.load(artifact_path, provider=missing)  # type: ignore[arg-type]


def test_both_wheels_at_once_are_refused(monkeypatch: pytest.MonkeyPatch, artifact_path: object) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.0")
    with pytest.raises(ProviderError, match="each overwrites the other's files; keep one: pip uninstall"):
        Predictor.load(artifact_path)  # type: ignore[arg-type]


def test_no_wheel_says_what_to_install(monkeypatch: pytest.MonkeyPatch, artifact_path: object) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(ProviderError, match=r"onnxruntime cannot be imported .* pip install 'lmtool\[cpu\]'"):
        Predictor.load(artifact_path)  # type: ignore[arg-type]


@pytest.mark.parametrize(("version", "too_old"), [("1.24.4", True), ("1.25.0", False), ("1.100.0.dev5+cu13", False)])
def test_an_onnxruntime_that_multiplies_wrongly_is_refused(
    monkeypatch: pytest.MonkeyPatch, artifact_path: Path, version: str, too_old: bool
) -> None:
    monkeypatch.setattr("onnxruntime.__version__", version)
    expected = pytest.raises(ProviderError, match=rf"onnxruntime {version} is too old: .* expected 1\.25 or newer; pip")
    with expected if too_old else contextlib.nullcontext():
        Predictor.load(artifact_path)


class FakeNode:
    def __init__(self, op_type: str) -> None:
        self.op_type = op_type


class FakeSubgraph:
    def __init__(self, ep_name: str, operators: list[str]) -> None:
        self.ep_name = ep_name
        self._operators = operators

    def get_nodes(self) -> list[FakeNode]:
        return [FakeNode(operator) for operator in self._operators]


class FakeSession:
    """A session as onnxruntime returns it on a machine with a GPU."""

    def __init__(self, providers: list[str], cpu_operators: list[str]) -> None:
        self._providers = providers
        self._cpu_operators = cpu_operators

    def get_providers(self) -> list[str]:
        return self._providers

    def get_provider_graph_assignment_info(self) -> list[FakeSubgraph]:
        return [
            FakeSubgraph("CUDAExecutionProvider", ["LSTM", "MatMul"]),
            FakeSubgraph("CPUExecutionProvider", self._cpu_operators),
        ]


BOTH = ["CUDAExecutionProvider", "CPUExecutionProvider"]


def test_small_nodes_may_stay_on_the_cpu() -> None:
    require_placement(FakeSession(BOTH, ["Neg", "Gather"]), PROVIDERS["cuda"])


def test_a_quiet_fallback_is_an_error() -> None:
    with pytest.raises(ProviderError, match="'cuda' was asked for, onnxruntime started CPUExecutionProvider"):
        require_placement(FakeSession(["CPUExecutionProvider"], []), PROVIDERS["cuda"])


class FakeDriver:
    """NVIDIA's driver, which finds this many GPUs or reports this error, with or without cuDNN beside it."""

    def __init__(self, gpus: int, error: int = 0, cudnn: bool = True) -> None:
        self.cudnn = cudnn
        self._gpus = gpus
        self._error = error

    def cuInit(self, _flags: int) -> int:  # noqa: N802  # NVIDIA's name
        return self._error

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = self._gpus
        return 0


class FakeWheel(ModuleType):
    """onnxruntime-gpu, whose CUDA libraries `missing` are not installed."""

    def __init__(self, *missing: str) -> None:
        super().__init__("onnxruntime")
        self._missing = missing

    def preload_dlls(self) -> None:
        say = self.__dict__.get("print", print)
        for name in self._missing:
            say(f"Failed to load {name}: cannot open shared object file: No such file or directory")


@pytest.mark.parametrize(("driver", "missing", "message"), [
    (None, ["libcublas.so.13"], r"the NVIDIA driver is missing \(\S+ cannot be loaded\): install it; .* --gpus all"),
    (FakeDriver(0), [], r"the NVIDIA driver finds no GPU \(CUDA error 0\): run nvidia-smi"),
    (FakeDriver(1, 999), [], r"finds no GPU \(CUDA error 999\)"),
    (FakeDriver(1), ["libcublas.so.13", "libcudnn.so.9"],
     r"missing \(libcublas.so.13, libcudnn.so.9\): pip install 'onnxruntime-gpu\[cuda,cudnn\]'"),
    (FakeDriver(1, cudnn=False), [], r"missing \(\S*cudnn\S+\): pip install 'onnxruntime-gpu\[cuda,cudnn\]'"),
    (FakeDriver(1), [], "a GPU, its driver and the CUDA libraries are there; update the driver"),
])  # fmt: skip
def test_what_is_missing_beside_the_wheel_is_named(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    driver: FakeDriver | None,
    missing: list[str],
    message: str,
) -> None:
    def load(name: str) -> FakeDriver:
        if driver is None or ("cudnn" in name and not driver.cudnn):
            raise OSError(f"{name}: cannot open shared object file")
        return driver

    monkeypatch.setattr("ctypes.CDLL", load)
    monkeypatch.setattr(providers, "import_onnxruntime", lambda: FakeWheel(*missing))
    with pytest.raises(ProviderError, match=f"started CPUExecutionProvider; .*{message}") as refusal:
        require_placement(FakeSession(["CPUExecutionProvider"], []), PROVIDERS["cuda"])
    assert "pip uninstall" not in str(refusal.value)
    assert capfd.readouterr() == ("", "")


def test_a_heavy_node_on_another_provider_is_an_error() -> None:
    with pytest.raises(ProviderError, match="'cuda' was asked for, but LSTM would run on cpu"):
        require_placement(FakeSession(BOTH, ["Neg", "LSTM"]), PROVIDERS["cuda"])


def test_a_graph_that_leaves_the_provider_idle_is_an_error() -> None:
    session = FakeSession(BOTH, ["Neg"])
    session.get_provider_graph_assignment_info = lambda: [FakeSubgraph("CPUExecutionProvider", ["Neg"])]  # type: ignore[method-assign]
    with pytest.raises(ProviderError, match="no part of the graph would run on it"):
        require_placement(session, PROVIDERS["cuda"])
