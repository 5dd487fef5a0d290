"""A node process that runs node_worker.mjs, and the npm packages that it can load.

node looks for a package in `node_modules` of the current folder, then of the folders above it. The environment variable
LMTOOL_NODE_FOLDER names another folder to start from; the harness sets it for its workers, which run in temporary
folders.
"""

import os
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, final

from ..errors import BenchError
from .messages import Answer, Arrays, pack, unpack

_SCRIPT = Path(__file__).with_name("node_worker.mjs")
_ANSWER = b"lmt:"
_GRACE_SECONDS = 5.0
_LAST_CHARACTERS = 2000


@final
class NodeProcess:
    """A child process that answers each message with one. It ends with this object or this process.

    Attributes:
        pid: Its process id.
        versions: Versions of node and the package, by name.

    Raises:
        BenchError: node is not installed, or cannot load the package, searched from the absolute path `folder`.
    """

    def __init__(self, package: str, folder: Path) -> None:
        node = shutil.which("node")
        if node is None:
            raise BenchError("node is not installed; install Node.js 20 or later, where PATH finds it")
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed by _end
        self._process = subprocess.Popen(  # noqa: S603  # our own script
            [node, str(_SCRIPT), package, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        self.pid = self._process.pid
        self._end = weakref.finalize(self, _end, self._process, self._errors)
        self.versions: dict[str, str] = self._exchange(None, {})[0]["versions"]

    def ask(self, header: Mapping[str, Any], tensors: Arrays | None = None) -> Answer:
        """Send a message and wait for the answer.

        Raises:
            BenchError: The process ended, now or before.
        """
        if not self._end.alive:
            raise BenchError(f"node process {self.pid} has ended; load the artifact anew")
        return self._exchange(header, tensors or {})

    def close(self) -> None:
        """End the process, by force if necessary. A second call does nothing."""
        self._end()

    def _exchange(self, header: Mapping[str, Any] | None, tensors: Arrays) -> Answer:
        """Send a message, if there is one, and receive one; an interrupted exchange ends the process."""
        try:
            if header is not None:
                self._send(header, tensors)
            return self._receive()
        except (BrokenPipeError, EOFError):
            raise self._failure() from None
        except BaseException:
            self._process.kill()  # it may be in a long call
            self.close()
            raise

    def _send(self, header: Mapping[str, Any], tensors: Arrays) -> None:
        stream = self._process.stdin
        assert stream is not None
        for part in pack(header, tensors):
            stream.write(part)
        stream.flush()

    def _receive(self) -> Answer:
        mark = bytearray(len(_ANSWER))
        self._fill(memoryview(mark))
        if mark != _ANSWER:
            raise BenchError(f"node wrote {bytes(mark)!r} where an answer begins; a package must not write to stdout")
        return unpack(self._fill)

    def _fill(self, view: memoryview) -> None:
        stream: Any = self._process.stdout
        if stream.readinto(view) < len(view):
            raise EOFError

    def _failure(self) -> BenchError:
        """Close the process; returns how it ended."""
        _wait(self._process)
        self._errors.seek(0)
        text = self._errors.read().decode(errors="replace").strip()[-_LAST_CHARACTERS:]
        self.close()
        return BenchError(f"node ended with {self._process.returncode}; its last words: {text or 'none'}")


def _end(process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):  # an unsent message remains if node has ended
        process.stdin.close()
    process.stdout.close()
    _wait(process)
    errors.close()


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Wait for the end, and kill the process after `_GRACE_SECONDS`."""
    try:
        process.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


NODE_FOLDER = "LMTOOL_NODE_FOLDER"
"""Name of the environment variable."""

NODE_PACKAGE = "onnxruntime-node"
WEB_PACKAGE = "onnxruntime-web"
_TESTED_VERSIONS = {NODE_PACKAGE: "1.30.0", WEB_PACKAGE: "1.30.0"}


def node_folder() -> Path:
    """Where the search for packages starts, absolute."""
    return Path(os.environ.get(NODE_FOLDER) or ".").resolve()


def start(package: str) -> NodeProcess:
    """Start a node process that has loaded a package.

    Raises:
        BenchError: node is not installed, or cannot load the package.
    """
    folder = node_folder()
    try:
        return NodeProcess(package, folder)
    except BenchError as error:
        raise BenchError(f"{error}; {install_command(package)}") from error


def install_command(package: str) -> str:
    """How to install a package, without its scripts, which would download GPU libraries."""
    command = f"npm install --ignore-scripts {package}@{_TESTED_VERSIONS[package]}"
    return f"{command} in {node_folder()} or above, or name a folder in {NODE_FOLDER}"


def reason_missing(package: str) -> str | None:
    """Why node cannot load a package, and the fix; None if it can."""
    try:
        start(package).close()
    except BenchError as error:
        return str(error)
    return None


def versions() -> dict[str, str]:
    """Versions of node and of the packages that it can load, by name."""
    loaded: dict[str, str] = {}
    for package in _TESTED_VERSIONS:
        with suppress(BenchError):
            process = start(package)
            process.close()
            loaded |= process.versions
    return loaded
