"""StreamPool: closing, failing calls, forks, and memory."""

import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lmtool.runtime import PoolError, PoolOptions, Predictor, StreamPool
from support.pools import PATIENCE_SECONDS, Gate, alone, same


def test_closing_a_stream_fails_a_queued_request_and_completes_a_running_one(
    held: tuple[StreamPool, Gate], predictor: Predictor
) -> None:
    pool, gate = held
    first, second = pool.open_stream(), pool.open_stream()
    running = pool.submit(first, [1])
    gate.wait_for_a_call()
    waiting = pool.submit(second, [2])
    pool.close_stream(second)
    with pytest.raises(PoolError, match=f"stream {second} was closed before its request ran"):
        waiting.result(PATIENCE_SECONDS)
    assert pool.stats.open_streams == 1
    pool.close_stream(first)
    assert pool.stats.open_streams == 1  # its state is in use
    others = [pool.open_stream() for _ in range(3)]
    gate.open()
    assert np.array_equal(running.result(PATIENCE_SECONDS), alone(predictor, [[1]])[0][0])
    assert pool.stats.open_streams == 3
    for stream in [*others, pool.open_stream()]:
        assert same(pool.state(stream), predictor.initial_state(1))


def test_a_failing_call_fails_all_its_requests_and_the_pool_goes_on(
    own_predictor: Predictor, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with StreamPool(own_predictor, PoolOptions(max_batch=4, linger_seconds=PATIENCE_SECONDS)) as pool:
        streams = [pool.open_stream() for _ in range(4)]

        def all_read(token: int) -> list[Any]:
            requests = [pool.submit(stream, [token]) for stream in streams]
            assert not wait(requests, PATIENCE_SECONDS).not_done
            return requests

        all_read(1)
        with monkeypatch.context() as broken:
            broken.setattr(own_predictor.network, "run", lambda *_, **__: 1 // 0)
            errors = [request.exception() for request in all_read(2)]
        assert len({id(error) for error in errors}) == 4
        for error in errors:
            assert isinstance(error, PoolError)
            assert "the call for 4 streams failed: integer division" in str(error)
            assert isinstance(error.__cause__, ZeroDivisionError)
        for request in all_read(3):
            assert np.array_equal(request.result(), alone(predictor, [[1], [3]])[0][1])


def test_closing_runs_queued_requests(
    own_predictor: Predictor, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = StreamPool(own_predictor, PoolOptions(linger_seconds=PATIENCE_SECONDS))
    requests = [pool.submit(pool.open_stream(), [token]) for token in range(3)]
    pool.close()
    for token, request in enumerate(requests):
        assert np.array_equal(request.result(0), alone(predictor, [[token]])[0][0])
    for use in (pool.open_stream, lambda: pool.submit(1, [1]), lambda: pool.state(1), lambda: pool.close_stream(1)):
        with pytest.raises(PoolError, match="the pool is closed"):
            use()
    pool.close()


def test_closing_can_fail_queued_requests(predictor: Predictor) -> None:
    pool = StreamPool(predictor, PoolOptions(linger_seconds=PATIENCE_SECONDS))
    requests = [pool.submit(pool.open_stream(), [token]) for token in range(3)]
    pool.close(cancel_waiting=True)
    for request in requests:
        with pytest.raises(PoolError, match="the pool was closed before the request ran"):
            request.result(0)
    with pytest.raises(KeyError), StreamPool(predictor, PoolOptions(linger_seconds=PATIENCE_SECONDS)) as pool:
        request = pool.submit(pool.open_stream(), [1])
        raise KeyError
    assert isinstance(request.exception(0), PoolError)


def test_callbacks_of_requests_may_use_the_pool(pool: StreamPool, predictor: Predictor) -> None:
    stream, ended = pool.open_stream(), threading.Event()
    results: list[Any] = []

    def go_on(_: object) -> None:
        with pytest.raises(PoolError, match="would wait for itself"):
            pool.step(stream, [2])
        request = pool.submit(stream, [2])
        request.add_done_callback(lambda done: (results.append(done.result()), ended.set()))

    pool.submit(stream, [1]).add_done_callback(go_on)
    assert ended.wait(PATIENCE_SECONDS)
    assert np.array_equal(results[0], alone(predictor, [[1], [2]])[0][1])


def test_results_are_freed_with_their_requests(pool: StreamPool) -> None:
    """No reference cycle keeps the logits alive."""
    stream = pool.open_stream()
    gc.disable()
    try:
        request = pool.submit(stream, [1])
        logits = weakref.ref(request.result())
        del request
        deadline = time.monotonic() + PATIENCE_SECONDS
        while logits() is not None and time.monotonic() < deadline:
            time.sleep(0.001)
        assert logits() is None
    finally:
        gc.enable()


def test_only_open_streams_take_memory(predictor: Predictor) -> None:
    with StreamPool(predictor, PoolOptions(max_streams=1_000_000)) as pool:
        pool.step(pool.open_stream(), [1])
        assert pool.stats.reserved_bytes >= 1_000_000 * 4 * (7 + 3 + 7 + 3)
        assert pool.stats.state_bytes == 4 * (7 + 3 + 7 + 3)


def test_more_streams_than_memory_are_refused(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("lmtool.runtime.pool.slots.np.zeros", no_memory)
    with pytest.raises(PoolError, match="the states of 100,000 streams, 80 bytes each, do not fit into memory"):
        StreamPool(predictor, PoolOptions(allow_inexact=True))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_must_make_its_own_pool(artifact_path: Path) -> None:
    code = (
        "import os, sys; from lmtool.runtime import ForkError, Predictor, StreamPool\n"
        "pool = StreamPool(Predictor.load(sys.argv[1])); stream = pool.open_stream()\n"
        "uses = [pool.open_stream, lambda: pool.step(stream, [1]), lambda: pool.close_stream(stream), pool.close]\n"
        "if os.fork() == 0:\n"
        "    for use in uses:\n"
        "        try: use()\n"
        "        except ForkError as error: print(error)\n"
        "    sys.stdout.flush(); os._exit(0)\n"
        "os.wait(); pool.step(stream, [1]); print('the parent goes on')"  # and ends with the pool open
    )
    command = [sys.executable, "-c", code, str(artifact_path)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == 5
    assert lines[-1] == "the parent goes on"
    assert all("make a predictor and a pool in each process, after the fork" in line for line in lines[:-1])


def test_a_program_may_end_with_its_pool_open(artifact_path: Path) -> None:
    code = (
        "import sys; from lmtool.runtime import Predictor, StreamPool\n"
        "pool = StreamPool(Predictor.load(sys.argv[1]))\n"
        "requests = [pool.submit(pool.open_stream(), [1] * 500) for _ in range(1000)]\n"
        "print('ends')"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(artifact_path)], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "ends\n", "")
