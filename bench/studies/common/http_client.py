"""The HTTP client and the server process of `http_load.py`.

The client must cost little, because it shares the machine with the server: a general client needs a millisecond or
more of processor time for a request, as much as the server. This one only reads what our server sends: a body with a
length, or chunks.
"""

import asyncio
import json
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import final

from lmtool.bench.environment import resident_bytes
from lmtool.bench.errors import BenchError

_HEAD_END = b"\r\n\r\n"
_EVENT = b"data: "
_STOP_SECONDS = 60


@final
@dataclass(frozen=True)
class Reply:
    """An HTTP response.

    Attributes:
        seconds: From the request's first byte to the response's last.
        first_event: Seconds to the first server-sent event; None if there is none.
    """

    status: int
    body: bytes
    seconds: float
    first_event: float | None


@final
class HttpClient:
    """One HTTP/1.1 connection with one request at a time; opened on demand, and again after an error."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    def request(self, path: str, body: bytes) -> bytes:
        """The bytes of a POST request with a JSON body, for `send`."""
        head = f"POST {path} HTTP/1.1\r\nhost: {self._host}\r\ncontent-type: application/json\r\n"
        return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body

    async def send(self, request: bytes) -> Reply:
        """Send a request and read the response.

        Raises:
            OSError: The connection cannot be made, or breaks.
            EOFError: The connection ends before the response does.
        """
        start = time.perf_counter()
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        try:
            writer.write(request)
            head = (await reader.readuntil(_HEAD_END)).lower()
            body, first_event = await _read_body(reader, head, start)
        except BaseException:
            await self.close()
            raise
        if b"\r\nconnection: close" in head:
            await self.close()
        return Reply(int(head[9:12]), body, time.perf_counter() - start, first_event)

    async def close(self) -> None:
        """Close the connection, if there is one."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _read_body(reader: asyncio.StreamReader, head: bytes, start: float) -> tuple[bytes, float | None]:
    """The body, and the time of its first event in seconds since `start`."""
    if b"\r\ntransfer-encoding: chunked" not in head:
        return await reader.readexactly(int(head.partition(b"\r\ncontent-length: ")[2].split()[0])), None
    parts, first_event = [], None
    while size := int(await reader.readuntil(b"\r\n"), 16):
        parts.append((await reader.readexactly(size + 2))[:-2])
        if first_event is None and parts[-1].startswith(_EVENT):
            first_event = time.perf_counter() - start
    await reader.readexactly(2)
    return b"".join(parts), first_event


@final
class ServerProcess:
    """`lmtool serve` as a process; it listens inside a `with` block and is stopped at its end."""

    def __init__(self, model: Path, slots: int, threads: int) -> None:
        """Start the process.

        Args:
            model: The artifact.
            slots: Choices that it writes at once.
            threads: Threads of a call.
        """
        command = [sys.executable, "-m", "lmtool.cli", "serve", "--model", str(model), "--port", "0", "--json"]
        command += ["--max-choices", str(slots), "--max-connections", str(10 * slots + 100), "--threads", str(threads)]
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (closed in __exit__); a full pipe would block the server
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._stderr, text=True)
        self.port = 0
        """The port it listens on."""

    def __enter__(self) -> "ServerProcess":
        """Wait until the server listens.

        Raises:
            BenchError: It ended instead; the message holds its stderr.
        """
        assert self._process.stdout is not None
        lines: list[str] = []
        while not lines or lines[-1] != "}\n":
            lines.append(self._process.stdout.readline())
            if not lines[-1]:
                raise BenchError(f"the server did not start: {self._wait()}")
        self.port = int(json.loads("".join(lines))["url"].rpartition(":")[2])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._wait()

    def _wait(self) -> str:
        """Wait until the process ends, kill it after a minute; returns its stderr."""
        try:
            self._process.communicate(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        with self._stderr as stderr:
            stderr.seek(0)
            return stderr.read().decode(errors="replace").strip()

    @property
    def processor_seconds(self) -> tuple[float, float]:
        """Processor time of the event loop's thread, and of the others; zeros where the system does not tell."""
        threads = Path(f"/proc/{self._process.pid}/task").glob("*/schedstat")
        nanoseconds = {thread.parent.name: int(thread.read_text().split()[0]) for thread in threads}
        loop = nanoseconds.pop(str(self._process.pid), 0)
        return loop / 1e9, sum(nanoseconds.values()) / 1e9

    @property
    def resident_bytes(self) -> int:
        """The resident set.

        Raises:
            BenchError: The process is gone, or the system does not report it.
        """
        return resident_bytes(self._process.pid)
