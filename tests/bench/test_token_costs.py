"""The measurement of a token's cost over a bare call: the loops do what they say, the report has a row each model."""

import sys
from pathlib import Path

import pytest
import token_costs
from lmtool.runtime import Artifact, Predictor


def test_every_loop_does_its_things(predictor: Predictor) -> None:
    costs = token_costs.measure_costs(predictor, "a model", 2)
    assert list(costs.seconds) == ["bare call", *token_costs.GENERATED, "suggest(5)", "keystroke"]
    assert all(len(seconds) == 2 and min(seconds) > 0 for seconds in costs.seconds.values())


def test_a_ratio_is_that_of_one_round() -> None:
    costs = token_costs.TokenCosts("a model", {"bare call": [1.0, 2.0], "greedy": [3.0, 2.0]})
    assert costs.ratios("greedy") == [3.0, 1.0]
    row = token_costs.format_costs([costs]).splitlines()[-1]
    assert row.split() == ["a", "model", "1,500,000", "us", "2.00", "(1.50-2.50)"]


def test_other_vocabularies_are_untrained_networks_of_the_same_kind(
    artifact_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--model", str(artifact_path), "--vocabulary", "300", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", ["token_costs.py", *options])
    token_costs.main()
    rows = capsys.readouterr().out.splitlines()[-2:]
    artifact = Artifact.read(artifact_path)
    assert [row.split(" words")[0].split()[:2] for row in rows] == [
        [f"{artifact.variant},", f"{len(artifact.vocabulary):,}"],
        [f"{artifact.variant},", "300"],
    ]
