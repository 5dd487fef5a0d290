"""The runtimes that are measured: each reads tokens and carries its state, and nothing else is timed."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, final

import numpy as np
from numpy.typing import NDArray

from ..runtime.predictor import Predictor
from ..runtime.providers import provider_named

Tokens = NDArray[np.int64]


class Runtime(Protocol):
    """One way to run the model."""

    def reader(self, batch_size: int) -> Callable[[Tokens], None]:
        """A function that reads token_ids int64 [batch, time] from where its last call stopped.

        When it returns, the logits are computed and where the runtime leaves them: in host memory, or on the device
        with the device synchronised.
        """
        ...


@final
class OnnxRuntime:
    """The artifact, by the predictor that applications embed."""

    def __init__(self, artifact: Path, provider: str, threads: int) -> None:
        """Load the artifact."""
        self._predictor = Predictor.load(artifact, provider=provider, threads=threads)
        self.vocabulary_size = len(self._predictor.vocabulary)

    def reader(self, batch_size: int) -> Callable[[Tokens], None]:
        """See `Runtime`."""
        state = self._predictor.initial_state(batch_size)

        def read(token_ids: Tokens) -> None:
            nonlocal state
            _, state = self._predictor.step(token_ids, state)

        return read


@final
class TorchEager:
    """The PyTorch original, eagerly."""

    def __init__(self, run: Path, provider: str, threads: int) -> None:
        """Load the best checkpoint of the run; torch stays away from processes that measure something else."""
        import torch

        from ..model.run import Run

        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)
        torch.set_flush_denormal(True)
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        self._torch = torch
        self._device = torch_device(provider)
        self._network = Run(run).trained()[0].to(self._device)
        self.vocabulary_size = self._network.vocabulary_size

    def reader(self, batch_size: int) -> Callable[[Tokens], None]:
        """See `Runtime`."""
        torch, network = self._torch, self._network
        state = network.initial_state(batch_size)

        def read(token_ids: Tokens) -> None:
            nonlocal state
            with torch.inference_mode():
                _, state = network(torch.from_numpy(token_ids).to(self._device), state)
            if self._device == "cuda":
                torch.cuda.synchronize()

        return read


def torch_device(provider: str) -> str:
    """The torch device that stands beside a provider: `cuda` for NVIDIA's, else `cpu`."""
    return "cuda" if provider_named(provider).name in ("cuda", "tensorrt") else "cpu"
