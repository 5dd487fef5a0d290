"""StreamPool: limits, refusals, cancellations and time-outs leave streams unchanged."""

from concurrent.futures import CancelledError, wait
from typing import Any

import numpy as np
import pytest
from lmtool.runtime import (
    BusyError,
    OptionError,
    PoolError,
    PoolOptions,
    Predictor,
    RequestTimeoutError,
    StreamPool,
    TokenError,
)
from support.pools import PATIENCE_SECONDS, Gate, alone, same


def test_calls_have_bounded_tokens_and_every_request_runs(own_predictor: Predictor, predictor: Predictor) -> None:
    options = PoolOptions(max_batch=8, max_tokens=8, linger_seconds=PATIENCE_SECONDS)
    with StreamPool(own_predictor, options) as pool:
        piece = [1, 2, 3]
        requests = [pool.submit(pool.open_stream(), piece) for _ in range(6)]
        for request in requests:  # two at a time fill a call
            assert np.array_equal(request.result(PATIENCE_SECONDS), alone(predictor, [piece])[0][0][-1:])
        assert pool.stats.calls == 3
        stream = pool.open_stream()
        with pytest.raises(TokenError, match="has 9 tokens, expected 1 to 8"):
            pool.submit(stream, [0] * 9)
        assert pool.step(stream, [0] * 8).shape == (1, len(own_predictor.vocabulary))


def test_too_many_requests_are_refused_and_nothing_is_lost(held: tuple[StreamPool, Gate], predictor: Predictor) -> None:
    pool, gate = held
    streams = [pool.open_stream() for _ in range(6)]
    running = pool.submit(streams[0], [1])
    gate.wait_for_a_call()
    waiting = [pool.submit(stream, [2]) for stream in streams[1:5]]
    for _ in range(3):
        with pytest.raises(BusyError, match="4 requests wait, which is the limit"):
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


def test_cancelling_frees_the_queue_and_leaves_the_state(held: tuple[StreamPool, Gate], predictor: Predictor) -> None:
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


def test_a_request_that_times_out_leaves_the_state(held: tuple[StreamPool, Gate], predictor: Predictor) -> None:
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
def test_a_bad_request_is_refused_at_once_and_leaves_others_unchanged(
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
