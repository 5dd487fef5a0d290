"""Long runs of a stream or a pool in a separate process, to measure its memory.

`python soak.py WHAT MODEL AMOUNT [leak] [drift]`:
WHAT is `stream`, which reads AMOUNT tokens in one stream, or `pool`, which opens and closes streams for AMOUNT seconds.
Prints one JSON object with the growth of memory after the warm-up. For positive controls, `leak` keeps objects that
should be freed, and `drift` changes the stream's state a little before its end.
"""

import json
import os
import random
import sys
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from lmtool.runtime import PoolOptions, Predictor, State, Stream, StreamPool
from numpy.typing import NDArray

WARM_UP = 0.1
SAMPLES = 200
REPLAYED = 1000
DRIFT = 1e-3


@dataclass(frozen=True)
class Faults:
    """Injected faults.

    Attributes:
        leaks: Whether to keep objects that should be freed.
        drifts: Whether to add `DRIFT` to a stream's state near its end.
        kept: The kept objects.
    """

    leaks: bool = False
    drifts: bool = False
    kept: list[Any] = field(default_factory=list)


class Memory:
    """The resident memory of a run, after the warm-up and at the end."""

    def __init__(self) -> None:
        self._samples: list[tuple[float, int]] = []

    def sample(self, done: float) -> None:
        """Record the memory, at most `SAMPLES` times; `done` is the completed share of the run."""
        if not self._samples or done >= self._samples[-1][0] + 1 / SAMPLES:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self._samples.append((done, pages * os.sysconf("SC_PAGE_SIZE")))

    def to_json(self) -> dict[str, float]:
        after = [size for done, size in self._samples if done >= WARM_UP]
        tenth = max(len(after) // 10, 1)
        before, end = float(np.median(after[:tenth])), float(np.median(after[-tenth:]))
        return {"before_mb": before / 1e6, "end_mb": end / 1e6, "growth": end / before - 1}


def live_as_stream(model: str, tokens: int, faults: Faults) -> dict[str, Any]:
    """Feed chunks of random sizes, predict sometimes, and replay the end from a saved state.

    The replay uses a new session and a new stream, and begins with the state of `REPLAYED` tokens before the end. Each
    token's log-probability is compared.
    """
    predictor, memory, draw = Predictor.load(model), Memory(), np.random.default_rng(0)
    stream, read = predictor.stream(), 0
    while read < tokens - REPLAYED:
        count = min(int(draw.integers(1, 64)), tokens - REPLAYED - read)
        stream.feed_ids(draw.integers(0, len(predictor.vocabulary), count))
        if draw.random() < 0.2:
            stream.suggest(3)
        if faults.leaks:
            faults.kept.append((stream.state, np.zeros(2000)))
        read += count
        memory.sample(read / tokens)
    stream.logits()
    stream.feed_ids([0])  # so that the state holds all tokens but this one
    saved, last = stream.state.to_bytes(), draw.integers(0, len(predictor.vocabulary), REPLAYED)
    if faults.drifts:
        stream = predictor.stream(state=_drifted(stream.state))
    lived, replayed = (
        _log_probs(one, last) for one in (stream, Predictor.load(model).stream(state=State.from_bytes(saved)))
    )
    return {**memory.to_json(), "compared": len(replayed), "drift": float(np.abs(lived - replayed).max())}


def _log_probs(stream: Stream, token_ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """Log-probability of each token, read one by one, given those before it."""
    log_probs = []
    for token in token_ids:
        logits = stream.logits().astype(np.float64).reshape(-1)
        log_probs.append(logits[token] - logits.max() - np.log(np.exp(logits - logits.max()).sum()))
        stream.feed_ids([token])
    return np.array(log_probs)


def _drifted(state: State) -> State:
    return replace(state, tensors=tuple(tensor + np.float32(DRIFT) for tensor in state.tensors))


class Users:
    """Users of a pool: each opens a stream, reads a few words and closes it; one in a hundred checks its logits."""

    def __init__(self, predictor: Predictor, pool: StreamPool, end: float, faults: Faults) -> None:
        self.counts = {"streams": 0, "wrong": 0, "compared": 0}
        self._predictor, self._pool, self._end, self._faults = predictor, pool, end, faults
        self._lock = threading.Lock()

    def live(self, seed: int) -> None:
        """Run users, one after the other, until the end."""
        draw = random.Random(seed)
        while time.monotonic() < self._end:
            self._be_one(draw)
            time.sleep(0.001)  # leave time for other work on the machine

    def _be_one(self, draw: random.Random) -> None:
        stream = self._pool.open_stream()
        size = len(self._predictor.vocabulary)
        texts = [[draw.randrange(size) for _ in range(draw.randint(1, 9))] for _ in range(3)]
        for tokens in texts:
            logits = self._pool.step(stream, tokens)
        if draw.random() < 0.1:
            self._pool.state(stream)
        self._pool.close_stream(stream)
        compared = draw.random() < 0.01
        wrong = compared and not np.array_equal(logits, _alone(self._predictor, texts))
        if self._faults.leaks:
            self._faults.kept.append(np.ones(20_000))
        with self._lock:
            self.counts["streams"] += 1
            self.counts["compared"] += compared
            self.counts["wrong"] += wrong


def live_as_pool(model: str, seconds: float, faults: Faults) -> dict[str, Any]:
    """Let four users at a time use a pool."""
    predictor, memory, end = Predictor.load(model), Memory(), time.monotonic() + seconds
    with StreamPool(predictor, PoolOptions(max_streams=500, max_batch=16)) as pool:
        users = Users(predictor, pool, end, faults)
        threads = [threading.Thread(target=users.live, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        while (left := end - time.monotonic()) > 0:
            memory.sample(1 - left / seconds)
            time.sleep(min(seconds / SAMPLES, left))
        for thread in threads:
            thread.join()
        return {**memory.to_json(), **users.counts, "still_open": pool.stats.open_streams}


def _alone(predictor: Predictor, texts: list[list[int]]) -> Any:
    state = predictor.initial_state(1)
    for tokens in texts:
        logits, state = predictor.step([tokens], state, logits_to_keep=1)
    return logits[0]


if __name__ == "__main__":
    what, model, amount, *flags = sys.argv[1:]
    planted = Faults(leaks="leak" in flags, drifts="drift" in flags)
    if what == "stream":
        sys.stdout.write(json.dumps(live_as_stream(model, int(amount), planted)))
    else:
        sys.stdout.write(json.dumps(live_as_pool(model, float(amount), planted)))
