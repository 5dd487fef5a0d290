"""Training learns, evaluates, and is deterministic."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lmtool.model import (
    Interrupted,
    LanguageModel,
    Run,
    Trainer,
    TrainOptions,
    evaluate_perplexity,
    load_corpus,
    preset_named,
    run_training,
)
from lmtool.runtime import Architecture, OptionError
from support.corpora import real_corpus
from support.runs.reporters import RecordingReporter
from support.runs.settings import DROPOUT_SETTINGS
from support.runs.trainers import latest_weights_hash, new_trainer


def test_training_learns_and_leaves_everything_in_the_run_folder(run: Run) -> None:
    records = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    valid = [record["perplexity"] for record in records if record["kind"] == "valid"]
    assert len(valid) == 2
    corpus = run.corpus()
    assert valid[1] < valid[0] < corpus.unigram_perplexity("valid")
    assert records[-1]["kind"] == "test"
    network, best = run.trained()
    assert best.facts["valid_perplexity"] == min(valid)
    assert best.facts["test_perplexity"] == pytest.approx(evaluate_perplexity(network, corpus.ids["test"]), rel=1e-6)
    assert run.curves.read_bytes().startswith(b"\x89PNG")
    assert not [name for name in os.listdir(run.path) if ".tmp" in name]


def test_the_same_seed_gives_the_same_bits(tmp_path: Path, corpus_folder: Path) -> None:
    hashes = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        settings = {**DROPOUT_SETTINGS, "epochs": "1", "seed": seed}
        run_training(
            TrainOptions("ptb-200", str(corpus_folder), tmp_path / name, settings=settings, threads=1),
            RecordingReporter(),
        )
        hashes.append(latest_weights_hash(tmp_path / name))
    assert hashes[0] == hashes[1] != hashes[2]


def test_errors_for_options_out_of_range(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="device 'tpu' is not known"):
        TrainOptions(device="tpu")
    with pytest.raises(OptionError, match="threads is 0"):
        TrainOptions(threads=0)


def test_shapes_of_the_network_are_as_documented() -> None:
    network = LanguageModel(Architecture("lstm", 5, (7, 3), tied=False), 11)
    logits, state = network(torch.zeros(2, 4, dtype=torch.int64), network.initial_state(2))
    assert logits.shape == (2, 4, 11)
    assert [tuple(part.shape) for layer in state for part in layer] == [(2, 7), (2, 7), (2, 3), (2, 3)]
    tied = LanguageModel(Architecture("lstm", 3, (7, 3), tied=True), 11)
    assert sorted(tied.weights()) == sorted(set(network.weights()) - {"projection.weight"})


def test_initial_weights_follow_the_recipe() -> None:
    network = LanguageModel(Architecture("lstm", 50, (60,), tied=False), 400)
    network.initialize(0.1, torch.Generator().manual_seed(1))
    for name, weight in network.weights().items():
        if "bias" in name:
            assert not weight.any()
        else:
            assert weight.abs().max() <= 0.1
            assert weight.std().item() == pytest.approx(0.2 / 12**0.5, rel=0.05)
    trained = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    assert not [name for name in trained if "bias_hh" in name]


def test_a_training_can_begin_with_the_frequencies_of_the_tokens(tmp_path: Path, corpus_folder: Path) -> None:
    trainer = new_trainer(corpus_folder, tmp_path / "run", {"bias_init": "unigram", "init_range": "1e-6"})
    counts = np.bincount(trainer.corpus.ids["train"], minlength=len(trainer.corpus.vocabulary)) + 1
    network, zeros = trainer._learner.network, torch.zeros(1, 1, dtype=torch.int64)
    probabilities = network(zeros, network.initial_state(1))[0].softmax(-1).flatten()
    np.testing.assert_allclose(probabilities.detach().numpy(), counts / counts.sum(), rtol=1e-4)
    unigram = trainer.corpus.unigram_perplexity("test")
    assert evaluate_perplexity(network, trainer.corpus.ids["test"]) == pytest.approx(unigram, rel=1e-4)


def test_evaluation_scores_every_token_once() -> None:
    network = LanguageModel(Architecture("lstm", 5, (7, 3), tied=False), 11)
    ids = np.random.default_rng(0).integers(0, 11, 700).astype(np.int32)
    logits, _ = network(torch.from_numpy(ids[None, :-1].astype(np.int64)), network.initial_state(1))
    expected = torch.nn.functional.cross_entropy(logits[0], torch.from_numpy(ids[1:].astype(np.int64))).exp().item()
    assert evaluate_perplexity(network, ids) == pytest.approx(expected, rel=1e-5)


def test_an_evaluation_shares_the_projection_among_threads_and_nothing_else() -> None:
    network = LanguageModel(Architecture("lstm", 5, (7, 3), tied=False), 11)
    seen: dict[str, set[int]] = {"layer": set(), "projection": set()}
    for name, module in (("layer", network.layers[1]), ("projection", network.projection)):
        module.register_forward_hook(lambda *_, name=name: seen[name].add(torch.get_num_threads()))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        evaluate_perplexity(network, np.arange(300, dtype=np.int32) % 11)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == {"layer": {1}, "projection": {2}}


def test_first_steps_on_penn_treebank_reach_the_known_perplexity(tmp_path: Path) -> None:
    """A twentieth of an epoch of `ptb-200`; a whole epoch reaches 190 on valid (docs/results.md)."""
    config = preset_named("ptb-200")
    corpus = load_corpus(str(real_corpus("ptb")), config.tokenization)
    run = Run(tmp_path / "run")
    run.create(config, corpus)
    trainer = Trainer(config, corpus, run)

    class InterruptAtFirstRecord(RecordingReporter):
        def record(self, record: dict[str, Any]) -> None:
            super().record(record)
            os.kill(os.getpid(), signal.SIGINT)

    reporter = InterruptAtFirstRecord()
    with pytest.raises(Interrupted):
        trainer.train(reporter)
    assert reporter.records[0]["epoch"] == pytest.approx(0.05, abs=0.001)
    assert reporter.records[0]["perplexity"] == pytest.approx(1442, rel=0.05)
