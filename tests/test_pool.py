"""A pool of streams: each gets what it would get alone; what is refused, given up or failed changes nothing."""

import asyncio
import contextlib
import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lmtool.runtime import (
    BusyError,
    CacheOptions,
    OptionError,
    PoolError,
    PoolOptions,
    Predictor,
    RequestTimeoutError,
    State,
    StateError,
    StreamPool,
    TokenError,
)

PATIENCE_SECONDS = 60


class Gate:
    """Holds the calls of a predictor until it is opened, and counts them."""

    def __init__(self, predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[tuple[int, ...]] = []
        self.entered = threading.Semaphore(0)
        self._passes = threading.Semaphore(0)
        self._step = predictor.step
        monkeypatch.setattr(predictor, "step", self._held)

    def _held(self, token_ids: Any, *args: Any, **options: Any) -> Any:
        self.sizes.append(np.shape(token_ids))
        self.entered.release()
        assert self._passes.acquire(timeout=PATIENCE_SECONDS)
        return self._step(token_ids, *args, **options)

    def wait_for_a_call(self) -> None:
        assert self.entered.acquire(timeout=PATIENCE_SECONDS)

    def let_pass(self, calls: int = 1) -> None:
        self._passes.release(calls)

    def open(self) -> None:
        self._passes.release(1000)


@pytest.fixture
def own(artifact_path: Path) -> Predictor:
    """A predictor that a test may tamper with."""
    return Predictor.load(artifact_path)


@pytest.fixture
def pool(predictor: Predictor) -> Iterator[StreamPool]:
    with StreamPool(predictor, PoolOptions(max_streams=50)) as made:
        yield made


@pytest.fixture
def held(own: Predictor, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[StreamPool, Gate]]:
    """A small pool whose calls wait at a gate."""
    made = StreamPool(own, PoolOptions(max_streams=20, max_waiting=4, max_batch=8))
    gate = Gate(own, monkeypatch)
    yield made, gate
    gate.open()
    made.close()


def alone(predictor: Predictor, pieces: list[list[int]], start: State | None = None) -> tuple[list[np.ndarray], State]:
    """What a stream that reads these pieces one after the other gets by itself, all logits, and its last state."""
    state, logits = start or predictor.initial_state(1), []
    for piece in pieces:
        found, state = predictor.step([piece], state)
        logits.append(found[0])
    return logits, state


def same(first: State, second: State) -> bool:
    return all(np.array_equal(ours, theirs) for ours, theirs in zip(first.tensors, second.tensors, strict=True))


def draw(predictor: Predictor, seed: int, count: int) -> list[list[int]]:
    random = np.random.default_rng(seed)
    return [random.integers(0, len(predictor.vocabulary), random.integers(1, 5)).tolist() for _ in range(count)]


@pytest.mark.parametrize("linger_seconds", [0.0, 0.002])
def test_many_threads_get_to_the_bit_what_each_stream_gets_alone(predictor: Predictor, linger_seconds: float) -> None:
    def read(pool: StreamPool, seed: int) -> None:
        pieces = draw(predictor, seed, 30)
        expected, end = alone(predictor, pieces)
        stream = pool.open_stream()
        for index, (piece, logits) in enumerate(zip(pieces, expected, strict=True)):
            kept = None if index % 3 == 0 else 1
            found = pool.step(stream, piece, logits_to_keep=kept, timeout_seconds=PATIENCE_SECONDS)
            assert found.dtype == np.float32
            assert np.array_equal(found, logits if kept is None else logits[-1:])
        assert same(pool.state(stream), end)

    options = PoolOptions(max_streams=24, max_batch=7, linger_seconds=linger_seconds)
    with StreamPool(predictor, options) as pool, ThreadPoolExecutor(24) as threads:
        for done in [threads.submit(read, pool, seed) for seed in range(24)]:
            done.result()
        stats = pool.stats
        assert (stats.open_streams, stats.waiting, stats.requests) == (24, 0, 24 * 30)
        assert stats.calls < stats.requests  # some ran together
    assert pool.stats.state_bytes == 0


def test_requests_of_one_kind_run_together_and_padded(held: tuple[StreamPool, Gate], predictor: Predictor) -> None:
    pool, gate = held
    streams = [pool.open_stream() for _ in range(5)]
    first = pool.submit(streams[0], [1])
    gate.wait_for_a_call()
    rest = [pool.submit(streams[1], [2, 3])] + [pool.submit(stream, [4]) for stream in streams[2:]]
    gate.open()
    assert np.array_equal(rest[0].result(), alone(predictor, [[2, 3]])[0][0][-1:])
    for request in rest[1:]:
        assert np.array_equal(request.result(), alone(predictor, [[4]])[0][0])
    assert first.done()
    assert gate.sizes == [(1, 1), (1, 2), (3, 1)]
    assert PoolOptions(max_batch=26).batch_sizes == (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 26)
    assert PoolOptions(max_batch=26).padded(9) == 10


def test_rows_that_pad_a_batch_change_nothing(predictor: Predictor) -> None:
    with StreamPool(predictor, PoolOptions(max_streams=9, max_batch=9, linger_seconds=PATIENCE_SECONDS)) as pool:
        pieces = [draw(predictor, seed, 1)[0][:1] for seed in range(9)]
        streams = [pool.open_stream() for _ in pieces]
        for _ in range(2):  # the second time the rows that padded the first are there again
            found = [pool.submit(stream, piece) for stream, piece in zip(streams, pieces, strict=True)]
            assert not wait(found, PATIENCE_SECONDS).not_done
        for stream, piece, logits in zip(streams, pieces, found, strict=True):
            expected, end = alone(predictor, [piece, piece])
            assert np.array_equal(logits.result(), expected[1])
            assert same(pool.state(stream), end)
        assert pool.stats.padding == 0
    with StreamPool(predictor, PoolOptions(max_batch=16, max_waiting=9, linger_seconds=0.2)) as pool:
        found = [pool.submit(pool.open_stream(), piece) for piece in pieces]
        for piece, logits in zip(pieces, found, strict=True):
            assert np.array_equal(logits.result(), alone(predictor, [piece])[0][0])


def test_a_call_has_bounded_tokens_but_any_request_comes_through(own: Predictor, predictor: Predictor) -> None:
    options = PoolOptions(max_batch=8, max_tokens=8, linger_seconds=PATIENCE_SECONDS)
    with StreamPool(own, options) as pool:
        piece = [1, 2, 3]
        requests = [pool.submit(pool.open_stream(), piece) for _ in range(6)]
        for request in requests:  # two at a time fill a call
            assert np.array_equal(request.result(PATIENCE_SECONDS), alone(predictor, [piece])[0][0][-1:])
        assert pool.stats.calls == 3
        stream = pool.open_stream()
        with pytest.raises(TokenError, match="has 9 tokens, expected 1 to 8"):
            pool.submit(stream, [0] * 9)
        assert pool.step(stream, [0] * 8).shape == (1, len(own.vocabulary))


def test_an_artifact_that_is_not_batch_invariant_is_refused_unless_allowed(int8_predictor: Predictor) -> None:
    with pytest.raises(PoolError, match="the int8 artifact would .* it is not batch-invariant; use another precision"):
        StreamPool(int8_predictor)
    with StreamPool(int8_predictor, PoolOptions(allow_inexact=True)) as pool:
        found = pool.step(pool.open_stream(), [1, 2])
    np.testing.assert_allclose(found, alone(int8_predictor, [[1, 2]])[0][0][-1:], atol=1e-6)


def test_an_artifact_that_is_wrongly_called_batch_invariant_is_found_out(
    own: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = own.step

    def depends_on_neighbours(token_ids: Any, state: State, **options: Any) -> Any:
        logits, after = step(token_ids, state, **options)
        return (np.nextafter(logits, np.float32(9)) if len(token_ids) == 5 else logits), after

    monkeypatch.setattr(own, "step", depends_on_neighbours)
    with pytest.raises(PoolError, match="alone and in row 0 of a batch of 5, 1 of 3 logits kept"):
        StreamPool(own, PoolOptions(max_batch=8))
    StreamPool(own, PoolOptions(max_batch=4)).close()


def test_too_many_requests_are_refused_and_nothing_is_lost(held: tuple[StreamPool, Gate], predictor: Predictor) -> None:
    pool, gate = held
    streams = [pool.open_stream() for _ in range(6)]
    running = pool.submit(streams[0], [1])
    gate.wait_for_a_call()
    waiting = [pool.submit(stream, [2]) for stream in streams[1:5]]
    for _ in range(3):
        with pytest.raises(BusyError, match="4 requests wait, as many as may"):
            pool.submit(streams[5], [3])
    assert pool.stats.waiting == 4
    gate.open()
    assert not wait([running, *waiting], PATIENCE_SECONDS).not_done
    assert np.array_equal(pool.step(streams[5], [3]), alone(predictor, [[3]])[0][0])
    for stream in streams[1:5]:
        assert np.array_equal(pool.step(stream, [3]), alone(predictor, [[2], [3]])[0][1])


def test_too_many_streams_are_refused(pool: StreamPool) -> None:
    streams = [pool.open_stream() for _ in range(50)]
    with pytest.raises(BusyError, match="50 streams are open"):
        pool.open_stream()
    pool.close_stream(streams[7])
    assert pool.open_stream() not in streams


def test_cancelling_frees_the_place_and_leaves_the_state(held: tuple[StreamPool, Gate], predictor: Predictor) -> None:
    pool, gate = held
    streams = [pool.open_stream() for _ in range(5)]
    gate.let_pass()
    pool.step(streams[1], [5])
    gate.wait_for_a_call()
    running = pool.submit(streams[0], [1])
    gate.wait_for_a_call()
    for _ in range(100):  # far more than may wait at once
        request = pool.submit(streams[1], [2])
        assert request.cancel()
        assert request.cancel()
        with pytest.raises(CancelledError):
            request.result()
        assert not wait([request], PATIENCE_SECONDS).not_done
    assert pool.stats.waiting == 0
    assert not running.cancel()
    gate.open()
    assert same(pool.state(streams[1]), alone(predictor, [[5]])[1])
    assert np.array_equal(pool.step(streams[1], [3]), alone(predictor, [[5], [3]])[0][1])
    assert np.array_equal(running.result(), alone(predictor, [[1]])[0][0])


def test_a_request_that_waits_too_long_ends_and_leaves_the_state(
    held: tuple[StreamPool, Gate], predictor: Predictor
) -> None:
    pool, gate = held
    patient, hasty = pool.open_stream(), pool.open_stream()
    running = pool.submit(patient, [1])
    gate.wait_for_a_call()
    late = pool.submit(hasty, [2], timeout_seconds=1e-9)
    gate.open()
    with pytest.raises(RequestTimeoutError, match="waited longer than its timeout_seconds"):
        late.result(PATIENCE_SECONDS)
    assert isinstance(late.exception(), TimeoutError)
    assert np.array_equal(pool.step(hasty, [3]), alone(predictor, [[3]])[0][0])
    assert np.array_equal(running.result(), alone(predictor, [[1]])[0][0])


def test_a_time_out_ends_lingering(predictor: Predictor) -> None:
    with StreamPool(predictor, PoolOptions(linger_seconds=PATIENCE_SECONDS)) as pool:
        stream = pool.open_stream()
        with pytest.raises(RequestTimeoutError):
            pool.step(stream, [1], timeout_seconds=0.01)
        assert same(pool.state(stream), predictor.initial_state(1))


def test_a_stream_has_one_request_at_a_time(held: tuple[StreamPool, Gate]) -> None:
    pool, gate = held
    stream = pool.open_stream()
    request = pool.submit(stream, [1])
    gate.wait_for_a_call()
    for use in (lambda: pool.submit(stream, [2]), lambda: pool.step(stream, [2]), lambda: pool.state(stream)):
        with pytest.raises(PoolError, match=f"stream {stream} has a request already"):
            use()
    gate.open()
    request.result()
    pool.step(stream, [2])


def test_a_slot_that_is_used_again_begins_at_zero(predictor: Predictor) -> None:
    with StreamPool(predictor, PoolOptions(max_streams=1)) as pool:
        old = pool.open_stream()
        pool.step(old, [1, 2, 3])
        pool.close_stream(old)
        new = pool.open_stream()
        assert same(pool.state(new), predictor.initial_state(1))
        assert np.array_equal(pool.step(new, [4]), alone(predictor, [[4]])[0][0])
        uses: list[Callable[[], object]] = [
            lambda: pool.step(old, [1]),
            lambda: pool.state(old),
            lambda: pool.close_stream(old),
            lambda: pool.step(new + 1, [1]),
            lambda: pool.step(-1, [1]),
            lambda: pool.step("1", [1]),  # type: ignore[arg-type]
        ]
        for use in uses:
            with pytest.raises(PoolError, match="is no open stream of this pool"):
                use()
        assert pool.stats.open_streams == 1


def test_closing_a_stream_ends_what_waits_and_answers_what_runs(
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


@pytest.mark.parametrize(
    ("tokens", "options", "kind", "message"),
    [
        ([1, -1], {}, TokenError, "token id -1 is outside"),
        ([10_000], {}, TokenError, "token id 10000 is outside"),
        ([0.5], {}, TokenError, "type float64"),
        ([[1]], {}, TokenError, r"the shape \[1, 1\]"),
        ([], {}, TokenError, "has 0 tokens, expected 1 to 512"),
        ([1] * 513, {}, TokenError, "has 513 tokens"),
        ([1], {"logits_to_keep": 0}, OptionError, "logits_to_keep is 0, expected 1 to the 1"),
        ([1], {"logits_to_keep": 2}, OptionError, "logits_to_keep is 2"),
        ([1], {"timeout_seconds": 0}, OptionError, "timeout_seconds is 0, expected more"),
        ([1], {"timeout_seconds": -1.0}, OptionError, "timeout_seconds is -1"),
        ([1], {"timeout_seconds": float("nan")}, OptionError, "timeout_seconds is nan"),
    ],
)
def test_a_bad_request_is_refused_at_once_and_disturbs_nobody(
    held: tuple[StreamPool, Gate],
    predictor: Predictor,
    tokens: list[int],
    options: dict[str, Any],
    kind: type[Exception],
    message: str,
) -> None:
    pool, gate = held
    good, bad = pool.open_stream(), pool.open_stream()
    request = pool.submit(good, [1])
    with pytest.raises(kind, match=message):
        pool.submit(bad, tokens, **options)
    gate.open()
    assert np.array_equal(request.result(), alone(predictor, [[1]])[0][0])
    assert np.array_equal(pool.step(bad, [2]), alone(predictor, [[2]])[0][0])


def test_tokens_may_be_changed_once_they_are_submitted(held: tuple[StreamPool, Gate], predictor: Predictor) -> None:
    pool, gate = held
    tokens = np.array([1, 2])
    request = pool.submit(pool.open_stream(), tokens)
    tokens[:] = 10_000
    gate.open()
    assert np.array_equal(request.result(), alone(predictor, [[1, 2]])[0][0][-1:])


def test_a_failing_call_reaches_everybody_and_the_pool_lives_on(
    own: Predictor, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with StreamPool(own, PoolOptions(max_batch=4, linger_seconds=PATIENCE_SECONDS)) as pool:
        streams = [pool.open_stream() for _ in range(4)]

        def all_read(token: int) -> list[Any]:
            requests = [pool.submit(stream, [token]) for stream in streams]
            assert not wait(requests, PATIENCE_SECONDS).not_done
            return requests

        all_read(1)
        with monkeypatch.context() as broken:
            broken.setattr(own, "step", lambda *_, **__: 1 // 0)
            errors = [request.exception() for request in all_read(2)]
        assert len({id(error) for error in errors}) == 4
        for error in errors:
            assert isinstance(error, PoolError)
            assert "the call for 4 streams failed: integer division" in str(error)
            assert isinstance(error.__cause__, ZeroDivisionError)
        for request in all_read(3):
            assert np.array_equal(request.result(), alone(predictor, [[1], [3]])[0][1])


def test_closing_runs_what_waits(own: Predictor, predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = StreamPool(own, PoolOptions(linger_seconds=PATIENCE_SECONDS))
    requests = [pool.submit(pool.open_stream(), [token]) for token in range(3)]
    pool.close()
    for token, request in enumerate(requests):
        assert np.array_equal(request.result(0), alone(predictor, [[token]])[0][0])
    for use in (pool.open_stream, lambda: pool.submit(1, [1]), lambda: pool.state(1), lambda: pool.close_stream(1)):
        with pytest.raises(PoolError, match="the pool is closed"):
            use()
    pool.close()


def test_closing_can_end_what_waits(predictor: Predictor) -> None:
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


def test_what_is_called_when_a_request_is_done_may_use_the_pool(pool: StreamPool, predictor: Predictor) -> None:
    stream, ended = pool.open_stream(), threading.Event()
    found: list[Any] = []

    def go_on(_: object) -> None:
        with pytest.raises(PoolError, match="would wait for itself"):
            pool.step(stream, [2])
        request = pool.submit(stream, [2])
        request.add_done_callback(lambda done: (found.append(done.result()), ended.set()))

    pool.submit(stream, [1]).add_done_callback(go_on)
    assert ended.wait(PATIENCE_SECONDS)
    assert np.array_equal(found[0], alone(predictor, [[1], [2]])[0][1])


def test_a_state_comes_in_and_goes_out(pool: StreamPool, predictor: Predictor, int8_predictor: Predictor) -> None:
    _, start = predictor.step([[1, 2]], predictor.initial_state(1))
    stream = pool.open_stream(start)
    assert same(pool.state(stream), start)
    pool.step(stream, [3])
    fork = pool.open_stream(State.from_bytes(pool.state(stream).to_bytes()))
    expected = alone(predictor, [[3], [4]], start)[0][1]
    assert np.array_equal(pool.step(fork, [4]), expected)
    assert np.array_equal(pool.step(stream, [4]), expected)
    opened = pool.stats.open_streams
    with pytest.raises(StateError, match="1 tokens that no step has run yet"):
        pool.open_stream(predictor.stream().state)
    cached = predictor.stream(predictor.initial_state(1), cache=CacheOptions())
    cached.feed("the cat")
    with pytest.raises(StateError, match="a stream's cache of [0-9]+ pairs, which a pool would not read"):
        pool.open_stream(replace(cached.state, pending=np.zeros((1, 0), np.int64)))
    with pytest.raises(StateError, match="belongs to the model"):
        pool.open_stream(int8_predictor.initial_state(1))
    with pytest.raises(StateError, match=r"expected float32 \[1, 7\]"):
        pool.open_stream(predictor.initial_state(2))
    assert pool.stats.open_streams == opened


def test_asyncio_tasks_get_to_the_bit_what_each_stream_gets_alone(predictor: Predictor) -> None:
    async def read(pool: StreamPool, seed: int) -> None:
        pieces = draw(predictor, seed, 10)
        stream = pool.open_stream()
        for piece, logits in zip(pieces, alone(predictor, pieces)[0], strict=True):
            assert np.array_equal(await pool.step_async(stream, piece), logits[-1:])

    async def read_all(pool: StreamPool) -> None:
        await asyncio.gather(*(read(pool, seed) for seed in range(20)))

    with StreamPool(predictor, PoolOptions(max_batch=16)) as pool:
        asyncio.run(read_all(pool))
        assert pool.stats.requests == 200


def test_a_cancelled_task_takes_its_request_back(held: tuple[StreamPool, Gate], predictor: Predictor) -> None:
    pool, gate = held
    first, second = pool.open_stream(), pool.open_stream()

    async def give_up() -> None:
        running = asyncio.ensure_future(pool.step_async(first, [1]))
        await asyncio.to_thread(gate.wait_for_a_call)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pool.step_async(second, [2]), 0.01)
        assert pool.stats.waiting == 0
        gate.open()
        assert np.array_equal(await running, alone(predictor, [[1]])[0][0])
        with pytest.raises(PoolError, match="is no open stream"):
            await pool.step_async(12345, [1])

    asyncio.run(give_up())
    assert same(pool.state(second), predictor.initial_state(1))


def test_a_storm_of_cancellations_time_outs_and_refusals_loses_no_request(predictor: Predictor) -> None:
    """Each thread knows what its stream has read; at the end its state is that, whatever happened in between."""
    outcomes = {"done": 0, "given up": 0}

    def read(pool: StreamPool, seed: int) -> None:
        random, read = np.random.default_rng(seed), []
        stream = pool.open_stream()
        for piece in draw(predictor, seed, 40):
            with contextlib.suppress(BusyError):
                request = pool.submit(stream, piece, timeout_seconds=float(random.choice([1e-9, 0.002, 60.0])))
                if random.random() < 0.3:
                    request.cancel()
                with contextlib.suppress(RequestTimeoutError, CancelledError):
                    request.result(PATIENCE_SECONDS)
                    read.append(piece)
        outcomes["done"] += len(read)
        outcomes["given up"] += 40 - len(read)
        assert same(pool.state(stream), alone(predictor, read)[1])

    with StreamPool(predictor, PoolOptions(max_waiting=6, max_batch=4)) as pool, ThreadPoolExecutor(12) as threads:
        for done in [threads.submit(read, pool, seed) for seed in range(12)]:
            done.result()
        assert min(outcomes.values()) > 0
        assert (pool.stats.waiting, pool.stats.open_streams) == (0, 12)


def test_results_are_freed_with_their_requests(pool: StreamPool) -> None:
    """No cycle holds a call's logits until the next garbage collection."""
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_streams": 0}, "max_streams is 0"),
        ({"max_streams": 2**33}, "max_streams is 8,589,934,592, expected"),
        ({"max_waiting": 0}, "max_waiting is 0"),
        ({"max_batch": 0}, "max_batch is 0"),
        ({"max_batch": 600}, "max_tokens is 512, expected max_batch, 600, or more"),
        ({"linger_seconds": -1.0}, "linger_seconds is -1"),
        ({"linger_seconds": float("nan")}, "linger_seconds is nan"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        PoolOptions(**options)


def test_streams_take_memory_only_where_they_are(predictor: Predictor) -> None:
    with StreamPool(predictor, PoolOptions(max_streams=1_000_000)) as pool:
        pool.step(pool.open_stream(), [1])
        assert pool.stats.reserved_bytes >= 1_000_000 * 4 * (7 + 3 + 7 + 3)
        assert pool.stats.state_bytes == 4 * (7 + 3 + 7 + 3)


def test_more_streams_than_memory_are_refused(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("lmtool.runtime.slots.np.zeros", no_memory)
    with pytest.raises(PoolError, match="the states of 100,000 streams, 80 bytes each, do not fit into memory"):
        StreamPool(predictor, PoolOptions(allow_inexact=True))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_is_told_to_make_its_own(artifact_path: Path) -> None:
    code = (
        "import os, sys; from lmtool.runtime import PoolError, Predictor, StreamPool\n"
        "pool = StreamPool(Predictor.load(sys.argv[1])); stream = pool.open_stream()\n"
        "uses = [pool.open_stream, lambda: pool.step(stream, [1]), lambda: pool.close_stream(stream), pool.close]\n"
        "if os.fork() == 0:\n"
        "    for use in uses:\n"
        "        try: use()\n"
        "        except PoolError as error: print(error)\n"
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
