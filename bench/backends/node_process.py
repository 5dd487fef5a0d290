"""A node process that runs node_worker.mjs: messages to it, its answers, and its end.

A message is a JSON header and the arrays that it describes, in the machine's byte order; node_worker.mjs has the rest.

node looks for a package as it always does: in the `node_modules` of a folder, then of the folders above it. That folder
is the current one, or the one that the environment variable LMTOOL_NODE_FOLDER names; the harness names it to its
processes, which run in folders of their own.
"""

import json
import os
import shutil
import struct
import subprocess
import tempfile
import weakref
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, final

import numpy as np
from numpy.typing import NDArray

from ..errors import BenchError

_SCRIPT = Path(__file__).with_name("node_worker.mjs")
_LENGTH = struct.Struct("<I")
_ANSWER = b"lmt:"
_GRACE_SECONDS = 5.0
_LAST_WORDS = 2000

Answer = tuple[dict[str, Any], list[NDArray[Any]]]
"""The header of a message, and its tensors in their order."""


@final
class NodeProcess:
    """A child that answers one message with one. It ends with this object, at the latest with this process.

    Attributes:
        pid: Its process id.
        versions: Those of node and of the package, by name.
    """

    def __init__(self, package: str, folder: Path) -> None:
        """Start it, and wait until it has loaded the package.

        Args:
            package: An npm package, which is looked for as a script in `folder` would.
            folder: Absolute.

        Raises:
            BenchError: There is no node, or it cannot load the package.
        """
        node = shutil.which("node")
        if node is None:
            raise BenchError("node is not installed; install Node.js 20 or later, where PATH finds it")
        self._words: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed where the process ends
        self._process = subprocess.Popen(  # noqa: S603  # our own script
            [node, str(_SCRIPT), package, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
        )
        self.pid = self._process.pid
        self._end = weakref.finalize(self, _end, self._process, self._words)
        self.versions: dict[str, str] = self._exchange(None, {})[0]["versions"]

    def ask(self, header: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]] | None = None) -> Answer:
        """Send a message and wait for the answer.

        Raises:
            BenchError: The process ended, now or before.
        """
        if not self._end.alive:
            raise BenchError(f"node process {self.pid} has ended; load the artifact anew")
        return self._exchange(header, tensors or {})

    def close(self) -> None:
        """End it, by force where it does not end by itself. A second time does nothing."""
        self._end()

    def _exchange(self, header: Mapping[str, Any] | None, tensors: Mapping[str, NDArray[Any]]) -> Answer:
        """Send a message, if there is one, and receive one; half a message in a pipe is the end of the process."""
        try:
            if header is not None:
                self._send(header, tensors)
            return self._receive()
        except (BrokenPipeError, EOFError):
            raise self._failure() from None
        except BaseException:
            self._process.kill()  # it may be in the middle of a long call
            self.close()
            raise

    def _send(self, header: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> None:
        described = [{"name": name, "type": str(array.dtype), "shape": array.shape} for name, array in tensors.items()]
        text = json.dumps({**header, "tensors": described}).encode()
        stream = self._process.stdin
        assert stream is not None
        stream.write(_LENGTH.pack(len(text)) + text)
        for array in tensors.values():
            stream.write(_bytes_of(np.ascontiguousarray(array)))
        stream.flush()

    def _receive(self) -> Answer:
        mark = self._read(len(_ANSWER))
        if mark != _ANSWER:
            raise BenchError(f"node wrote {mark!r} where an answer begins; a package must not write to stdout")
        (length,) = _LENGTH.unpack(self._read(_LENGTH.size))
        header: dict[str, Any] = json.loads(self._read(length))
        tensors = [np.empty(each["shape"], each["type"]) for each in header["tensors"]]
        for array in tensors:
            self._fill(_bytes_of(array))
        return header, tensors

    def _read(self, size: int) -> bytes:
        found = bytearray(size)
        self._fill(memoryview(found))
        return bytes(found)

    def _fill(self, view: memoryview) -> None:
        stream: Any = self._process.stdout
        if stream.readinto(view) < len(view):
            raise EOFError

    def _failure(self) -> BenchError:
        """How the process ended; it is closed."""
        _wait(self._process)
        self._words.seek(0)
        words = self._words.read().decode(errors="replace").strip()[-_LAST_WORDS:]
        self.close()
        return BenchError(f"node ended with {self._process.returncode}; its last words: {words or 'none'}")


def _bytes_of(array: NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _end(process: subprocess.Popen[bytes], words: IO[bytes]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):  # a message that it was not sent, because it has ended
        process.stdin.close()
    process.stdout.close()
    _wait(process)
    words.close()


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Wait until it has ended; it is killed where that takes too long."""
    try:
        process.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


NODE_FOLDER = "LMTOOL_NODE_FOLDER"
"""The environment variable."""

NODE_PACKAGE = "onnxruntime-node"
WEB_PACKAGE = "onnxruntime-web"
_TRIED = {NODE_PACKAGE: "1.30.0", WEB_PACKAGE: "1.30.0"}


def node_folder() -> Path:
    """Where the search for packages begins, absolute."""
    return Path(os.environ.get(NODE_FOLDER) or ".").resolve()


def start(package: str) -> NodeProcess:
    """A node process that has loaded a package.

    Raises:
        BenchError: There is no node, or it cannot load the package.
    """
    folder = node_folder()
    try:
        return NodeProcess(package, folder)
    except BenchError as error:
        # Its scripts would fetch libraries for GPUs.
        install = f"npm install --ignore-scripts {package}@{_TRIED[package]}"
        raise BenchError(f"{error}; {install} in {folder} or above, or name a folder in {NODE_FOLDER}") from error


def reason_missing(package: str) -> str | None:
    """Why node cannot load a package, with the remedy; None where it can."""
    try:
        start(package).close()
    except BenchError as error:
        return str(error)
    return None


def versions() -> dict[str, str]:
    """The versions of node and of those packages that it can load, by name."""
    found: dict[str, str] = {}
    for package in _TRIED:
        with suppress(BenchError):
            process = start(package)
            process.close()
            found |= process.versions
    return found
