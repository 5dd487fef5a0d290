"""The runtimes that are measured, and what each needs.

One reads tokens and carries its state, and nothing else is timed. Every one but eager PyTorch, the original itself, is
first verified against that: behind the predictor's interface, whatever runs there.
"""

import importlib.util
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, final

import numpy as np
from numpy.typing import NDArray

from ...runtime.artifact.artifact import Artifact
from ...runtime.io.files import read_bytes
from ...runtime.predictor import Predictor
from ...runtime.session.providers import PROVIDERS, provider_named
from ...runtime.session.session import SessionOptions
from ...runtime.state import State
from ..errors import BenchError
from .node import NODE_CLOCK, NodeBackend, NodeSession
from .node_process import NODE_PACKAGE, WEB_PACKAGE, reason_missing
from .openvino import OpenVinoSession

Tokens = NDArray[np.int64]

ONNXRUNTIME = "onnxruntime"
TORCH = "torch"
REFERENCE = "reference"


@final
@dataclass(frozen=True)
class Source:
    """What a runtime loads, and where and with how many threads it runs.

    Attributes:
        artifact: The ONNX file.
        original: The run folder that it was exported from, or another artifact of the same network to verify it
            against; None where there is neither. PyTorch needs the run folder.
        provider: Execution provider; PyTorch runs on the same kind of device.
        threads: Threads of one call.
    """

    artifact: Path
    original: Path | None = None
    provider: str = "cpu"
    threads: int = 1


class Backend(Protocol):
    """One way to run the model.

    A state is the runtime's own. When a call returns, what it computed is in host memory: that is what an application
    gets, and where a device is synchronised.

    Attributes:
        vocabulary_size: Token ids are below it.
        pid: The process that computes.
    """

    vocabulary_size: int
    pid: int

    @property
    def predictor(self) -> Predictor:
        """The same, behind the predictor's interface."""
        ...

    def initial_state(self, batch_size: int) -> Any:
        """The state of so many streams that have read nothing."""
        ...

    def read(self, token_ids: Tokens, state: Any) -> Any:
        """Compute the logits of every position of token_ids, int64 [batch, time]; returns the state after the last."""
        ...

    def prefill(self, token_ids: Tokens, state: Any) -> Any:
        """Compute the logits of the last position of token_ids, int64 [batch, time]; returns the state.

        Those of the others too, where the runtime knows no inputs with defaults such as logits_to_keep.
        """
        ...

    def score(self, token_ids: Tokens, targets: Tokens, state: Any) -> Any:
        """Compute the log-probability of a target at each position, both int64 [batch, time]; returns the state."""
        ...

    def generate(self, token_ids: Tokens, count: int, state: Any) -> Any:
        """Write count tokens after token_ids, int64 [batch, 1], each the most probable one; returns the state."""
        ...


@final
class OnnxBackend:
    """The artifact, by the predictor that applications embed, over a session of any runtime.

    As everywhere, onnxruntime computes no constants at loading. lmtool's graphs have none to compute; one of another
    exporter that has is measured as the predictor runs it.
    """

    def __init__(self, predictor: Predictor) -> None:
        """Measure `predictor`."""
        self.predictor = predictor
        self.vocabulary_size = len(predictor.vocabulary)
        self.pid = os.getpid()

    def initial_state(self, batch_size: int) -> State:
        """See `Backend`."""
        return self.predictor.initial_state(batch_size)

    def read(self, token_ids: Tokens, state: State) -> State:
        """See `Backend`."""
        return self.predictor.step(token_ids, state)[1]

    def prefill(self, token_ids: Tokens, state: State) -> State:
        """See `Backend`."""
        return self.predictor.step(token_ids, state, logits_to_keep=1)[1]

    def score(self, token_ids: Tokens, targets: Tokens, state: State) -> State:
        """See `Backend`."""
        return self.predictor.log_probs(token_ids, state, targets)[1]

    def generate(self, token_ids: Tokens, count: int, state: State) -> State:
        """See `Backend`."""
        for _ in range(count):
            logits, state = self.predictor.step(token_ids, state)
            token_ids = logits.argmax(axis=2)
        return state


