"""The browser that runs onnxruntime-web on WebGPU: its page's server, and messages with a page that stands in."""

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from lmtool.bench import BenchError
from lmtool.bench.backends import browser_process
from lmtool.bench.backends.browser_process import BrowserProcess
from lmtool.bench.backends.messages import pack
from lmtool.bench.backends.node import NodeSession
from lmtool.bench.backends.page_server import PageServer
from lmtool.bench.backends.registry import BACKENDS
from lmtool.bench.backends.source import Source
from lmtool.bench.candidates import find_candidates
from lmtool.model import Run
from lmtool.runtime import Predictor

SOFTWARE, WEBGPU = browser_process.SOFTWARE, browser_process.WEBGPU
ADAPTER = {"architecture": "swiftshader", "software": True}

PAGE = """
import http.client, json, struct, sys, threading, time
from urllib.parse import urlsplit
url = urlsplit(sys.argv[-1])
def request(method, name, body=b""):
    connection = http.client.HTTPConnection(url.hostname, url.port)
    connection.request(method, url.path + name, body)
    return connection
threading.Thread(target=lambda: request("GET", "alive").getresponse(), daemon=True).start()
def exchange(header, payload=b""):
    text = json.dumps({"tensors": [], **header}).encode()
    response = request("POST", "exchange", struct.pack("<I", len(text)) + text + payload).getresponse()
    data = response.read()
    (size,) = struct.unpack("<I", data[:4])
    return json.loads(data[4 : 4 + size]), data[4 + size :]
message, _ = exchange({"versions": {"onnxruntime-web": "9.8.6"}, "adapter": ADAPTER})
message, payload = exchange({"nanoseconds": 2_000_000})
while True:
    RUN
    answer = [{"type": each["type"], "shape": each["shape"]} for each in message["tensors"]]
    message, payload = exchange({"nanoseconds": 5_000_000, "tensors": answer}, payload)
"""


@pytest.fixture
def browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., BrowserProcess]:
    """A browser that is a Python program: it echoes the tensors of a call, after `run`."""
    package = tmp_path / "node_modules" / "onnxruntime-web" / "dist"
    package.mkdir(parents=True)
    monkeypatch.setenv("LMTOOL_NODE_FOLDER", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))

    def start(run: str = "", adapter: Any = ADAPTER, software: bool = True) -> BrowserProcess:
        page = PAGE.replace("ADAPTER", repr(adapter)).replace("    RUN", textwrap.indent(run, "    "))
        program = tmp_path / "chromium"
        program.write_text(f"#!{sys.executable}\n{page}")
        program.chmod(0o755)
        return BrowserProcess(software)

    return start


def test_arrays_and_times_come_back(browser: Callable[..., BrowserProcess], tmp_path: Path) -> None:
    session = NodeSession(tmp_path / "any.onnx", "onnxruntime-web", 1, browser())
    feed = {"ids": np.array([[0, -1, 2**62]]), "odd": np.arange(105, dtype=np.float32).reshape(3, 5, 7)}
    for name, array in zip(feed, session.run(list(feed), feed), strict=True):
        np.testing.assert_array_equal(array, feed[name])
        assert array.dtype == feed[name].dtype
    session.close()
    with pytest.raises(BenchError, match="has ended; load the artifact anew"):
        session.run([], {})


@pytest.mark.parametrize(
    ("adapter", "software", "fault"),
    [
        (None, True, "no WebGPU adapter: it needs a GPU and its driver"),
        (ADAPTER, False, f"in software only here .swiftshader.; measure it as {SOFTWARE}"),
        ({"architecture": "hopper", "software": False}, True, "chose a GPU .hopper., not software"),
    ],
)
def test_another_adapter_than_the_one_asked_for_is_refused(
    browser: Callable[..., BrowserProcess], adapter: Any, software: bool, fault: str
) -> None:
    with pytest.raises(BenchError, match=fault):
        browser(adapter=adapter, software=software)


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ("exchange({'error': 'device lost'})", "the page failed: device lost"),
        ("sys.exit(7)", "the browser ended with 7|the page died"),
        ("import os; os.kill(os.getpid(), 9)", "the browser ended with -9|the page died"),
    ],
)
def test_a_page_that_fails_or_dies_is_an_error(browser: Callable[..., BrowserProcess], run: str, words: str) -> None:
    process = browser(run)
    process.ask({"artifact": "any.onnx", "threads": 1})
    with pytest.raises(BenchError, match=words):
        process.ask({"outputs": []})
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


