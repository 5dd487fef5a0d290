"""Threads and forks: a predictor serves many threads, a stream has one owner, objects refuse use after a fork."""

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lmtool.runtime import OwnerError, Predictor, State, Stream
from lmtool.runtime.network import Network
from support.scale import Many, Tally

PROMISE = "Threads and forks"
THREADS = 8

FORKS = """
import os, sys
from lmtool.runtime import ForkError, PoolOptions, Predictor, State, StreamPool

model, forks, expected = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
predictor = Predictor.load(model)
stream, pool = predictor.stream(), StreamPool(predictor, PoolOptions(max_streams=10))
stream.feed("the cat")
number = pool.open_stream()
pool.step(number, [1])
uses = [
    lambda: predictor.step([[1]], predictor.initial_state(1)),
    lambda: predictor.score("the cat"),
    lambda: stream.suggest(3),
    lambda: next(stream.generate(3)),
    lambda: pool.step(number, [2]),
    lambda: pool.open_stream(),
    lambda: pool.close(),
]
def refused(use):
    try:
        use()
    except ForkError as error:
        return "after the fork" in str(error)
    return False
good = 0
for _ in range(forks):
    child = os.fork()
    if child == 0:
        fine = all(refused(use) for use in uses) and Predictor.load(model).score("the cat").log_prob == expected
        os._exit(0 if fine else 1)
    good += os.waitpid(child, 0)[1] == 0
    pool.step(number, [3])
print(good, predictor.score("the cat").log_prob == expected)
"""


def digest(predictor: Predictor, seed: int, steps: int, box: list[State] | None = None) -> str:
    """Hash of the logits of random tokens; with a `box` the state is kept there, where other threads may change it."""
    draw, sha256 = np.random.default_rng(seed), hashlib.sha256()
    state = predictor.initial_state(1)
    for token in draw.integers(0, len(predictor.vocabulary), steps):
        logits, state = predictor.step([[token]], state if box is None else box[0])
        if box is not None:
            box[0] = state
        sha256.update(logits.tobytes())
    return sha256.hexdigest()


def in_threads(work: Callable[[int], Any]) -> list[Any]:
    results: list[Any] = [None] * THREADS
    start = threading.Barrier(THREADS)

    def run(number: int) -> None:
        start.wait()
        results[number] = work(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_eight_threads_on_one_predictor_get_the_results_of_one(predictor: Predictor, many: Many, tally: Tally) -> None:
    steps = many(300, 10_000)
    alone = [digest(predictor, number, steps) for number in range(THREADS)]
    together = in_threads(lambda number: digest(predictor, number, steps))
    assert together == alone
    box = [predictor.initial_state(1)]
    mixed = in_threads(lambda number: digest(predictor, number, 200, box))
    different = sum(result != digest(predictor, number, 200) for number, result in enumerate(mixed))
    assert different > 0  # positive control: one state for all threads gives other results
    tally(
        PROMISE,
        tried=THREADS * steps,
        what=f"steps of {THREADS} threads on one predictor",
        differences=0,
        control=f"with one state for all: {different} of {THREADS} threads differ",
    )


class SlowNetwork:
    """A network whose calls take long, so that two owners meet."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def run(self, *args: Any) -> Any:
        time.sleep(0.001)
        return self._network.run(*args)


def use_from_several_threads(stream: Stream, ids: list[int]) -> tuple[list[int], int]:
    """Several threads use one stream; the accepted tokens in order, and the number of refused calls."""
    taken: list[int] = []
    refused = 0
    lock = threading.Lock()

    def use(number: int) -> None:
        nonlocal refused
        for token in ids[number::THREADS]:
            try:
                stream.logits()
                with lock:  # records the order of tokens, to replay them
                    stream.feed_ids([token])
                    taken.append(token)
            except OwnerError:
                refused += 1

    in_threads(use)
    return taken, refused


def test_two_owners_of_one_stream_are_refused_and_spoil_nothing(
    predictor: Predictor, many: Many, tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds, refusals = many(3, 100), 0
    draw = np.random.default_rng(5)
    for _ in range(rounds):
        stream = predictor.stream()
        stream._cursor.network = SlowNetwork(predictor.network)  # type: ignore[assignment]
        taken, refused = use_from_several_threads(stream, draw.integers(0, len(predictor.vocabulary), 64).tolist())
        refusals += refused
        stream._cursor.network = predictor.network
        replay = predictor.stream()
        replay.feed_ids(taken)
        np.testing.assert_array_equal(stream.logits(), replay.logits())
    assert refusals > rounds
    tally(PROMISE, tried=rounds, what="streams with eight owners", refused_calls=refusals, spoilt=0)


def test_without_the_lock_two_owners_spoil_a_stream(predictor: Predictor, tally: Tally) -> None:
    """Positive control."""

    class NoLock:
        def acquire(self, blocking: bool = True) -> bool:
            return True

        def release(self) -> None:
            pass

    draw, tried, spoilt = np.random.default_rng(5), 0, False
    while tried < 20 and not spoilt:
        tried += 1
        stream = predictor.stream()
        stream._cursor.network = SlowNetwork(predictor.network)  # type: ignore[assignment]
        stream._lock = NoLock()
        taken, refused = use_from_several_threads(stream, draw.integers(0, len(predictor.vocabulary), 64).tolist())
        assert refused == 0
        stream._cursor.network = predictor.network
        replay = predictor.stream()
        replay.feed_ids(taken)
        spoilt = not np.array_equal(stream.logits(), replay.logits())
    assert spoilt
    tally(PROMISE, tried=tried, control=f"without the lock: stream {tried} of eight owners is spoilt")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_after_a_fork_objects_refuse_use_or_are_recreated(artifact_path: Path, many: Many, tally: Tally) -> None:
    forks = many(3, 200)
    expected = repr(Predictor.load(artifact_path).score("the cat").log_prob)
    command = [sys.executable, "-c", FORKS, str(artifact_path), str(forks), expected]
    finished = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    assert finished.stdout.split() == [str(forks), "True"]
    tally(PROMISE, tried=forks, what="forks", not_refused=0)
