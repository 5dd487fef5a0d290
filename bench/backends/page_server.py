"""Serves the page of browser_worker.mjs from a thread, on this machine only, and passes messages to and from it."""

import http.server
import queue
import secrets
import threading
from pathlib import Path
from typing import Any, final

_POLL_SECONDS = 0.05
_HERE = Path(__file__).parent
_SCRIPT = '<script type="module" src="browser_worker.mjs"></script>'
_PAGE = f'<!doctype html><meta charset="utf-8"><title>lmtool</title>{_SCRIPT}'.encode()
_TYPES = {".mjs": "text/javascript", ".wasm": "application/wasm", ".html": "text/html"}


@final
class PageServer(http.server.ThreadingHTTPServer):
    """Serves the page under an address that no other page can guess, and passes messages.

    Attributes:
        url: The page's address.
        artifact: The file that the page loads.
        messages: Messages to the page; None ends the wait for one.
        answers: Its answers; None: it died.
    """

    daemon_threads = True

    def __init__(self, package: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._root = f"/{secrets.token_urlsafe()}/"
        self.url = f"http://127.0.0.1:{self.server_port}{self._root}"
        self._package = package
        self.artifact: Path | None = None
        self.messages: queue.Queue[bytes | None] = queue.Queue()
        self.answers: queue.Queue[bytes | None] = queue.Queue()
        threading.Thread(target=self.serve_forever, args=(_POLL_SECONDS,), daemon=True).start()

    def name_of(self, path: str) -> str | None:
        """The name below the page's path; None if the path is another."""
        return path.removeprefix(self._root) if path.startswith(self._root) else None

    def file(self, name: str) -> Path | None:
        """The file of a name; None if there is none."""
        if name == "artifact":
            return self.artifact
        folder = self._package if name.startswith("package/") else _HERE
        path = folder / name.removeprefix("package/")
        return path if path.parent == folder and path.suffix in _TYPES and path.is_file() else None


@final
class _Handler(http.server.BaseHTTPRequestHandler):
    server: PageServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Send the page, a file, or nothing until the page ends."""
        name = self.server.name_of(self.path)
        if name == "":
            self._send(_PAGE, ".html")
        elif name == "alive":
            self.rfile.read(1)  # returns when the connection is closed
            self.server.answers.put(None)
        elif name is not None and (path := self.server.file(name)):
            self._send(path.read_bytes(), path.suffix)
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        """Take an answer; send the next message."""
        if self.server.name_of(self.path) != "exchange":
            self.send_error(404)
            return
        self.server.answers.put(self.rfile.read(int(self.headers["Content-Length"])))
        if (message := self.server.messages.get()) is not None:
            self._send(message, "")

    def _send(self, content: bytes, suffix: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", _TYPES.get(suffix, "application/octet-stream"))
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")  # with the next: a clock of 5 us, not 100
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Log nothing."""
