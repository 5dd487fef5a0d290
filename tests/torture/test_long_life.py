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
pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")


def run_soak(what: str, model: Path, amount: float, *flags: str) -> dict[str, Any]:
    command = [sys.executable, soak.__file__, what, str(model), str(amount), *flags]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(finished.stdout)
    return result


def test_a_stream_of_millions_of_tokens_keeps_its_memory_and_does_not_drift(
    artifact_path: Path, many: Many, tally: Tally
) -> None:
    tokens = many(40_000, 10_000_000)
    result = run_soak("stream", artifact_path, tokens)
    assert result["growth"] < GROWTH, result
    assert (result["compared"], result["drift"]) == (1000, 0)
    drifting = run_soak("stream", artifact_path, 5000, "drift")
    assert drifting["drift"] > 0, drifting
    leaking = run_soak("stream", artifact_path, 30_000, "leak")
    assert leaking["growth"] > GROWTH, leaking
    tally(
        PROMISE,
        tried=tokens,
        what="tokens in one stream",
        memory_growth=f"{result['growth']:+.2%}",
        largest_difference_of_1000_log_probabilities_replayed=result["drift"],
        control=f"states that are kept: {leaking['growth']:+.0%}; a state off by 0.001: {drifting['drift']:.1e}",
    )


def test_a_pool_with_changing_users_keeps_its_memory(artifact_path: Path, many: Many, tally: Tally) -> None:
    seconds = many(2, 1200)
    result = run_soak("pool", artifact_path, seconds)
    assert result["growth"] < GROWTH, result
    assert result["streams"] > 100 * seconds / 4
    assert result["compared"] > 0
    assert (result["wrong"], result["still_open"]) == (0, 0)
    leaking = run_soak("pool", artifact_path, 1, "leak")
    assert leaking["growth"] > GROWTH, leaking
    tally(
        PROMISE,
        tried=result["streams"],
        what=f"streams of a pool in {seconds} s",
        memory_growth=f"{result['growth']:+.2%}",
        wrong_of_compared=f"{result['wrong']} of {result['compared']}",
        control=f"results that are kept: {leaking['growth']:+.0%}",
    )
