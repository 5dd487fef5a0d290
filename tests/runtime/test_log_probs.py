"""Log-probabilities of target tokens: exact, the same bits in any block, NaN and infinity kept."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from lmtool.runtime.session import log_probs as module
from lmtool.runtime.session.log_probs import LogProbs
from lmtool.runtime.session.providers import PROVIDERS
from lmtool.runtime.session.session import SessionOptions, start_session
from lmtool.runtime.session.weightless import (
    best_graph,
    drawing_graph,
    nucleus_graph,
    ranking_graph,
    scoring_graph,
    tempered_drawing_graph,
)
from support.log_softmax import log_softmax

SIZE = 1003
Draw = tuple[np.ndarray, np.ndarray]


@pytest.fixture
def scorer() -> LogProbs:
    def start(graph: bytes) -> Any:
        return start_session(graph, PROVIDERS["cpu"], SessionOptions())

    return LogProbs(start)


@pytest.fixture
def draw() -> Callable[[int, int], Draw]:
    def of(rows: int, targets: int) -> Draw:
        random = np.random.default_rng(rows)
        logits = random.normal(0, 5, (rows, SIZE)).astype(np.float32)
        return logits, random.integers(0, SIZE, (rows, targets))

    return of


def test_they_are_those_of_a_float64_log_softmax(scorer: LogProbs, draw: Callable[[int, int], Draw]) -> None:
    logits, targets = draw(21, 3)
    expected = np.take_along_axis(log_softmax(logits), targets, 1)
    found = scorer.of_arrays(logits, targets)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=0, atol=4e-6)


@pytest.mark.parametrize("positions", [0, 1, 4])
def test_a_value_is_scored_at_its_last_positions(
    scorer: LogProbs, draw: Callable[[int, int], Draw], positions: int
) -> None:
    logits, targets = draw(8, 1)
    wanted = targets.reshape(2, 4)[:, 4 - positions :]
    found = scorer.of_value(onnxruntime.OrtValue.ortvalue_from_numpy(logits.reshape(2, 4, SIZE)), wanted)
    apart = scorer.of_arrays(logits.reshape(2, 4, SIZE), targets.reshape(2, 4, 1))[..., 0]
    assert np.array_equal(found, apart[:, 4 - positions :])


@pytest.mark.parametrize("rows", [1, 2, 5, 1000])
def test_a_row_has_the_same_bits_in_any_block(
    scorer: LogProbs, draw: Callable[[int, int], Draw], rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits, targets = draw(65, 2)
    together = scorer.of_arrays(logits, targets)
    monkeypatch.setattr(module, "_BLOCK_NUMBERS", rows * SIZE)
    assert np.array_equal(scorer.of_arrays(logits, targets), together)
    assert np.array_equal(scorer.of_arrays(logits[30:35], targets[30:35, 1:]), together[30:35, 1:])


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_no_logit_that_is_not_a_number_is_lost(
    scorer: LogProbs, draw: Callable[[int, int], Draw], wrong: float
) -> None:
    logits, targets = draw(SIZE, 1)
    logits[np.arange(SIZE), np.arange(SIZE)] = wrong  # one in each row, at each place
    assert not np.isfinite(scorer.of_arrays(logits, targets)).any()
    logits[0, 0] = -np.inf
    targets[0, 0] = 1
    assert np.isfinite(scorer.of_arrays(logits, targets)[0, 0])


GRAPHS = [scoring_graph, drawing_graph, tempered_drawing_graph, best_graph, nucleus_graph, ranking_graph]


@pytest.mark.parametrize("graph", GRAPHS)
def test_the_graphs_have_standard_operators(graph: Callable[[], bytes]) -> None:
    model = onnx.load_from_string(graph())
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""}
