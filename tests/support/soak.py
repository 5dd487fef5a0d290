"""Long lives, each in a process of its own so that its memory is its own: `python soak.py WHAT MODEL AMOUNT [leak]`.

`stream` reads AMOUNT tokens in one stream, `pool` opens and closes streams for AMOUNT seconds. One JSON object on
stdout tells how much memory was added after the warm-up. `leak` keeps what should go, so that one sees it noticed.
"""

import json
import os
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from lmtool.runtime import PoolOptions, Predictor, State, StreamPool

WARM_UP = 0.1
SAMPLES = 200
REPLAYED = 1000


class Memory:
    """The resident set over a life: what it was after the warm-up, and what it is at the end."""

    def __init__(self) -> None:
        self._samples: list[tuple[float, int]] = []

    def sample(self, done: float) -> None:
        """Once in a while; `done` is the share of the life that is over."""
        if not self._samples or done >= self._samples[-1][0] + 1 / SAMPLES:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self._samples.append((done, pages * os.sysconf("SC_PAGE_SIZE")))

    def to_json(self) -> dict[str, float]:
        after = [size for done, size in self._samples if done >= WARM_UP]
        tenth = max(len(after) // 10, 1)
        before, end = float(np.median(after[:tenth])), float(np.median(after[-tenth:]))
        return {"before_mb": before / 1e6, "end_mb": end / 1e6, "growth": end / before - 1}


def live_as_stream(model: str, tokens: int, kept: list[Any] | None) -> dict[str, Any]:
    """Feed chunks of random sizes, predict now and then, and replay the end from a state that was saved before it."""
    predictor, memory, draw = Predictor.load(model), Memory(), np.random.default_rng(0)
    stream, read = predictor.stream(), 0
    while read < tokens - REPLAYED:
        count = min(int(draw.integers(1, 64)), tokens - REPLAYED - read)
        stream.feed_ids(draw.integers(0, len(predictor.vocabulary), count))
        if draw.random() < 0.2:
            stream.suggest(3)
        if kept is not None:
            kept += [stream.state, np.zeros(2000)]
        read += count
        memory.sample(read / tokens)
    saved, last = stream.state.to_bytes(), draw.integers(0, len(predictor.vocabulary), REPLAYED)
    for token in last:
        stream.feed_ids([token])
        logits = stream.logits()
    fresh = Predictor.load(model).stream(state=State.from_bytes(saved))
    fresh.feed_ids(last)
    same = bool(np.array_equal(fresh.logits(), logits))
    return {**memory.to_json(), "replay_is_the_same": same}


def live_as_pool(model: str, seconds: float, kept: list[Any] | None) -> dict[str, Any]:
    """Users who come, read a few words, and go; every hundredth compares what it got with the predictor's."""
    predictor, memory = Predictor.load(model), Memory()
    pool, lock = StreamPool(predictor, PoolOptions(max_streams=500, max_batch=16)), threading.Lock()
    end, counts = time.monotonic() + seconds, {"streams": 0, "wrong": 0, "compared": 0}

    def be_users(seed: int) -> None:
        draw = random.Random(seed)
        while time.monotonic() < end:
            stream = pool.open_stream()
            texts = [[draw.randrange(len(predictor.vocabulary)) for _ in range(draw.randint(1, 9))] for _ in range(3)]
            for tokens in texts:
                logits = pool.step(stream, tokens)
            if draw.random() < 0.1:
                pool.state(stream)
            pool.close_stream(stream)
            compared = draw.random() < 0.01
            wrong = compared and not np.array_equal(logits, _alone(predictor, texts))
            if kept is not None:
                kept.append(np.zeros(2000))
            with lock:
                counts["streams"] += 1
                counts["compared"] += compared
                counts["wrong"] += wrong
            time.sleep(0.001)  # other work on the machine goes on

    users = [threading.Thread(target=be_users, args=(seed,)) for seed in range(4)]
    for user in users:
        user.start()
    while (left := end - time.monotonic()) > 0:
        memory.sample(1 - left / seconds)
        time.sleep(min(seconds / SAMPLES, left))
    for user in users:
        user.join()
    still_open = pool.stats.open_streams
    pool.close()
    return {**memory.to_json(), **counts, "still_open": still_open}


def _alone(predictor: Predictor, texts: list[list[int]]) -> Any:
    state = predictor.initial_state(1)
    for tokens in texts:
        logits, state = predictor.step([tokens], state, logits_to_keep=1)
    return logits[0]


if __name__ == "__main__":
    what, model, amount, *flags = sys.argv[1:]
    kept: list[Any] | None = [] if "leak" in flags else None
    live = live_as_stream(model, int(amount), kept) if what == "stream" else live_as_pool(model, float(amount), kept)
    sys.stdout.write(json.dumps(live))
