"""The OpenCV backend: an ONNX file in OpenCV's dnn module, with the interface of an onnxruntime session."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from numpy.typing import NDArray

from ..errors import BenchError
from .refusal import refusal


@final
class OpenCvSession:
    """Inference in the engine of OpenCV 5; earlier ones bake sizes in.

    Raises:
        BenchError: OpenCV refuses the file, or is older.
    """

    def __init__(self, artifact: Path, threads: int) -> None:
        import cv2

        if not hasattr(cv2.dnn, "ENGINE_NEW"):
            raise BenchError(f"found OpenCV {cv2.__version__}, expected 5 or later; install opencv-python-headless")
        self._errors, self._artifact, self._version = cv2.error, artifact, f"OpenCV {cv2.__version__}"
        cv2.setNumThreads(threads)
        try:
            self._network = cv2.dnn.readNetFromONNX(str(artifact), cv2.dnn.ENGINE_NEW)
        except cv2.error as error:
            raise self._refusal(error) from error
        if self._network.empty():
            raise self._refusal("it logs what its parser lacks, and reads an empty network")

    def run(self, outputs: Sequence[str], feed: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs for these inputs, copies.

        Raises:
            BenchError: OpenCV cannot compute the network.
        """
        try:
            for name, array in feed.items():
                self._network.setInput(array, name)
            return list(self._network.forward(list(outputs)))
        except self._errors as error:
            raise self._refusal(error) from error

    def _refusal(self, error: Exception | str) -> BenchError:
        return refusal(self._version, self._artifact, error)
