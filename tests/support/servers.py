"""A server in this process, without sockets; and `lmtool serve` as a process."""

import asyncio
import json
import signal
import socket
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import httpx
from lmtool.runtime import Predictor
from lmtool.serve import ModelFile, ServeOptions, Service, create_app

from support.processes.commands import PATIENCE_SECONDS, fresh_command

Result = TypeVar("Result")
ORIGIN = "http://127.0.0.1"


class LocalServer:
    """A server without sockets; each call runs its own event loop."""

    def __init__(self, predictor: Predictor, options: ServeOptions, file: ModelFile | None = None) -> None:
        self.service = Service(predictor, options, file)
        self.app = create_app(self.service)

    def run(self, work: Callable[[httpx.AsyncClient], Awaitable[Result]]) -> Result:
        """Run a coroutine that makes requests."""

        async def main() -> Result:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url=ORIGIN) as client:
                return await work(client)

        return asyncio.run(asyncio.wait_for(main(), PATIENCE_SECONDS))

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self.run(lambda client: client.request(method, path, **options))

    def post(self, path: str, **fields: Any) -> Any:
        """The JSON of a successful response."""
        response = self.request("POST", path, json=fields)
        assert response.status_code in (200, 201), response.text
        return response.json()

    def complete(self, **fields: Any) -> Any:
        return self.post("/v1/completions", **fields)

    def refused(self, path: str, **fields: Any) -> tuple[int, dict[str, Any]]:
        """The status and error of a refused request."""
        response = self.request("POST", path, json=fields)
        return response.status_code, response.json()["error"]

    def chunks(self, **fields: Any) -> list[Any]:
        """The events of a stream; the last is `[DONE]` or an error."""
        response = self.request("POST", "/v1/completions", json={**fields, "stream": True})
        assert response.status_code == 200, response.text
        assert response.headers["content-type"].startswith("text/event-stream")
        parts = response.text.split("\n\n")
        assert parts.pop() == ""
        texts = [part.removeprefix("data: ") for part in parts]
        return [text if text == "[DONE]" else json.loads(text) for text in texts]


@contextmanager
def local_server(predictor: Predictor, **options: Any) -> Iterator[LocalServer]:
    server = LocalServer(predictor, ServeOptions(**options))
    try:
        yield server
    finally:
        server.service.close()


class ServerProcess:
    """`lmtool serve` as a process: a `with` block begins once it listens, and kills it at the end."""

    def __init__(self, artifact: Path, *arguments: object, **options: Any) -> None:
        command = fresh_command("serve", "--model", artifact, "--port", 0, "--json", *arguments)
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, **pipes, **options)
        self.url = ""
        self.port = 0

    def __enter__(self) -> "ServerProcess":
        assert self.process.stdout is not None
        text = ""
        while not text.endswith("}\n"):
            line = self.process.stdout.readline()
            assert line, self.process.stderr and self.process.stderr.read()
            text += line
        self.url = json.loads(text)["url"]
        self.port = int(self.url.rpartition(":")[2])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.communicate()

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal; returns the exit code and stderr."""
        self.process.send_signal(number)
        _, stderr = self.process.communicate(timeout=PATIENCE_SECONDS)
        return self.process.returncode, stderr

    def metric(self, name: str) -> float:
        text = httpx.get(f"{self.url}/metrics").text
        return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(f"{name} "))

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_SECONDS)


def request_bytes(path: str, fields: Any, *headers: str) -> bytes:
    """The bytes of a POST request."""
    body = json.dumps(fields)
    lines = [f"POST {path} HTTP/1.1", "host: 127.0.0.1", "content-type: application/json", *headers]
    return "\r\n".join([*lines, f"content-length: {len(body)}", "", body]).encode()
