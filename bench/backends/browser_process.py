"""A headless Chromium that runs browser_worker.mjs over onnxruntime-web, on WebGPU.

It has a temporary profile and no extensions, and its background requests are off.
"""

import io
import math
import os
import queue
import shutil
import signal
import subprocess
import tempfile
import time
import weakref
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, final

from ..errors import BenchError
from .messages import Answer, Arrays, pack, unpack
from .node_process import WEB_PACKAGE, install_command, node_folder
from .page_server import PageServer

BROWSERS = ("chromium", "google-chrome", "chromium-browser")
WEBGPU = "onnxruntime-webgpu"
SOFTWARE = "onnxruntime-webgpu-software"

_ARGUMENTS = (
    *("--headless=new", "--no-first-run", "--disable-extensions", "--disable-sync", "--disable-component-update"),
    *("--disable-background-networking", "--disable-default-apps", "--enable-unsafe-webgpu"),
)
_SOFTWARE_ARGUMENTS = ("--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan")
_START_SECONDS = 120.0
_POLL_SECONDS = 0.2
_GRACE_SECONDS = 5.0


@final
class BrowserProcess:
    """A browser that answers each message with one, like a `NodeProcess`. It ends with this object or this process.

    Attributes:
        pid: The browser's process for the GPU, which computes; the browser itself where it is not found.
        versions: Version of the package, by its name.

    Raises:
        BenchError: The browser or the package is missing, or there is no WebGPU adapter of the kind: in software
            (`software`) or of a GPU.
    """

    def __init__(self, software: bool) -> None:
        package, reason = _package(), _reason_not_found()
        if package is None or reason is not None:
            raise BenchError(str(reason))
        self._server = PageServer(package)
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._process = subprocess.Popen(  # noqa: S603  # the browser on the path, our own page
            _command(software, self._profile.name, self._server.url),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._end = weakref.finalize(self, _end, self._process, self._server, self._profile)
        first, _ = self._receive(_START_SECONDS)
        self.versions: dict[str, str] = first["versions"]
        self.pid = _gpu_process(self._process.pid) or self._process.pid
        if fault := _fault_of(first["adapter"], software):
            self.close()
            raise BenchError(fault)

    def ask(self, header: Mapping[str, Any], tensors: Arrays | None = None) -> Answer:
        """Send a message and wait for the answer.

        Raises:
            BenchError: The page failed or the browser ended, now or before.
        """
        if not self._end.alive:
            raise BenchError("the browser has ended; load the artifact anew")
        if "artifact" in header:
            self._server.artifact = Path(header["artifact"])
        self._server.messages.put(b"".join(pack(header, tensors or {})))
        return self._receive()

    def close(self) -> None:
        """End the browser. A second call does nothing."""
        self._end()

    def _receive(self, most_seconds: float = math.inf) -> Answer:
        """The page's next answer; a failed or interrupted exchange ends the browser."""
        try:
            header, tensors = unpack(self._body(most_seconds))
            if "error" in header:
                raise BenchError(f"the page failed: {header['error']}")
        except BaseException:
            self.close()
            raise
        return header, tensors

    def _body(self, most_seconds: float) -> Any:
        end = time.monotonic() + most_seconds
        while time.monotonic() < end:
            with suppress(queue.Empty):
                body = self._server.answers.get(timeout=_POLL_SECONDS)
                if body is None:
                    raise BenchError("the page died; the browser may lack memory")
                return io.BytesIO(body).readinto
            if self._process.poll() is not None:
                raise BenchError(f"the browser ended with {self._process.returncode}")
        raise BenchError(f"the browser showed no page within {most_seconds:.0f} seconds")


def reason_missing(software: bool) -> str | None:
    """Why the browser cannot run the package on an adapter of the kind, and the fix; None if it can."""
    try:
        BrowserProcess(software).close()
    except BenchError as error:
        return str(error)
    return None


def _reason_not_found() -> str | None:
    if _browser() is None:
        names = ", ".join(BROWSERS)
        return f"there is no browser on the path, expected one of {names}; apt install chromium, or the like"
    if _package() is None:
        return f"{WEB_PACKAGE} is not installed; {install_command(WEB_PACKAGE)}"
    return None


def browser_version() -> str | None:
    """The browser's own words for its version; None if there is no browser."""
    program = _browser()
    if program is None:
        return None
    finished = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)  # noqa: S603
    return finished.stdout.strip() or None


def _command(software: bool, profile: str, url: str) -> list[str]:
    adapter = _SOFTWARE_ARGUMENTS if software else ()
    sandbox = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    return [str(_browser()), *_ARGUMENTS, *adapter, *sandbox, f"--user-data-dir={profile}", url]


def _browser() -> str | None:
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def _package() -> Path | None:
    """The folder of the package's files: node's search, from `node_folder` upwards."""
    folder = node_folder()
    places = (place / "node_modules" / WEB_PACKAGE / "dist" for place in (folder, *folder.parents))
    return next((place for place in places if place.is_dir()), None)


def _fault_of(adapter: Mapping[str, Any] | None, software: bool) -> str | None:
    """Why the browser's adapter is not the one that was asked for."""
    if adapter is None:
        return "the browser has no WebGPU adapter: it needs a GPU and its driver, with Vulkan on Linux"
    if adapter["software"] and not software:
        return f"WebGPU runs in software only here ({adapter['architecture']}); measure it as {SOFTWARE}"
    if not adapter["software"] and software:
        return f"the browser chose a GPU ({adapter['architecture']}), not software"
    return None


def _gpu_process(browser: int) -> int | None:
    """The browser's child that drives the GPU, where the system has Linux's /proc."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ProcessLookupError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if b"--type=gpu-process" in words and os.getpgid(int(folder.name)) == browser:
                return int(folder.name)
    return None


def _end(process: subprocess.Popen[bytes], server: PageServer, profile: tempfile.TemporaryDirectory[str]) -> None:
    server.messages.put(None)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    server.shutdown()
    server.server_close()
    profile.cleanup()
