"""The server in this process, asked without a socket; and as a process of its own, as a user starts it."""

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
from lmtool.serve import ServeOptions, Service, create_app

from support.processes.commands import PATIENCE_SECONDS, default_sigint, fresh_command

Result = TypeVar("Result")
ORIGIN = "http://127.0.0.1"


class Local:
    """A server without sockets. Each call runs an event loop of its own."""

    def __init__(self, predictor: Predictor, options: ServeOptions) -> None:
        self.service = Service(predictor, options)
        self.app = create_app(self.service)

    def run(self, work: Callable[[httpx.AsyncClient], Awaitable[Result]]) -> Result:
        """What several requests are made in."""

        async def main() -> Result:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url=ORIGIN) as client:
                return await work(client)

        return asyncio.run(asyncio.wait_for(main(), PATIENCE_SECONDS))

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self.run(lambda client: client.request(method, path, **options))

    def post(self, path: str, **fields: Any) -> Any:
        """The JSON of an answer that is well."""
        answer = self.ask("POST", path, json=fields)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    def complete(self, **fields: Any) -> Any:
        return self.post("/v1/completions", **fields)

    def refused(self, path: str, **fields: Any) -> tuple[int, dict[str, Any]]:
        """The status and the error of an answer that is not."""
        answer = self.ask("POST", path, json=fields)
        return answer.status_code, answer.json()["error"]

    def chunks(self, **fields: Any) -> list[Any]:
        """The events of a stream; the last is `[DONE]` or an error."""
        answer = self.ask("POST", "/v1/completions", json={**fields, "stream": True})
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith("text/event-stream")
        parts = answer.text.split("\n\n")
        assert parts.pop() == ""
        texts = [part.removeprefix("data: ") for part in parts]
        return [text if text == "[DONE]" else json.loads(text) for text in texts]


@contextmanager
def local(predictor: Predictor, **options: Any) -> Iterator[Local]:
    served = Local(predictor, ServeOptions(**options))
    try:
        yield served
    finally:
        served.service.engine.pool.close(cancel_waiting=True)


class Running:
    """`lmtool serve` as a process, in a `with` block; it listens when the block begins and is gone after it."""

    def __init__(self, artifact: Path, *arguments: object, **options: Any) -> None:
        command = fresh_command("serve", "--model", artifact, "--port", 0, "--json", *arguments)
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with default_sigint():
            self.process = subprocess.Popen(command, **pipes, **options)
        self.url = ""
        self.port = 0

    def __enter__(self) -> "Running":
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
        """Send a signal; the exit code, and what was said on stderr."""
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=PATIENCE_SECONDS)
        return self.process.returncode, said

    def metric(self, name: str) -> float:
        text = httpx.get(f"{self.url}/metrics").text
        return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(f"{name} "))

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_SECONDS)


def request_bytes(path: str, fields: Any, *headers: str) -> bytes:
    """A POST request as it goes over the wire."""
    body = json.dumps(fields)
    lines = [f"POST {path} HTTP/1.1", "host: 127.0.0.1", "content-type: application/json", *headers]
    return "\r\n".join([*lines, f"content-length: {len(body)}", "", body]).encode()
