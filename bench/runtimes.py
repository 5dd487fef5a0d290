"""The runtimes that are measured, and what each needs.

One reads tokens and carries its state, and nothing else is timed. Every one but eager PyTorch, the original itself, is
first verified against that: behind the predictor's interface, whatever runs there.
"""

import importlib.util
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, final

import numpy as np
from numpy.typing import NDArray

from ..runtime.artifact import Artifact
from ..runtime.predictor import Predictor
from ..runtime.providers import PROVIDERS, provider_named
from ..runtime.session import SessionOptions
from .openvino_session import OpenVinoSession
from .torch_session import TorchSession

Tokens = NDArray[np.int64]

ONNXRUNTIME = "onnxruntime"
TORCH = "torch"


@final
@dataclass(frozen=True)
class Source:
    """What a runtime loads, and where and with how many threads it runs.

    Attributes:
        artifact: The ONNX file.
        original: The run folder that it was exported from.
        provider: Execution provider; PyTorch runs on the same kind of device.
        threads: Threads of one call.
    """

    artifact: Path
    original: Path
    provider: str = "cpu"
    threads: int = 1


class Runtime(Protocol):
    """One way to run the model."""

    vocabulary_size: int

    @property
    def predictor(self) -> Predictor:
        """The same, behind the predictor's interface."""
        ...

    def reader(self, batch_size: int) -> Callable[[Tokens], None]:
        """A function that reads token_ids int64 [batch, time] from where its last call stopped.

        When it returns, the logits are computed and where the runtime leaves them: in host memory, or on the device
        with the device synchronised.
        """
        ...


@final
class OnnxFile:
    """The artifact, by the predictor that applications embed, over a session of any runtime."""

    def __init__(self, predictor: Predictor) -> None:
        """Measure `predictor`."""
        self.predictor = predictor
        self.vocabulary_size = len(predictor.vocabulary)

    def reader(self, batch_size: int) -> Callable[[Tokens], None]:
        """See `Runtime`."""
        state = self.predictor.initial_state(batch_size)

        def read(token_ids: Tokens) -> None:
            nonlocal state
            _, state = self.predictor.step(token_ids, state)

        return read


@final
class TorchNetwork:
    """The PyTorch original, eagerly or compiled."""

    def __init__(self, source: Source, compiled: bool) -> None:
        """Load the best checkpoint of the run; torch stays away from processes that measure something else."""
        import torch

        from ..model.run import Run

        torch.set_num_threads(source.threads)
        torch.set_num_interop_threads(1)
        torch.set_flush_denormal(True)
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        self._torch = torch
        self._source = source
        self._device = torch_device(source.provider)
        self._network = Run(source.original).trained()[0].to(self._device)
        self._call: Callable[..., Any] = self._network
        if compiled:
            torch._dynamo.config.allow_rnn = True  # else the recurrent layers are left out of what is compiled
            self._call = torch.compile(self._network)
        self.vocabulary_size = self._network.vocabulary_size

    @property
    def predictor(self) -> Predictor:
        """See `Runtime`."""
        return _over(TorchSession(self._call, self._device), self._source)

    def reader(self, batch_size: int) -> Callable[[Tokens], None]:
        """See `Runtime`."""
        torch, call = self._torch, self._call
        state = self._network.initial_state(batch_size)

        def read(token_ids: Tokens) -> None:
            nonlocal state
            with torch.inference_mode():
                _, state = call(torch.from_numpy(token_ids).to(self._device), state)
            if self._device == "cuda":
                torch.cuda.synchronize()

        return read


@final
@dataclass(frozen=True)
class Kind:
    """A runtime by name.

    Attributes:
        make: Loads it.
        missing: Why it cannot run here, with the remedy; None where it can.
        cpu_only: Whether it is measured on the CPU only.
    """

    make: Callable[[Source], Runtime]
    missing: Callable[[], str | None] = lambda: None
    cpu_only: bool = True


def _onnxruntime(source: Source) -> Runtime:
    return OnnxFile(Predictor.load(source.artifact, provider=source.provider, threads=source.threads))


def _openvino(source: Source) -> Runtime:
    return OnnxFile(_over(OpenVinoSession(source.artifact, source.threads, "f32"), source))


def _openvino_default(source: Source) -> Runtime:
    session = OpenVinoSession(source.artifact, source.threads, None)
    return OnnxFile(_over(session, source, {"bf16": "bf16", "f16": "fp16"}.get(session.precision)))


def _reference(source: Source) -> Runtime:
    from onnx.reference import ReferenceEvaluator

    return OnnxFile(_over(_Reference(ReferenceEvaluator(str(source.artifact))), source))


@final
class _Reference:
    """onnx's evaluator with what a predictor asks of a session beside `run`."""

    def __init__(self, evaluator: Any) -> None:
        self.run = evaluator.run

    def get_overridable_initializers(self) -> list[Any]:
        """None: the evaluator takes the default where an input is missing, but says nothing of it."""
        return []


def _needs(module: str, install: str) -> Callable[[], str | None]:
    def missing() -> str | None:
        return None if importlib.util.find_spec(module) else f"it is not installed; {install}"

    return missing


def _compiler() -> str | None:
    found = any(shutil.which(name) for name in ("c++", "g++", "clang++"))
    return None if found else "torch.compile needs a C++ compiler; apt install g++, or the like"


_OPENVINO = _needs("openvino", "pip install 'lmtool[portability]'")

KINDS: Mapping[str, Kind] = {
    ONNXRUNTIME: Kind(_onnxruntime, cpu_only=False),
    TORCH: Kind(lambda source: TorchNetwork(source, compiled=False), cpu_only=False),
    "torch-compile": Kind(lambda source: TorchNetwork(source, compiled=True), _compiler, cpu_only=False),
    "openvino": Kind(_openvino, _OPENVINO),
    "openvino-default": Kind(_openvino_default, _OPENVINO),
    "reference": Kind(_reference, _needs("onnx", "pip install onnx")),
}
"""Name -> runtime. `openvino` computes in f32 as the others do, `openvino-default` in what OpenVINO prefers (bf16 where
the processor has it); `reference` is onnx's own evaluator in Python."""


def torch_device(provider: str) -> str:
    """The torch device that stands beside a provider: `cuda` for NVIDIA's, else `cpu`."""
    return "cuda" if provider_named(provider).name in ("cuda", "tensorrt") else "cpu"


def _over(session: Any, source: Source, precision: str | None = None) -> Predictor:
    """The artifact's predictor over another session; `precision` is what that computes in, where it is another."""
    artifact = Artifact.read(source.artifact)
    if precision is not None:
        artifact = replace(artifact, precision=precision)
    return Predictor(artifact, session, PROVIDERS["cpu"], SessionOptions(source.threads))
