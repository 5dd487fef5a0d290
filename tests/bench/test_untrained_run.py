"""Run folders of untrained networks: exported and verified like any other."""

from pathlib import Path

import pytest
from lmtool.bench.untrained_run import make_untrained_run
from lmtool.export import export_run, original_of
from lmtool.model import ConfigError, RunError
from lmtool.runtime import Architecture, OptionError, Predictor, summarize

SMALL = Architecture("lstm", 5, (7, 3), False)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_it_is_exported_verified_and_has_the_sizes(tmp_path: Path, precision: str) -> None:
    run = make_untrained_run(tmp_path / "runs" / "small", SMALL, 11, 1)
    export = export_run(run, precision)
    assert export.report.passed
    assert export.report.precision == precision
    assert "drawn from the original" in export.report.text
    predictor = Predictor.load(export.path)
    assert predictor.artifact.architecture == SMALL
    assert len(predictor.vocabulary) == 11
    logits, _ = predictor.step([[4, 10]], predictor.initial_state(1))
    assert logits.shape == (1, 2, 11)
    assert predictor.vocabulary.encode("word4 nothing\n") == [4, 1, 0]
    assert "no-corpus" in summarize(predictor.artifact, export.path).format()


@pytest.mark.parametrize(
    "architecture",
    [Architecture("gru", 4, (6,), False), Architecture("rnn", 3, (2, 3), True)],
    ids=["gru", "tied rnn"],
)
def test_it_has_the_requested_cell_and_tying(tmp_path: Path, architecture: Architecture) -> None:
    run = make_untrained_run(tmp_path / "run", architecture, 2, 1)
    network, checkpoint = run.trained()
    assert network.architecture == run.config().architecture == architecture
    assert checkpoint.facts["epoch"] == 0
    assert checkpoint.facts["valid_perplexity"] is None
    assert original_of(run).text is None
    weights = network.weights()
    drawn = [tensor for name, tensor in weights.items() if "bias" not in name]
    assert all(0 < tensor.abs().max() <= 0.05 for tensor in drawn)
    assert all(not tensor.any() for name, tensor in weights.items() if "bias" in name)


def test_the_seed_determines_the_weights(tmp_path: Path) -> None:
    hashes = [
        make_untrained_run(tmp_path / str(number), SMALL, 11, seed).trained()[1].facts["weights_sha256"]
        for number, seed in enumerate((1, 1, 2))
    ]
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(
    ("architecture", "vocabulary", "named"),
    [
        (Architecture("lstm", 0, (7, 3), False), 11, "embedding_size is 0"),
        (Architecture("lstm", 5, (7, 0), False), 11, "layer_sizes is 7, 0"),
        (Architecture("lstm", 5, (), False), 11, "layer_sizes is empty"),
        (SMALL, 0, "vocabulary_size is 0"),
        (SMALL, 1, "vocabulary_size is 1, expected 2 or more"),
    ],
)
def test_small_sizes_are_refused_before_anything_is_written(
    tmp_path: Path, architecture: Architecture, vocabulary: int, named: str
) -> None:
    with pytest.raises(OptionError, match=named):
        make_untrained_run(tmp_path / "run", architecture, vocabulary, 1)
    assert not (tmp_path / "run").exists()


def test_an_unknown_cell_and_an_existing_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cell is 'lstmm'"):
        make_untrained_run(tmp_path / "run", Architecture("lstmm", 5, (7,), False), 11, 1)
    make_untrained_run(tmp_path / "run", SMALL, 11, 1)
    with pytest.raises(RunError, match="holds a run already"):
        make_untrained_run(tmp_path / "run", SMALL, 11, 1)
