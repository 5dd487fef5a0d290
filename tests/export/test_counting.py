"""A cell that counts collects rounding errors: its export passes, a wrong weight does not."""

from collections.abc import Callable

import pytest
import torch
from lmtool.export import BOUNDS, ParityReport, PredictorOriginal, TorchOriginal, verify
from lmtool.model import LanguageModel
from lmtool.runtime import Predictor, Tokenization, Vocabulary
from support.models.networks import artifact_of, network_of

SIZE = 4
GATES = {gate: index * SIZE for index, gate in enumerate("ifgo")}
"""Gate -> the row of its unit 0, which counts."""

FORGET, TOKENS = 8.0, [*"abcdefghi", "<unk>", "<eos>"]
ULP = 2**-24
"""Distance of the float32 numbers between 0.5 and 1, where the forget gate is."""


def counting_network(forget: float = FORGET) -> LanguageModel:
    """Unit 0 adds 0.24 a step and keeps all but a 3,000th: after 1,000 steps it is at 200."""
    network = network_of((SIZE,))
    layer = network.layers[0]
    with torch.no_grad():
        for weights in (layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0):
            for row in GATES.values():
                weights[row] = 0
        for gate, value in (("i", 10.0), ("f", forget), ("g", 0.25)):
            layer.bias_ih_l0[GATES[gate]] = value
    return network


def with_forget_gate_off_by(ulps: float) -> LanguageModel:
    """The network with another forget bias; its gate differs by so many units in the last place."""
    gate = 1 / (1 + torch.tensor(-FORGET).double().exp())
    return counting_network(FORGET + float(ulps * ULP / (gate * (1 - gate))))


def verified(artifact: LanguageModel, precision: str = "fp32", original: Callable = TorchOriginal) -> ParityReport:
    predictor = Predictor.load(artifact_of(artifact, TOKENS, "whitespace", precision))
    if original is TorchOriginal:
        reference = TorchOriginal(counting_network(), Vocabulary(TOKENS, Tokenization.of_rule("whitespace")))
    else:
        good = artifact_of(counting_network(), TOKENS, "whitespace")
        reference = PredictorOriginal(Predictor.load(good), "another runtime")
    return verify(reference, predictor, drawn_tokens=100)


@pytest.mark.parametrize("original", [TorchOriginal, PredictorOriginal])
def test_an_error_that_rounding_explains_passes(original: Callable) -> None:
    report = verified(with_forget_gate_off_by(1.5), original=original)
    assert report.passed, report.failures
    assert report.cases[-1].tensor == "cell_0"
    assert report.tensors["cell_0"].relative > BOUNDS["fp32"].difference  # refused by the plain bound


def test_a_count_that_half_precision_cannot_hold_passes() -> None:
    report = verified(counting_network(), "fp16")
    assert report.passed, report.failures
    assert report.tensors["cell_0"].relative > BOUNDS["fp16"].difference


def test_a_wrong_forget_bias_is_refused_after_many_steps() -> None:
    report = verified(counting_network(FORGET * 1.001))
    loop = report.cases[-1]
    assert not report.passed
    assert (loop.name, loop.tensor) == ("closed loop of 1,000 steps", "cell_0")
    assert loop.moved > 0
    assert all(case.excess(BOUNDS["fp32"]) < 1 for case in report.cases if case.name.endswith("time 1"))