def test_a_browser_that_shows_no_page_is_ended(
    browser: Callable[..., BrowserProcess], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "google-chrome").write_text(f"#!{sys.executable}\nimport time; time.sleep(60)\n")
    (tmp_path / "google-chrome").chmod(0o755)
    monkeypatch.setattr(browser_process, "_START_SECONDS", 0.3)
    assert "no page within 0 seconds" in str(BACKENDS[SOFTWARE].reason_missing())


def test_an_interrupted_call_ends_the_browser(browser: Callable[..., BrowserProcess]) -> None:
    process = browser("time.sleep(60)")
    process.ask({"artifact": "any.onnx", "threads": 1})
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    begun = time.perf_counter()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(KeyboardInterrupt):
            process.ask({"outputs": []})
    finally:
        signal.signal(signal.SIGALRM, before)
    assert time.perf_counter() - begun < browser_process._GRACE_SECONDS
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


def test_only_the_page_is_served_and_only_under_its_address(tmp_path: Path) -> None:
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "ort.all.bundle.min.mjs").write_text("export {}")
    (tmp_path / "secret.mjs").write_text("secret")
    server = PageServer(tmp_path / "dist")
    url = urlsplit(server.url)

    def status(path: str, method: str = "GET") -> int:
        with contextlib.closing(http.client.HTTPConnection(str(url.hostname), url.port)) as connection:
            connection.request(method, path)
            return connection.getresponse().status

    assert url.hostname == "127.0.0.1"
    for name in ("", "browser_worker.mjs", "ort_calls.mjs", "package/ort.all.bundle.min.mjs"):
        assert status(url.path + name) == 200, name
    for name in ("registry.py", "artifact", "package/../secret.mjs", "../dist/x.mjs", "package/none.mjs"):
        assert status(url.path + name) == 404, name
    assert status("/browser_worker.mjs") == 404
    assert status("/exchange", "POST") == 404
    server.shutdown()
    server.server_close()


def test_what_is_missing_is_named_with_the_remedy(
    run: Run, browser: Callable[..., BrowserProcess], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, skipped = find_candidates(run.artifact("fp32"), ["cpu"], [WEBGPU], 1)
    assert "there is no browser on the path, expected one of chromium" in skipped[WEBGPU]
    (tmp_path / "chromium").write_text("")
    (tmp_path / "chromium").chmod(0o755)
    monkeypatch.setenv("LMTOOL_NODE_FOLDER", str(tmp_path / "node_modules" / "onnxruntime-web"))
    (tmp_path / "node_modules" / "onnxruntime-web" / "dist").rmdir()
    assert "npm install --ignore-scripts onnxruntime-web@" in str(BACKENDS[SOFTWARE].reason_missing())


def test_a_message_has_a_length_a_header_and_bytes() -> None:
    head, body = pack({"x": 1}, {"a": np.array([1.0], np.float32)})
    assert bytes(head)[4:] == b'{"x": 1, "tensors": [{"name": "a", "type": "float32", "shape": [1]}]}'
    assert int.from_bytes(bytes(head)[:4], "little") == len(head) - 4
    assert bytes(body) == np.array([1.0], np.float32).tobytes()


@pytest.mark.portability
def test_webgpu_in_software_computes_what_the_predictor_computes(run: Run) -> None:
    """In int8: the LSTM kernel of onnxruntime-web 1.30 returns the hidden state in place of the cell state."""
    if reason := BACKENDS[SOFTWARE].reason_missing():
        pytest.skip(reason)
    runtime, predictor = BACKENDS[SOFTWARE].load(Source(run.artifact("int8"))), Predictor.load(run.artifact("int8"))
    clock = BACKENDS[SOFTWARE].clock
    ours, theirs, begun = runtime.predictor.initial_state(3), predictor.initial_state(3), clock()
    for token_ids in np.random.default_rng(0).integers(0, runtime.vocabulary_size, (2, 3, 5)):
        logits, ours = runtime.predictor.step(token_ids, ours)
        expected, theirs = predictor.step(token_ids, theirs)
        np.testing.assert_allclose(logits, expected, atol=1e-5)
    for here, there in zip(theirs.tensors, ours.tensors, strict=True):
        np.testing.assert_allclose(there, here, atol=1e-5)
    assert clock() - begun > 1e-4
    assert runtime.pid != os.getpid()


@pytest.mark.portability
def test_the_browser_ends_when_the_harness_is_killed() -> None:
    if reason := BACKENDS[SOFTWARE].reason_missing():
        pytest.skip(reason)
    program = "import os; from lmtool.bench.backends.browser_process import BrowserProcess as Process; "
    program += "browser = Process(True); print(browser._process.pid, flush=True); os.kill(os.getpid(), 9)"
    killed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    end = time.monotonic() + 30
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < end:
            os.kill(int(killed.stdout), 0)
            time.sleep(0.1)
