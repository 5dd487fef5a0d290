"""An ONNX file in onnxruntime-node or onnxruntime-web (WebAssembly), called as an onnxruntime session is called.

What loading and calls take is added to `NODE_CLOCK`.
"""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from .errors import BenchError
from .node_clock import NODE_CLOCK
from .node_packages import start

TARGETS = "targets"


@final
class NodeSession:
    """A session in a node process of its own, with the package's defaults but for the threads.

    Attributes:
        pid: The id of that process.
    """

    def __init__(self, artifact: Path, package: str, threads: int) -> None:
        """Start node and load the file there.

        Args:
            artifact: The ONNX file.
            package: `onnxruntime-node` or `onnxruntime-web`.
            threads: Threads of one call.

        Raises:
            BenchError: There is no node, or it cannot load the package or the file.
        """
        self._process = start(package)
        self.pid = self._process.pid
        self._one_at_a_time = threading.Lock()
        try:
            header, _ = self._process.ask({"artifact": str(artifact.resolve()), "threads": threads})
        except BenchError as error:
            raise BenchError(f"{package} cannot load {artifact}: {error}") from error
        NODE_CLOCK.add(header["nanoseconds"])

    def run(
        self,
        outputs: Sequence[str],
        feed: Mapping[str, NDArray[Any]],
        *,
        steps: int = 1,
        targets: NDArray[np.int64] | None = None,
    ) -> list[NDArray[Any]]:
        """The outputs for these inputs, copies.

        Args:
            outputs: Names; the logits come first.
            feed: Inputs by name.
            steps: Calls, each of which reads the most probable tokens after the one before and goes on from its states.
            targets: int64 [batch, time]: in place of the logits their log-probabilities, float64 [batch, time].

        Raises:
            BenchError: The call failed, which ends the session, or it has ended before.
        """
        tensors = feed if targets is None else {**feed, TARGETS: targets}
        with self._one_at_a_time:
            header, found = self._process.ask({"outputs": list(outputs), "steps": steps}, tensors)
        NODE_CLOCK.add(header["nanoseconds"])
        return found

    def get_overridable_initializers(self) -> list[Any]:
        """None: one package overlooks an input that has a default, the other refuses it."""
        return []

    def close(self) -> None:
        """End the process."""
        self._process.close()
