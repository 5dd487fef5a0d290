"""The ExecuTorch backend: the trained network as a program, with the interface of an onnxruntime session."""

import warnings
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim, export

from ...model.network import LanguageModel, state_from_tensors, state_tensors
from ...model.run import Run
from ...runtime.artifact.artifact import LOGITS, NEXT, TOKEN_IDS
from .refusal import refusal

_MOST_STREAMS = 4096


@final
class _Step(nn.Module):
    """A step of the network: token_ids int64 [batch, 1] and the states in the order of `names` -> logits, states."""

    def __init__(self, network: LanguageModel, names: Sequence[str]) -> None:
        super().__init__()
        self._network, self._names = network, names

    def forward(self, token_ids: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        logits, after = self._network(token_ids, state_from_tensors(dict(zip(self._names, states, strict=True))))
        tensors = state_tensors(after)
        return (logits, *(tensors[name] for name in self._names))


@final
class ExecutorchSession:
    """The best checkpoint of a run in ExecuTorch with XNNPACK. Loading exports and lowers the network.

    ExecuTorch unrolls recurrent layers over a fixed number of steps, so the program holds one step of any batch; a
    call of more tokens runs it once for each.

    Raises:
        BenchError: ExecuTorch cannot compute the network.
    """

    def __init__(self, run: Path, threads: int) -> None:
        network = Run(run).trained()[0].eval()
        self._names = list(network.architecture.states)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ExecuTorch's libraries warn about each other
            from executorch.extension.pybindings import portable_lib
            from executorch.runtime import Runtime

            portable_lib._unsafe_reset_threadpool(threads)
            try:
                self._program = Runtime.get().load_program(_lowered(network, self._names))
                self._step = self._program.load_method("forward")
                self._step.execute([torch.zeros(1, 1, dtype=torch.int64), *_zeros(network, self._names, 1)])
            except Exception as error:  # torch.export and ExecuTorch raise errors of many kinds
                raise refusal(f"ExecuTorch {metadata.version('executorch')}", run, error) from error

    def run(self, outputs: Sequence[str], feed: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs for these inputs, in host memory."""
        token_ids = torch.tensor(feed[TOKEN_IDS])
        states = [torch.tensor(feed[name]) for name in self._names]
        logits = []
        for step in torch.split(token_ids, 1, dim=1):
            of_step, *states = self._step.execute([step.contiguous(), *states])
            logits.append(of_step.numpy())
        results = {LOGITS: np.concatenate(logits, axis=1) if len(logits) > 1 else logits[0]}
        results |= {f"{NEXT}{name}": state.numpy() for name, state in zip(self._names, states, strict=True)}
        return [results[name] for name in outputs]


def _zeros(network: LanguageModel, names: Sequence[str], batch_size: int) -> list[Tensor]:
    state = state_tensors(network.initial_state(batch_size))
    return [state[name] for name in names]


def _lowered(network: LanguageModel, names: Sequence[str]) -> bytes:
    """The program of one step."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    example = (torch.zeros(2, 1, dtype=torch.int64), *_zeros(network, names, 2))
    batch = {0: Dim("batch", min=1, max=_MOST_STREAMS)}
    exported = export(_Step(network, names).eval(), example, dynamic_shapes=(batch, (batch,) * len(names)))
    return bytes(to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch().buffer)
