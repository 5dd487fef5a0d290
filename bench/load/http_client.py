"""A small HTTP/1.1 client over one connection that is kept, for measuring a server.

The client must not be what is measured: a general one takes a millisecond or more of processor time for a request,
as much as the server. This one knows what our own server sends and nothing else: a length, or chunks."""

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

from ..environment import resident_bytes
from ..errors import BenchError

_HEAD_END = b"\r\n\r\n"
_EVENT = b"data: "


@final
@dataclass(frozen=True)
class Reply:
    """An answer.

    Attributes:
        status: The HTTP status.
        body: Its bytes; of a stream all of them.
        seconds: From the request's first byte to the answer's last.
        first_event: From the request's first byte to the first server-sent event; None where there is none.
    """

    status: int
    body: bytes
    seconds: float
    first_event: float | None


@final
class HttpClient:
    """One connection, one request at a time; it is opened when it is needed, and again after an error."""

    def __init__(self, host: str, port: int) -> None:
        """Nothing is opened yet."""
        self._host = host
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    def request(self, path: str, body: bytes) -> bytes:
        """The bytes of a POST request with a JSON body, for `send`."""
        head = f"POST {path} HTTP/1.1\r\nhost: {self._host}\r\ncontent-type: application/json\r\n"
        return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body

    async def send(self, request: bytes) -> Reply:
        """Send a request and read its answer.

        Raises:
            OSError: The connection cannot be made, or breaks.
            EOFError: It ends before the answer does.
        """
        began = time.perf_counter()
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        try:
            writer.write(request)
            head = (await reader.readuntil(_HEAD_END)).lower()
            body, first_event = await _body(reader, head, began)
        except BaseException:
            await self.close()
            raise
        if b"\r\nconnection: close" in head:
            await self.close()
        return Reply(int(head[9:12]), body, time.perf_counter() - began, first_event)

    async def close(self) -> None:
        """Close the connection, if there is one."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _body(reader: asyncio.StreamReader, head: bytes, began: float) -> tuple[bytes, float | None]:
    """An answer's body, and when its first event came, in seconds since `began`."""
    if b"\r\ntransfer-encoding: chunked" not in head:
        return await reader.readexactly(int(head.partition(b"\r\ncontent-length: ")[2].split()[0])), None
    parts, first_event = [], None
    while size := int(await reader.readuntil(b"\r\n"), 16):
        parts.append((await reader.readexactly(size + 2))[:-2])
        if first_event is None and parts[-1].startswith(_EVENT):
            first_event = time.perf_counter() - began
    await reader.readexactly(2)
    return b"".join(parts), first_event


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
