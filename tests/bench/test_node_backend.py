"""onnxruntime's npm packages in a node process: messages, ends, time and parity.

What needs node alone runs on packages that stand in; the rest needs the real ones, in the current folder, one above it
or the one that LMTOOL_NODE_FOLDER names, and skips where they are missing.
"""

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lmtool.bench import BenchError, Scenario
from lmtool.bench.backends import node_process
from lmtool.bench.backends.node import NODE_CLOCK, NodeSession
from lmtool.bench.backends.node_process import (
    NODE_FOLDER,
    NODE_PACKAGE,
    WEB_PACKAGE,
    node_folder,
    reason_missing,
    versions,
)
from lmtool.bench.backends.registry import BACKENDS
from lmtool.bench.backends.source import Source
from lmtool.bench.candidates import Candidate, find_candidates
from lmtool.bench.workers import launch
from lmtool.bench.workers.verify import verify_backend
from lmtool.model import Run
from lmtool.runtime import Predictor
from pytest_benchmark.timers import compute_timer_precision
from support.web.npm import ECHO, write_package

PACKAGES = (NODE_PACKAGE, WEB_PACKAGE)
BUSY = "const end = Date.now() + %d; while (Date.now() < end);"


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., NodeSession]:
    """Makes a session over a package that stands in for onnxruntime-node, which node finds in a folder above."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    folder = tmp_path / "project" / "below"
    folder.mkdir(parents=True)
    monkeypatch.setenv(NODE_FOLDER, str(folder))

    def make(run: str = ECHO, start: str = "", package: str = NODE_PACKAGE, threads: int = 1) -> NodeSession:
        write_package(folder.parent, package, run, start)
        return NodeSession(tmp_path / "any.onnx", package, threads)

    return make


@pytest.fixture(params=PACKAGES)
def package(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if reason := reason_missing(name):
        pytest.skip(reason)
    return name


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def call(session: NodeSession) -> list[Any]:
    return session.run(["x"], {"x": np.zeros((1, 1), np.float32)})


def test_arrays_come_back_as_they_went(stand_in: Callable[..., NodeSession]) -> None:
    session = stand_in()
    random = np.random.default_rng(0)
    feed: dict[str, Any] = {
        "ids": np.array([[0, -1, 2**62], [7, -(2**63), 3]]),
        "odd": random.normal(size=(3, 5, 7)).astype(np.float32),
        "turned": random.normal(size=(4, 6)).astype(np.float32).T,
        "none": np.zeros((2, 0, 3), np.float32),
        "large": random.normal(size=(1000, 1000)).astype(np.float32),  # more than a pipe holds
        "special": np.array([np.nan, np.inf, -0.0, 1e-45], np.float32),
    }
    for names in (list(feed), ["odd", "ids"], []):
        outputs = session.run(names, feed)
        assert len(outputs) == len(names)
        for name, array in zip(names, outputs, strict=True):
            np.testing.assert_array_equal(array, feed[name])
            assert array.dtype == feed[name].dtype
            assert array.shape == feed[name].shape
            assert array.flags.writeable


@pytest.mark.parametrize("package", PACKAGES)
def test_threads_and_model_reach_the_package(
    stand_in: Callable[..., NodeSession], tmp_path: Path, package: str
) -> None:
    run = """
        const { intraOpNumThreads, interOpNumThreads, executionMode, executionProviders } = options;
        const facts = [artifact, executionProviders, intraOpNumThreads ?? null, interOpNumThreads ?? null];
        const text = JSON.stringify([...facts, executionMode ?? null, exports.env.wasm.numThreads ?? null]);
        const codes = BigInt64Array.from([...text].map((letter) => BigInt(letter.charCodeAt())));
        return { x: new exports.Tensor("int64", codes, [codes.length]) };
    """
    (codes,) = call(stand_in(run, package=package, threads=3))
    artifact = str(tmp_path / "any.onnx")
    expected = {
        NODE_PACKAGE: f'["{artifact}",["cpu"],3,1,"sequential",null]',
        WEB_PACKAGE: f'["{artifact}",["wasm"],null,null,null,3]',
    }
    assert "".join(map(chr, codes)) == expected[package]


def test_output_of_a_package_does_not_disturb(stand_in: Callable[..., NodeSession]) -> None:
    session = stand_in(f"console.log('hello'); {ECHO}", start="console.info('loading');")
    assert call(session) == [np.zeros((1, 1))]


def test_other_bytes_on_stdout_are_an_error(stand_in: Callable[..., NodeSession]) -> None:
    with pytest.raises(BenchError, match=r"node wrote b'hell' where an answer begins"):
        stand_in(start="require('fs').writeSync(1, 'hello');")


def test_the_clock_advances_by_what_node_computes(stand_in: Callable[..., NodeSession]) -> None:
    session = stand_in(f"{BUSY % 60} {ECHO}")
    begun = NODE_CLOCK()
    call(session)
    assert 0.059 < NODE_CLOCK() - begun < 0.2


def test_the_clock_leaves_the_pipe_out(stand_in: Callable[..., NodeSession]) -> None:
    slow = "const slow = { type: 'float32', data: new Float32Array(1) };"
    slow += (
        f"Object.defineProperty(slow, 'dims', {{ get: () => {{ {BUSY % 200} return [1]; }} }}); return {{ x: slow }};"
    )
    session = stand_in(slow)  # only the message reads the shape, which is slow
    begun, begun_here = NODE_CLOCK(), time.perf_counter()
    call(session)
    assert time.perf_counter() - begun_here > 0.199
    assert 0 < NODE_CLOCK() - begun < 0.1


def test_the_clock_has_a_resolution_and_stands_still_between_calls(stand_in: Callable[..., NodeSession]) -> None:
    session = stand_in()
    call(session)
    first = NODE_CLOCK()
    time.sleep(0.02)
    assert 0 < NODE_CLOCK() - first < 1e-6
    assert 0 < compute_timer_precision(NODE_CLOCK) < 1e-6


def test_an_error_in_node_is_ours(stand_in: Callable[..., NodeSession]) -> None:
    session = stand_in("throw new Error('no kernel for this');")
    with pytest.raises(BenchError, match=r"^node ended with 1; its last words: no kernel for this$"):
        call(session)
    assert not is_running(session.pid)
    with pytest.raises(BenchError, match="node process .* has ended; load the artifact anew"):
        call(session)


def test_a_type_that_is_not_sent_is_an_error(stand_in: Callable[..., NodeSession]) -> None:
    with pytest.raises(BenchError, match="node ended with 1"):
        stand_in().run(["x"], {"x": np.zeros(1, np.float64)})


def test_a_killed_process_is_an_error(stand_in: Callable[..., NodeSession]) -> None:
    session = stand_in()
    call(session)
    os.kill(session.pid, signal.SIGKILL)
    with pytest.raises(BenchError, match=r"node ended with -9; its last words: none"):
        session.run(["x"], {"x": np.zeros((1000, 1000), np.float32)})


def test_a_process_that_dies_in_a_call_is_an_error(stand_in: Callable[..., NodeSession]) -> None:
    session = stand_in("console.error('out of memory'); process.kill(process.pid, 'SIGKILL'); for (;;);")
    with pytest.raises(BenchError, match=r"node ended with -9; its last words: out of memory"):
        call(session)


def test_a_package_that_does_not_load_says_why(stand_in: Callable[..., NodeSession]) -> None:
    with pytest.raises(BenchError, match=r"its last words: needs another libc; npm install .*onnxruntime-node@1"):
        stand_in(start="throw new Error('needs another libc');")


def test_the_process_ends_with_its_session(stand_in: Callable[..., NodeSession]) -> None:
    session = stand_in()
    pid = session.pid
    assert is_running(pid)
    del session
    assert not is_running(pid)


def test_closing_ends_the_process_once_and_for_all(stand_in: Callable[..., NodeSession]) -> None:
    session = stand_in()
    session.close()
    assert not is_running(session.pid)
    session.close()
    with pytest.raises(BenchError, match="has ended"):
        call(session)


def test_a_process_that_does_not_end_is_killed(
    stand_in: Callable[..., NodeSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_process, "_GRACE_SECONDS", 0.1)
    session = stand_in(start="process.exit = () => { for (;;); };")
    assert call(session) == [np.zeros((1, 1))]
    session.close()
    assert not is_running(session.pid)


def test_an_interrupted_call_ends_at_once_and_leaves_no_answer_behind(stand_in: Callable[..., NodeSession]) -> None:
    session = stand_in(f"{BUSY % 60_000} {ECHO}")
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    begun = time.perf_counter()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            call(session)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert time.perf_counter() - begun < node_process._GRACE_SECONDS
    assert not is_running(session.pid)
    with pytest.raises(BenchError, match="has ended"):
        call(session)


def test_a_missing_package_is_named_with_the_remedy(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    monkeypatch.setenv(NODE_FOLDER, str(tmp_path))
    candidates, skipped = find_candidates(run.artifact("fp32"), ["cpu"], PACKAGES, 1)
    assert list(candidates) == ["onnx fp32", "onnx int8"]
    for name in PACKAGES:
        assert f"Cannot find module '{name}'; npm install --ignore-scripts {name}@" in skipped[name]
        assert f" in {tmp_path} or above, or name a folder in LMTOOL_NODE_FOLDER" in skipped[name]
    assert versions() == {}


def test_a_missing_node_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    for name in PACKAGES:
        assert "node is not installed; install Node.js" in str(BACKENDS[name].reason_missing())
    assert versions() == {}


def test_versions_are_those_that_load(stand_in: Callable[..., NodeSession]) -> None:
    stand_in()
    assert reason_missing(NODE_PACKAGE) is None
    known = versions()
    assert known.pop("node")
    assert known == {NODE_PACKAGE: "9.8.7"}


def test_processes_of_the_harness_look_where_it_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NODE_FOLDER, raising=False)
    monkeypatch.chdir(tmp_path)
    assert node_folder() == tmp_path
    assert launch._environment(sys.executable, 1, tmp_path)[NODE_FOLDER] == str(tmp_path)
    monkeypatch.setenv(NODE_FOLDER, "below")
    assert launch._environment(sys.executable, 1, tmp_path)[NODE_FOLDER] == str(tmp_path / "below")


@pytest.mark.portability
def test_the_packages_compute_what_the_original_computes(
    run: Run, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source(run.artifact("fp32"), run.path)
    report = verify_backend(package, source)
    assert report["passed"], report["failures"]
    assert report["loop_steps"] == 200
    correct = NodeSession.run

    def wrong(self: NodeSession, *arguments: Any, **options: Any) -> list[Any]:
        logits, *states = correct(self, *arguments, **options)
        return [logits + np.float32(1e-3), *states]

    monkeypatch.setattr(NodeSession, "run", wrong)
    report = verify_backend(package, source)
    assert not report["passed"]
    assert "logits differs by 1.00e-03" in report["failures"][0]


@pytest.mark.portability
@pytest.mark.parametrize("threads", [1, 2])
def test_the_packages_step_as_the_predictor_does(run: Run, predictor: Predictor, package: str, threads: int) -> None:
    runtime = BACKENDS[package].load(Source(run.artifact("fp32"), run.path, threads=threads))
    token_ids = np.random.default_rng(0).integers(0, runtime.vocabulary_size, (3, 5))
    ours, theirs = runtime.predictor.initial_state(3), predictor.initial_state(3)
    for kept in (None, 2):
        logits, ours = runtime.predictor.step(token_ids, ours, logits_to_keep=kept)
        expected, theirs = predictor.step(token_ids, theirs, logits_to_keep=kept)
        np.testing.assert_allclose(logits, expected, atol=1e-5)
    for here, there in zip(theirs.tensors, ours.tensors, strict=True):
        np.testing.assert_allclose(there, here, atol=1e-5)


@pytest.mark.portability
def test_log_probabilities_in_node_are_the_predictors(run: Run, predictor: Predictor, package: str) -> None:
    session = NodeSession(run.artifact("fp32"), package, 1)
    names = list(predictor.artifact.architecture.states)
    outputs = ["logits", *(f"next_{name}" for name in names)]
    random = np.random.default_rng(0)
    token_ids, targets = random.integers(0, len(predictor.vocabulary), (2, 3, 5))
    start = predictor.initial_state(3)
    feed = {"token_ids": token_ids, **dict(zip(names, start.tensors, strict=True))}
    log_probs, *_ = session.run(outputs, feed, targets=targets)
    np.testing.assert_allclose(log_probs, predictor.log_probs(token_ids, start, targets)[0], atol=1e-5)


@pytest.mark.portability
def test_a_runtime_in_node_is_timed_by_its_clock_and_tells_its_process(run: Run, package: str) -> None:
    clock = BACKENDS[package].clock
    begun = clock()
    runtime = BACKENDS[package].load(Source(run.artifact("fp32"), run.path))
    loaded = clock()
    assert loaded - begun > 1e-4
    runtime.read(np.ones((1, 1), np.int64), runtime.initial_state(1))
    assert clock() - loaded > 1e-6
    assert runtime.pid != os.getpid()
    assert is_running(runtime.pid)
    assert versions()[package]


@pytest.mark.portability
def test_a_file_that_is_no_model_is_refused(package: str, tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"something else")
    with pytest.raises(BenchError, match=f"{package} cannot load .*bad.onnx: node ended with 1; .*[Pp]rotobuf"):
        NodeSession(tmp_path / "bad.onnx", package, 1)


@pytest.mark.portability
def test_the_harness_measures_the_packages(run: Run, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(node_folder())
    monkeypatch.delenv(NODE_FOLDER, raising=False)
    forms = ("single-stream", "multi-stream:3", "offline:1x4", "prefill:1x5", "generation:3", "load", "first-step")
    scenarios = [Scenario.parse(form) for form in forms]
    result = launch.run_timing_job(Candidate(package, Source(run.artifact("fp32"), run.path)), scenarios, 0.02)
    assert list(result.rounds) == scenarios
    for measured in result.rounds.values():
        assert len(measured.call_seconds) >= 5
        assert min(measured.call_seconds) > 1e-6
