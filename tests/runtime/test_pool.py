"""StreamPool: each stream gets the logits that it would get alone."""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lmtool.runtime import (
    BusyError,
    CacheOptions,
    PoolError,
    PoolOptions,
    Predictor,
    RequestTimeoutError,
    State,
    StateError,
    StreamPool,
)
from support.pools import PATIENCE_SECONDS, Gate, alone, draw, same


@pytest.mark.parametrize("linger_seconds", [0.0, 0.002])
def test_many_threads_get_to_the_bit_what_each_stream_gets_alone(predictor: Predictor, linger_seconds: float) -> None:
    def read(pool: StreamPool, seed: int) -> None:
        pieces = draw(predictor, seed, 30)
        expected, end = alone(predictor, pieces)
        stream = pool.open_stream()
        for index, (piece, logits) in enumerate(zip(pieces, expected, strict=True)):
            kept = None if index % 3 == 0 else 1
            actual = pool.step(stream, piece, logits_to_keep=kept, timeout_seconds=PATIENCE_SECONDS)
            assert actual.dtype == np.float32
            assert np.array_equal(actual, logits if kept is None else logits[-1:])
        assert same(pool.state(stream), end)

    options = PoolOptions(max_streams=24, max_batch=7, linger_seconds=linger_seconds)
    with StreamPool(predictor, options) as pool, ThreadPoolExecutor(24) as threads:
        for done in [threads.submit(read, pool, seed) for seed in range(24)]:
            done.result()
        stats = pool.stats
        assert (stats.open_streams, stats.waiting, stats.requests) == (24, 0, 24 * 30)
        assert stats.calls < stats.requests  # some ran together
    assert pool.stats.state_bytes == 0


def test_requests_of_one_shape_share_a_padded_call(held: tuple[StreamPool, Gate], predictor: Predictor) -> None:
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
    assert PoolOptions(max_batch=26).padded_size(9) == 10


def test_rows_that_pad_a_batch_change_nothing(predictor: Predictor) -> None:
    with StreamPool(predictor, PoolOptions(max_streams=9, max_batch=9, linger_seconds=PATIENCE_SECONDS)) as pool:
        pieces = [draw(predictor, seed, 1)[0][:1] for seed in range(9)]
        streams = [pool.open_stream() for _ in pieces]
        for _ in range(2):  # the second time the rows that padded the first are there again
            requests = [pool.submit(stream, piece) for stream, piece in zip(streams, pieces, strict=True)]
            assert not wait(requests, PATIENCE_SECONDS).not_done
        for stream, piece, logits in zip(streams, pieces, requests, strict=True):
            expected, end = alone(predictor, [piece, piece])
            assert np.array_equal(logits.result(), expected[1])
            assert same(pool.state(stream), end)
        assert pool.stats.padding == 0
    with StreamPool(predictor, PoolOptions(max_batch=16, max_waiting=9, linger_seconds=0.2)) as pool:
        requests = [pool.submit(pool.open_stream(), piece) for piece in pieces]
        for piece, logits in zip(pieces, requests, strict=True):
            assert np.array_equal(logits.result(), alone(predictor, [piece])[0][0])


def test_an_artifact_that_is_not_batch_invariant_is_refused_unless_allowed(dynamic_int8_path: Path) -> None:
    dynamic = Predictor.load(dynamic_int8_path)
    refusal = "the int8 artifact would .* it is not batch-invariant; this int8 is of an earlier version: export again"
    with pytest.raises(PoolError, match=refusal):
        StreamPool(dynamic)
    with StreamPool(dynamic, PoolOptions(allow_inexact=True)) as pool:
        actual = pool.step(pool.open_stream(), [1, 2])
    np.testing.assert_allclose(actual, alone(dynamic, [[1, 2]])[0][0][-1:], atol=1e-6)


def test_an_artifact_that_is_wrongly_called_batch_invariant_is_refused(
    own_predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = own_predictor.step

    def depends_on_neighbours(token_ids: Any, state: State, **options: Any) -> Any:
        logits, after = step(token_ids, state, **options)
        return (np.nextafter(logits, np.float32(9)) if len(token_ids) == 5 else logits), after

    monkeypatch.setattr(own_predictor, "step", depends_on_neighbours)
    for provider, advice in (("cpu", "use int8, which is"), ("cuda", "on cuda any precision may .*: run int8 or fp32")):
        own_predictor.provider = provider
        with pytest.raises(PoolError, match=f"in row 0 of a batch of 5, 1 of 3 logits kept, .*; {advice}"):
            StreamPool(own_predictor, PoolOptions(max_batch=8))
    StreamPool(own_predictor, PoolOptions(max_batch=4)).close()


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
    with pytest.raises(StateError, match="1 token that no step has run yet"):
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


def test_a_cancelled_task_withdraws_its_request(held: tuple[StreamPool, Gate], predictor: Predictor) -> None:
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


def test_many_cancellations_time_outs_and_refusals_lose_no_request(predictor: Predictor) -> None:
    """Each thread records what its stream has read; the final state must match."""
    outcomes = {"done": 0, "withdrawn": 0}

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
        outcomes["withdrawn"] += 40 - len(read)
        assert same(pool.state(stream), alone(predictor, read)[1])

    with StreamPool(predictor, PoolOptions(max_waiting=6, max_batch=4)) as pool, ThreadPoolExecutor(12) as threads:
        for done in [threads.submit(read, pool, seed) for seed in range(12)]:
            done.result()
        assert min(outcomes.values()) > 0
        assert (pool.stats.waiting, pool.stats.open_streams) == (0, 12)


def test_tokens_may_be_changed_once_they_are_submitted(held: tuple[StreamPool, Gate], predictor: Predictor) -> None:
    pool, gate = held
    tokens = np.array([1, 2])
    request = pool.submit(pool.open_stream(), tokens)
    tokens[:] = 10_000
    gate.open()
    assert np.array_equal(request.result(), alone(predictor, [[1, 2]])[0][0][-1:])


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
