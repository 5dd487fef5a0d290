"""The calls of applications: what they write and type, and the bare calls beside them."""

from typing import Any

import numpy as np
import pytest
from lmtool.bench import Scenario
from lmtool.bench.workers import application_calls as module
from lmtool.bench.workers.application_calls import application_calls
from lmtool.runtime import Predictor


@pytest.mark.parametrize(("form", "tokens"), [("generation:7", 7), ("pool:3x5", 15), ("suggest", 11)])
def test_the_network_reads_as_many_tokens_as_the_call_needs(
    own_predictor: Predictor, monkeypatch: pytest.MonkeyPatch, form: str, tokens: int
) -> None:
    """A line of eleven words has one in progress at its end, and the start of the sentence before it."""
    session, runner, read = own_predictor.session, own_predictor.network._runner, 0

    class Watched:
        def run(self, outputs: Any, feed: dict[str, np.ndarray]) -> Any:
            nonlocal read
            read += feed["token_ids"].size
            return session.run(outputs, feed)

    class WatchedRunner:
        def run(self, token_ids: np.ndarray, *others: Any) -> Any:
            nonlocal read
            read += token_ids.size
            return runner.run(token_ids, *others)

    monkeypatch.setattr(own_predictor, "session", Watched())
    monkeypatch.setattr(own_predictor.network, "_runner", WatchedRunner())
    with application_calls(own_predictor, Scenario.parse(form)) as calls:
        calls.call()
        of_call, read = read, 0
        calls.bare()
    assert of_call == tokens
    assert read == (len(module._LINE) if form == "suggest" else tokens)


def test_rounds_fit_into_the_time(predictor: Predictor) -> None:
    with application_calls(predictor, Scenario.parse("generation:3")) as calls:
        assert calls.bare_seconds() > 0
        assert calls.rounds_within(0.0) == 5
        assert 5 < calls.rounds_within(2.0) <= 1000