@final
@dataclass(frozen=True)
class BackendSpec:
    """A runtime by name.

    Attributes:
        load: Loads it.
        reason_missing: Why it cannot run here, with the remedy; None where it can.
        cpu_only: Whether it is measured on the CPU only.
        clock: Seconds by which it is timed.
    """

    load: Callable[[Source], Backend]
    reason_missing: Callable[[], str | None] = lambda: None
    cpu_only: bool = True
    clock: Callable[[], float] = time.perf_counter


def _onnxruntime(source: Source) -> Backend:
    return OnnxBackend(Predictor.load(source.artifact, provider=source.provider, threads=source.threads))


def _torch(source: Source, compiled: bool) -> Backend:
    if source.original is None or source.original.is_file():
        raise BenchError(
            f"there is no PyTorch original of {source.artifact}: found {source.original or 'none'}, expected the run "
            "folder that it was exported from; measure without torch, or the artifact inside its run folder"
        )
    from .pytorch import TorchBackend  # which loads torch, and that stays away from other runtimes' processes

    def predictor(session: Any) -> Predictor:
        return _over(session, source, "fp32")

    return TorchBackend(source.original, torch_device(source.provider), source.threads, compiled, predictor)


def _openvino(source: Source) -> Backend:
    return OnnxBackend(_over(OpenVinoSession(source.artifact, source.threads, "f32"), source))


def _openvino_default(source: Source) -> Backend:
    session = OpenVinoSession(source.artifact, source.threads, None)
    return OnnxBackend(_over(session, source, {"bf16": "bf16", "f16": "fp16"}.get(session.precision)))


def _node(package: str, source: Source) -> Backend:
    session = NodeSession(source.artifact, package, source.threads)
    return NodeBackend(_over(session, source), session)


def _reference(source: Source) -> Backend:
    import onnx
    from onnx.reference import ReferenceEvaluator

    model = onnx.load_model_from_string(read_bytes(source.artifact))
    try:
        evaluator = ReferenceEvaluator(model)
    except (RuntimeError, NotImplementedError) as error:
        raise BenchError(f"onnx.reference {onnx.__version__} cannot run {source.artifact}: {error}") from error
    return OnnxBackend(_over(_Reference(evaluator), source))


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

BACKENDS: Mapping[str, BackendSpec] = {
    ONNXRUNTIME: BackendSpec(_onnxruntime, cpu_only=False),
    TORCH: BackendSpec(lambda source: _torch(source, compiled=False), cpu_only=False),
    "torch-compile": BackendSpec(lambda source: _torch(source, compiled=True), _compiler, cpu_only=False),
    "openvino": BackendSpec(_openvino, _OPENVINO),
    "openvino-default": BackendSpec(_openvino_default, _OPENVINO),
    REFERENCE: BackendSpec(_reference, _needs("onnx", "pip install onnx")),
    **{
        name: BackendSpec(partial(_node, name), partial(reason_missing, name), clock=NODE_CLOCK)
        for name in (NODE_PACKAGE, WEB_PACKAGE)
    },
}
"""Name -> runtime. `openvino` computes in f32 as the others do, `openvino-default` in what OpenVINO prefers (bf16 where
the processor has it); `reference` is onnx's own evaluator in Python; `onnxruntime-node` and `onnxruntime-web` are npm
packages under node, the second one in WebAssembly."""


def torch_device(provider: str) -> str:
    """The torch device that stands beside a provider: `cuda` for NVIDIA's, else `cpu`."""
    return "cuda" if provider_named(provider).name in ("cuda", "tensorrt") else "cpu"


def _over(session: Any, source: Source, precision: str | None = None) -> Predictor:
    """The artifact's predictor over another session; `precision` is what that computes in, where it is another."""
    artifact = Artifact.read(source.artifact)
    if precision is not None:
        artifact = replace(artifact, precision=precision)
    return Predictor(artifact, session, PROVIDERS["cpu"], SessionOptions(source.threads))
