"""The backends: ways to run a model, each with the function that loads it and the reason why it is missing.

A benchmark times a backend's methods. Before that, `verify` compares the backend's predictor with eager PyTorch.
This file imports neither torch nor onnx: a worker loads only the backend that it measures.
"""

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
from ...runtime.predictor import Predictor
from ...runtime.session.providers import PROVIDERS, provider_named
from ...runtime.session.session import SessionOptions
from ...runtime.state import State
from ..errors import BenchError
from .browser_process import SOFTWARE, WEBGPU, BrowserProcess
from .browser_process import reason_missing as no_browser
from .node import NODE_CLOCK, NodeBackend, NodeSession
from .node_process import NODE_PACKAGE, WEB_PACKAGE, reason_missing
from .openvino import OpenVinoSession
from .sessions import OPENVINO_MISSING, SESSIONS, Run, not_installed
from .source import Source
from .stateful import STATEFUL, StatefulBackend

Tokens = NDArray[np.int64]

ONNXRUNTIME = "onnxruntime"
TORCH = "torch"
REFERENCE = "reference"


class Backend(Protocol):
    """One way to run a model.

    The type of a state depends on the backend. A call returns when its results are in host memory.

    Attributes:
        vocabulary_size: Token ids are below it.
        pid: The process that computes.
    """

    vocabulary_size: int
    pid: int

    @property
    def predictor(self) -> Predictor:
        """The backend as a predictor."""
        ...

    def initial_state(self, batch_size: int) -> Any:
        """The zero state."""
        ...

    def read(self, token_ids: Tokens, state: Any) -> Any:
        """Compute the logits of every position of token_ids, int64 [batch, time]; returns the new state."""
        ...

    def prefill(self, token_ids: Tokens, state: Any) -> Any:
        """Compute the logits of the last position of token_ids, int64 [batch, time]; returns the new state.

        A backend that cannot select positions (`logits_to_keep`) computes the logits of all.
        """
        ...

    def score(self, token_ids: Tokens, targets: Tokens, state: Any) -> Any:
        """Compute the log-probability of a target at each position, both int64 [batch, time]; returns the new state."""
        ...


