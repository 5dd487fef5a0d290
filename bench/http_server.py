"""`lmtool serve` as a process of its own, on loopback, for measuring it."""

import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import final

from .errors import BenchError
from .memory import resident_bytes

_PATIENCE_SECONDS = 60


@final
class ServerProcess:
    """Runs in a `with` block: it listens when that begins, and is gone when it ends."""

    def __init__(self, model: Path, slots: int, threads: int) -> None:
        """Start the process.

        Args:
            model: The artifact.
            slots: Choices that it writes at once.
            threads: Threads of one call.
        """
        command = [sys.executable, "-m", "lmtool.cli", "serve", "--model", str(model), "--port", "0", "--json"]
        command += ["--max-choices", str(slots), "--max-connections", str(10 * slots + 100), "--threads", str(threads)]
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (closed in __exit__); a pipe that is full would stop it
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._said, text=True)  # noqa: S603
        self.port = 0
        """Where it listens."""

    def __enter__(self) -> "ServerProcess":
        """Wait until it listens.

        Raises:
            BenchError: It ended instead; what it said.
        """
        assert self._process.stdout is not None
        lines: list[str] = []
        while not lines or lines[-1] != "}\n":
            lines.append(self._process.stdout.readline())
            if not lines[-1]:
                raise BenchError(f"the server did not start: {self._end()}")
        self.port = int(json.loads("".join(lines))["url"].rpartition(":")[2])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it, by force where it does not end by itself."""
        self._process.send_signal(signal.SIGTERM)
        self._end()

    def _end(self) -> str:
        """Wait for its end, which is made where it does not come by itself; what it said on stderr."""
        try:
            self._process.communicate(timeout=_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        with self._said as said:
            said.seek(0)
            return said.read().decode(errors="replace").strip()

    @property
    def resident_bytes(self) -> int:
        """Its resident set.

        Raises:
            BenchError: It is gone, or the system does not tell.
        """
        return resident_bytes(self._process.pid)
