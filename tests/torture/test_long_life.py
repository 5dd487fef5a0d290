"""Long life: memory does not grow, and numbers do not drift."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import soak
from support.scale import Many, Tally

PROMISE = "Long life"
GROWTH = 0.05
pytestmark = pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="the resident set is read as Linux tells it"
)


def live(what: str, model: Path, amount: float, *flags: str) -> dict[str, Any]:
    command = [sys.executable, soak.__file__, what, str(model), str(amount), *flags]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(finished.stdout)
    return found


def test_a_stream_of_millions_of_tokens_keeps_its_memory_and_does_not_drift(
    artifact_path: Path, many: Many, tally: Tally
) -> None:
    tokens = many(40_000, 10_000_000)
    found = live("stream", artifact_path, tokens)
    assert found["growth"] < GROWTH, found
    assert (found["compared"], found["drift"]) == (1000, 0)
    drifting = live("stream", artifact_path, 5000, "drift")
    assert drifting["drift"] > 0, drifting
    leaking = live("stream", artifact_path, 30_000, "leak")
    assert leaking["growth"] > GROWTH, leaking
    tally(
        PROMISE,
        tried=tokens,
        what="tokens in one stream",
        memory_growth=f"{found['growth']:+.2%}",
        largest_difference_of_1000_log_probabilities_replayed=found["drift"],
        control=f"states that are kept: {leaking['growth']:+.0%}; a state off by 0.001: {drifting['drift']:.1e}",
    )


def test_a_pool_with_changing_users_keeps_its_memory(artifact_path: Path, many: Many, tally: Tally) -> None:
    seconds = many(2, 1200)
    found = live("pool", artifact_path, seconds)
    assert found["growth"] < GROWTH, found
    assert found["streams"] > 100 * seconds / 4
    assert found["compared"] > 0
    assert (found["wrong"], found["still_open"]) == (0, 0)
    leaking = live("pool", artifact_path, 1, "leak")
    assert leaking["growth"] > GROWTH, leaking
    tally(
        PROMISE,
        tried=found["streams"],
        what=f"streams of a pool in {seconds} s",
        memory_growth=f"{found['growth']:+.2%}",
        wrong_of_compared=f"{found['wrong']} of {found['compared']}",
        control=f"results that are kept: {leaking['growth']:+.0%}",
    )
