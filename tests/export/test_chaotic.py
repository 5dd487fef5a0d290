"""A tanh RNN that makes small errors grow: int8 rounds at every token, and a bound on that is measured so."""

import torch
from lmtool.export import BOUNDS, ParityReport, TorchOriginal, verify
from lmtool.model import LanguageModel
from lmtool.runtime import Predictor, Tokenization, Vocabulary
from support.models.networks import artifact_of, network_of

TOKENS = [*(f"w{index}" for index in range(58)), "<unk>", "<eos>"]


def chaotic_network() -> LanguageModel:
    network = network_of((24, 24), vocabulary=60, cell="rnn")
    random = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for layer in network.layers:
            layer.weight_hh_l0.normal_(0, 1.55 / 24**0.5, generator=random)
    return network


def verified(artifact: LanguageModel) -> ParityReport:
    reference = TorchOriginal(chaotic_network(), Vocabulary(TOKENS, Tokenization.of_rule("whitespace")))
    return verify(reference, Predictor.load(artifact_of(artifact, TOKENS, "whitespace", "int8")), drawn_tokens=500)


def excesses(report: ParityReport) -> list[float]:
    return [case.excess(BOUNDS["int8"]) for case in report.cases]


def test_states_that_rounding_moves_at_every_token_are_allowed_to_differ() -> None:
    report = verified(chaotic_network())
    assert report.tensors["hidden_1"].relative > BOUNDS["int8"].difference
    assert max(excesses(report)) <= 1
    grid = [case for case in report.cases if case.moved > 0 and "loop" not in case.name]
    assert grid
    assert all(case.name.endswith("time 33") for case in grid)


def test_swapped_units_are_refused() -> None:
    network = chaotic_network()
    with torch.no_grad():
        weights = network.layers[1].weight_hh_l0
        weights[[3, 4]] = weights[[4, 3]].clone()
    report = verified(network)
    assert not report.passed
    assert max(excesses(report)) > 1
