"""The PyTorch backend: the trained network, eager or compiled."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from ...model.network import NetworkState, state_from_tensors, state_tensors
from ...model.run import Run
from ...runtime.artifact.artifact import LOGITS, NEXT, TOKEN_IDS
from ...runtime.predictor import Predictor

Tokens = NDArray[np.int64]


@final
class TorchBackend:
    """The best checkpoint of a run on a device, `cpu` or `cuda`, optionally compiled with its recurrent layers.

    TF32 is off, as in onnxruntime's CUDA provider here, and denormal numbers are flushed to zero.
    """

    def __init__(
        self, run: Path, device: str, threads: int, compiled: bool, predictor: Callable[[Any], Predictor]
    ) -> None:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(True)
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        self._device = device
        self._make_predictor = predictor
        self._network = Run(run).trained()[0].to(device)
        self._all: Callable[..., tuple[Tensor, NetworkState]] = self._network
        self._last: Callable[..., tuple[Tensor, NetworkState]] = self._last_logits
        if compiled:
            torch._dynamo.reset()  # drops the compiled code of an earlier network
            torch._dynamo.config.allow_rnn = True  # the default leaves recurrent layers eager
            self._all, self._last = torch.compile(self._network), torch.compile(self._last_logits)
        self.vocabulary_size = self._network.vocabulary_size
        self.pid = os.getpid()

    @property
    def predictor(self) -> Predictor:
        """The backend as a predictor."""
        return self._make_predictor(self._run)

    def initial_state(self, batch_size: int) -> NetworkState:
        """The zero state of `batch_size` streams."""
        return self._network.initial_state(batch_size)

    def read(self, token_ids: Tokens, state: NetworkState) -> NetworkState:
        """Logits of every position."""
        with torch.inference_mode():
            logits, state = self._all(self._tensor(token_ids), state)
            logits.cpu()
        return state

    def prefill(self, token_ids: Tokens, state: NetworkState) -> NetworkState:
        """Logits of the last position."""
        with torch.inference_mode():
            logits, state = self._last(self._tensor(token_ids), state)
            logits.cpu()
        return state

    def score(self, token_ids: Tokens, targets: Tokens, state: NetworkState) -> NetworkState:
        """Log-probabilities of targets."""
        with torch.inference_mode():
            logits, state = self._all(self._tensor(token_ids), state)
            wanted = self._tensor(targets).flatten()
            (-cross_entropy(logits.flatten(0, 1), wanted, reduction="none")).cpu()
        return state

    def _last_logits(self, token_ids: Tensor, state: NetworkState) -> tuple[Tensor, NetworkState]:
        output, _, new_state = self._network.read(token_ids, state)
        return self._network.projection(output[:, -1:]), new_state

    def _tensor(self, token_ids: Tokens) -> Tensor:
        return torch.from_numpy(token_ids).to(self._device)

    def _run(self, outputs: Sequence[str], feed: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs for these inputs, in host memory."""
        # torch.from_numpy warns about read-only arrays
        tensors = {name: torch.from_numpy(array.copy()).to(self._device) for name, array in feed.items()}
        token_ids = tensors.pop(TOKEN_IDS)
        with torch.inference_mode():
            logits, state = self._all(token_ids, state_from_tensors(tensors))
        results = {LOGITS: logits} | {f"{NEXT}{name}": tensor for name, tensor in state_tensors(state).items()}
        return [results[name].cpu().numpy() for name in outputs]
