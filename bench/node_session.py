"""An ONNX file in onnxruntime-node or onnxruntime-web (WebAssembly), called as an onnxruntime session is called."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from numpy.typing import NDArray

from .errors import BenchError
from .node_packages import start


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
        self._nanoseconds = 0
        try:
            self._process.ask({"artifact": str(artifact.resolve()), "threads": threads})
        except BenchError as error:
            raise BenchError(f"{package} cannot load {artifact}: {error}") from error

    def run(self, outputs: Sequence[str], feed: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs for these inputs, copies.

        Raises:
            BenchError: The call failed, which ends the session, or it has ended before.
        """
        with self._one_at_a_time:
            header, found = self._process.ask({"outputs": list(outputs)}, feed)
            self._nanoseconds += header["nanoseconds"]
        return found

    def clock(self) -> float:
        """Seconds that calls have taken so far, by node's own clock.

        It is what an application in node would have waited, from its typed arrays to those of the results: without the
        pipe, and without what Python does before and after. It also advances by a nanosecond at each look, because
        pytest-benchmark measures a clock's resolution and would find none.
        """
        self._nanoseconds += 1
        return self._nanoseconds / 1e9

    def get_overridable_initializers(self) -> list[Any]:
        """None: one package overlooks an input that has a default, the other refuses it."""
        return []

    def close(self) -> None:
        """End the process."""
        self._process.close()