@final
class OnnxBackend:
    """The artifact in the predictor that applications embed, over a session of any kind."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.vocabulary_size = len(predictor.vocabulary)
        self.pid = os.getpid()

    def initial_state(self, batch_size: int) -> State:
        """The zero state of `batch_size` streams."""
        return self.predictor.initial_state(batch_size)

    def read(self, token_ids: Tokens, state: State) -> State:
        """Logits of every position."""
        return self.predictor.step(token_ids, state)[1]

    def prefill(self, token_ids: Tokens, state: State) -> State:
        """Logits of the last position."""
        return self.predictor.step(token_ids, state, logits_to_keep=1)[1]

    def score(self, token_ids: Tokens, targets: Tokens, state: State) -> State:
        """Log-probabilities of targets."""
        return self.predictor.log_probs(token_ids, state, targets)[1]


@final
@dataclass(frozen=True)
class BackendSpec:
    """How to load, find and time a backend.

    Attributes:
        load: Loads it.
        reason_missing: Why it cannot run here, and the fix; None if it can.
        cpu_only: Whether it is measured on the CPU only.
        runs_original: Whether it runs the network of the run folder instead of the artifact.
        runs_int8: Whether it is known to run artifacts in int8.
        clock: Time in seconds.
    """

    load: Callable[[Source], Backend]
    reason_missing: Callable[[], str | None] = lambda: None
    cpu_only: bool = True
    runs_original: bool = False
    runs_int8: bool = True
    clock: Callable[[], float] = time.perf_counter


def _onnxruntime(source: Source) -> Backend:
    return OnnxBackend(Predictor.load(source.artifact, provider=source.provider, threads=source.threads))


def _torch(source: Source, compiled: bool) -> Backend:
    from .pytorch import TorchBackend  # imports torch, which other backends must not load

    run, device = _run_folder(source), torch_device(source.provider)
    return TorchBackend(run, device, source.threads, compiled, lambda run: _predictor(run, source, "fp32"))


def _executorch(source: Source) -> Backend:
    from .executorch import ExecutorchSession  # imports torch

    return OnnxBackend(_predictor(ExecutorchSession(_run_folder(source), source.threads).run, source, "fp32"))


def _run_folder(source: Source) -> Path:
    if source.original is None or source.original.is_file():
        raise BenchError(
            f"there is no PyTorch original of {source.artifact}: found {source.original or 'none'}, expected the run "
            "folder that it was exported from; measure without torch, or the artifact inside its run folder"
        )
    return source.original


def _session(open: Callable[[Source], Run], source: Source) -> Backend:
    return OnnxBackend(_predictor(open(source), source))


def _openvino_default(source: Source) -> Backend:
    session = OpenVinoSession(source.artifact, source.threads, None, source.counters)
    return OnnxBackend(_predictor(session.run, source, {"bf16": "bf16", "f16": "fp16"}.get(session.precision)))


def _node(package: str, source: Source) -> Backend:
    session = NodeSession(source.artifact, package, source.threads)
    return NodeBackend(_predictor(session.run, source), session)


def _webgpu(software: bool, source: Source) -> Backend:
    session = NodeSession(source.artifact, WEB_PACKAGE, source.threads, BrowserProcess(software))
    return NodeBackend(_predictor(session.run, source), session)


def _compiler() -> str | None:
    available = any(shutil.which(name) for name in ("c++", "g++", "clang++"))
    return None if available else "torch.compile needs a C++ compiler; apt install g++, or the like"


BACKENDS: Mapping[str, BackendSpec] = {
    ONNXRUNTIME: BackendSpec(_onnxruntime, cpu_only=False),
    TORCH: BackendSpec(partial(_torch, compiled=False), cpu_only=False, runs_original=True),
    "torch-compile": BackendSpec(partial(_torch, compiled=True), _compiler, cpu_only=False, runs_original=True),
    **{
        name: BackendSpec(partial(_session, spec.open), spec.reason_missing, runs_int8=spec.runs_int8)
        for name, spec in SESSIONS.items()
    },
    "openvino-default": BackendSpec(_openvino_default, OPENVINO_MISSING),
    "executorch": BackendSpec(_executorch, partial(not_installed, "executorch", "executorch"), runs_original=True),
    **{
        name: BackendSpec(partial(_node, name), partial(reason_missing, name), clock=NODE_CLOCK)
        for name in (NODE_PACKAGE, WEB_PACKAGE)
    },
    **{
        name: BackendSpec(partial(_webgpu, software), partial(no_browser, software), clock=NODE_CLOCK)
        for name, software in ((WEBGPU, False), (SOFTWARE, True))
    },
}
"""By name. `openvino` computes in f32 like the others, `openvino-default` in OpenVINO's own choice (bf16 where
available); `executorch` runs the PyTorch original, `reference` is onnx's evaluator in Python; `onnxruntime-node` and
`onnxruntime-web` are npm packages in node, the second one in WebAssembly; `onnxruntime-webgpu` is the second one in
Chromium with WebGPU, `onnxruntime-webgpu-software` the same without a GPU."""


def load_backend(name: str, source: Source) -> Backend | StatefulBackend:
    """Load a backend for a language model, or for the network that the source says how to call.

    Raises:
        LmtoolError: It refuses the file.
    """
    return BACKENDS[name].load(source) if source.calls is None else STATEFUL[name](source, source.calls)


def session_of(backend: Backend | StatefulBackend) -> Any:
    """The session of any runtime that an ONNX file's backend calls."""
    run = backend.run if isinstance(backend, StatefulBackend) else backend.predictor.session.run
    return run.__self__


def torch_device(provider: str) -> str:
    """The torch device of a provider: `cuda` for NVIDIA's, else `cpu`."""
    return "cuda" if provider_named(provider).name in ("cuda", "tensorrt") else "cpu"


@final
class _Session:
    """A `run` function with the interface that a predictor needs of an onnxruntime session."""

    def __init__(self, run: Callable[..., Any]) -> None:
        self.run = run

    def get_overridable_initializers(self) -> list[Any]:
        """None: the backends ignore, reject or do not list inputs with defaults."""
        return []


def _predictor(run: Callable[..., Any], source: Source, precision: str | None = None) -> Predictor:
    """The artifact's predictor over another session; `precision` is the session's, if it differs from the file's."""
    artifact = Artifact.read(source.artifact)
    if precision is not None:
        artifact = replace(artifact, precision=precision)
    return Predictor(artifact, _Session(run), PROVIDERS["cpu"], SessionOptions(source.threads))
