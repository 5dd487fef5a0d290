"""The tract backend: an ONNX file with the interface of an onnxruntime session."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from numpy.typing import NDArray

from ..errors import BenchError
from .graph_names import read_names
from .refusal import refusal

_BACKTRACE = "Stack backtrace:"


@final
class TractSession:
    """Inference in tract, which computes in one thread.

    Raises:
        BenchError: tract refuses the file, or `threads` is not 1.
    """

    def __init__(self, artifact: Path, threads: int) -> None:
        import tract

        if threads != 1:
            raise BenchError(f"tract computes in one thread, found {threads} threads; measure it with --threads 1")
        self._artifact, self._tract = artifact, tract
        self._names = read_names(artifact)  # tract tells the names of nodes
        try:
            self._model = tract.onnx().load(str(artifact)).into_model().into_runnable()
        except tract.TractError as error:
            raise self._refusal(error) from error

    def run(self, outputs: Sequence[str], feed: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs for these inputs, copies.

        Raises:
            BenchError: tract cannot compute the network.
        """
        try:
            results = self._model.run([feed[name] for name in self._names.inputs])
        except self._tract.TractError as error:
            raise self._refusal(error) from error
        by_name = dict(zip(self._names.outputs, results, strict=True))
        return [by_name[name].to_numpy() for name in outputs]

    def _refusal(self, error: Exception) -> BenchError:
        return refusal(f"tract {self._tract.version()}", self._artifact, str(error).partition(_BACKTRACE)[0])
