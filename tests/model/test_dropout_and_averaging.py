"""Dropout, penalties, weight averages, schedules that depend on valid, and bf16."""

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lmtool.model import PRESETS, Checkpoint, Interrupted, LanguageModel, Run, Trainer, load_corpus, preset_named
from lmtool.model import network as network_module
from lmtool.model.dropout import Dropouts, drop, drop_activations, drop_words
from lmtool.model.training import device
from lmtool.model.training.loss import Objective
from lmtool.model.training.optimizers import WeightAverage
from lmtool.runtime import Architecture
from support.runs.reporters import RecordingReporter, StopAfter
from support.runs.settings import SETTINGS
from support.runs.trainers import latest_weights_hash, new_trainer, resumed_trainer, without_times

SMALL = {"embedding_size": "6", "layer_sizes": "7,6", "batch_size": "4", "steps": "9", "epochs": "2"}
EVERYTHING = {
    **SMALL,
    "tied": "true",
    "dropout": "0.1",
    "locked": "true",
    "embedding_dropout": "0.1",
    "weight_dropout": "0.2",
    "activation_penalty": "2",
    "temporal_penalty": "1",
    "variable_steps": "true",
    "partial_shuffle": "true",
    "sampled_softmax": "9",
    "full_softmax_share": "0.5",
    "bias_init": "unigram",
    "optimizer": "adamw",
    "weight_decay": "0.01",
    "learning_rate": "0.02",
    "schedule": "plateau",
    "averaging": "exponential",
}


@pytest.mark.parametrize("probability", [0.3, 0.5, 0.999])
def test_dropout_drops_each_number_with_the_probability(probability: float) -> None:
    torch.manual_seed(0)
    numbers = torch.ones(400_003, requires_grad=True)  # not a multiple of four, which are drawn together
    dropped = drop(numbers, probability)
    kept = dropped != 0
    assert torch.equal(dropped[kept], torch.full_like(dropped[kept], 1 / (1 - round(probability * 2**16) / 2**16)))
    for lag in (1, 2, 3, 4, 1000):  # neighbours are drawn independently
        share, both = kept.float().mean().item(), (kept[lag:] & kept[:-lag]).float().mean().item()
        deviation = math.sqrt(probability * (1 - probability) / len(kept))
        assert share == pytest.approx(1 - probability, abs=4 * deviation)
        assert both == pytest.approx((1 - probability) ** 2, abs=8 * deviation)
    (gradient,) = torch.autograd.grad(dropped.sum(), numbers)
    assert torch.equal(gradient, dropped)


def test_locked_dropout_drops_the_same_numbers_at_every_time_step() -> None:
    torch.manual_seed(0)
    dropped = drop_activations(torch.ones(3, 50, 200), 0.4, locked=True)
    assert bool((dropped == dropped[:, :1]).all())
    assert not bool((dropped[0] == dropped[1]).all())
    assert dropped.mean().item() == pytest.approx(1, abs=0.1)
    free = drop_activations(torch.ones(3, 50, 200), 0.4, locked=False)
    assert not bool((free == free[:, :1]).all())


def test_a_dropped_word_is_dropped_at_all_its_places() -> None:
    torch.manual_seed(0)
    ids = torch.randint(0, 20, (5, 60))
    dropped = drop_words(torch.ones(5, 60, 4), ids, 20, 0.5)[..., 0]
    dropped_words = [bool((dropped[ids == word] == 0).all()) for word in range(20)]
    assert all(is_dropped or bool((dropped[ids == word] == 2).all()) for word, is_dropped in enumerate(dropped_words))
    assert 0 < sum(dropped_words) < 20


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_weight_dropout_is_for_training_only_and_passes_gradients(cell: str) -> None:
    torch.manual_seed(0)
    network = LanguageModel(Architecture(cell, 5, (7, 3), tied=False), 11, Dropouts(weight=0.5))
    ids, state = torch.randint(0, 11, (2, 4)), network.initial_state(2)
    assert not torch.equal(network(ids, state)[0], network(ids, state)[0])
    network(ids, state)[0].sum().backward()
    gradient = network.layers[0].weight_hh_l0.grad
    assert 0 < int((gradient == 0).sum()) < gradient.numel()
    network.eval()
    assert torch.equal(network(ids, state)[0], network(ids, state)[0])


def test_weight_dropout_near_zero_equals_the_plain_layer() -> None:
    for cell in ("lstm", "gru", "rnn"):
        torch.manual_seed(0)
        dropping = LanguageModel(Architecture(cell, 5, (7, 3), tied=False), 11, Dropouts(weight=1e-12))
        plain = LanguageModel(dropping.architecture, 11)
        plain.load_state_dict(dropping.state_dict())
        ids, state = torch.randint(0, 11, (2, 4)), plain.initial_state(2)
        torch.testing.assert_close(dropping(ids, state)[0], plain(ids, state)[0])


def test_weight_dropout_hides_only_the_warning_that_weights_are_scattered(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch gives it on CUDA; here a stand-in for its LSTM does."""

    def lstm(*arguments: Any) -> Any:
        warnings.warn(message, UserWarning, stacklevel=2)
        return torch.lstm(*arguments)

    monkeypatch.setitem(network_module._FUNCTIONS, "lstm", lstm)
    network = LanguageModel(Architecture("lstm", 5, (7,), tied=False), 11, Dropouts(weight=0.5))
    ids, state = torch.randint(0, 11, (2, 4)), network.initial_state(2)
    message = (
        "RNN module weights are not part of single contiguous chunk of memory. This means they need to be compacted at "
        "every call, possibly greatly increasing memory usage. To compact weights again call flatten_parameters()."
    )
    network(ids, state)  # warnings are errors in tests
    message = "another warning"
    with pytest.warns(UserWarning, match=message):
        network(ids, state)


def test_objective_is_the_recipes_loss_plus_penalties() -> None:
    torch.manual_seed(0)
    config = preset_named("ptb-200").with_settings(
        {**SMALL, "precision": "fp32", "activation_penalty": "2", "temporal_penalty": "1"}
    )
    network = LanguageModel(config.architecture, 11)
    inputs, targets = torch.randint(0, 11, (2, 4, 9))
    state = network.initial_state(4)
    logits, _ = network(inputs, state)
    output, raw, _ = network.read(inputs, state)
    mean = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    penalty = 2 * output.pow(2).mean() + (raw[:, 1:] - raw[:, :-1]).pow(2).mean()
    total, token_loss, _ = Objective(network, config)(inputs, targets, state)
    assert token_loss.item() == pytest.approx(mean.item(), rel=1e-5)
    assert total.item() == pytest.approx(9 * (mean + penalty).item(), rel=1e-5)  # summed over 9 time steps
    averaged = config.with_settings({"loss_over_time": "mean"})
    assert Objective(network, averaged)(inputs, targets, state)[0].item() == pytest.approx(total.item() / 9, rel=1e-5)


@pytest.mark.parametrize(("averaging", "kept"), [("uniform", None), ("exponential", [1 / 11, 2 / 12, 3 / 13])])
def test_weight_averages_by_hand(averaging: str, kept: list[float] | None) -> None:
    config = preset_named("ptb-200").with_settings({"averaging": averaging})
    network = LanguageModel(Architecture("rnn", 2, (3,), tied=False), 4)
    average = WeightAverage(config, network)
    bias, expected = network.projection.bias, 0.0
    with torch.no_grad():
        bias.zero_()
        average.load({name: torch.zeros_like(tensor) for name, tensor in network.weights().items()})
        for step, value in enumerate((4.0, 6.0, 11.0)):
            bias.fill_(value)
            average.update()
            expected = (4 + 6 + 11) / 3 if kept is None else kept[step] * expected + (1 - kept[step]) * value
    with average.applied():
        assert bias.tolist() == pytest.approx([expected] * 4)
    assert bias.tolist() == [11.0] * 4


def test_a_triggered_average_starts_when_valid_stops_falling(tmp_path: Path, corpus_folder: Path) -> None:
    settings = {**SMALL, "averaging": "triggered", "patience": "2"}
    falling, rising = (
        new_trainer(corpus_folder, tmp_path / "a", settings),
        new_trainer(corpus_folder, tmp_path / "b", settings),
    )
    for perplexities, run in (([9.0, 8.0, 7.0, 6.0], falling), ([9.0, 8.0, 7.0, 9.5], rising)):
        for perplexity in perplexities:
            run._adjust_schedule(perplexity)
            run.progress.history.append({"kind": "valid", "perplexity": perplexity})
    assert not falling._learner.average.active
    assert rising._learner.average.active


def test_a_plateau_lowers_the_learning_rate(tmp_path: Path, corpus_folder: Path) -> None:
    settings = {**SMALL, "schedule": "plateau", "decay": "0.1", "learning_rate": "2", "clip_norm": "50", "epochs": "6"}
    trainer = new_trainer(corpus_folder, tmp_path / "run", settings)
    trainer.train(RecordingReporter())
    expected, best = [2.0], math.inf
    for record in trainer.progress.history:
        if record["kind"] == "valid":
            expected.append(expected[-1] if record["perplexity"] < best else expected[-1] * 0.1)
            best = min(best, record["perplexity"])
    rates = {
        math.ceil(record["epoch"]) - 1: record["learning_rate"]
        for record in trainer.progress.history
        if record["kind"] == "train"
    }
    assert list(rates.values()) == pytest.approx(expected[:-1])
    assert expected[-1] < 2  # there was a plateau


def test_early_stopping_after_stale_epochs(tmp_path: Path, corpus_folder: Path) -> None:
    settings = {**SMALL, "decay": "1", "learning_rate": "2", "clip_norm": "50", "early_stopping": "2", "epochs": "40"}
    trainer = new_trainer(corpus_folder, tmp_path / "run", settings)
    trainer.train(RecordingReporter())
    valid = [record["perplexity"] for record in trainer.progress.history if record["kind"] == "valid"]
    best = int(np.argmin(valid))
    assert len(valid) == best + 1 + 2 < 40
    assert trainer.progress.finished
    assert Run(tmp_path / "run").trained()[1].facts["epoch"] == best + 1


TRIGGERED = {**SMALL, "averaging": "triggered", "decay": "1", "learning_rate": "2", "clip_norm": "50", "epochs": "8"}


@pytest.mark.parametrize(
    ("settings", "steps"),
    [(EVERYTHING, 5), (EVERYTHING, 80), ({**EVERYTHING, "optimizer": "muon"}, 80), (TRIGGERED, 470)],
)
def test_everything_together_resumes_bit_for_bit(
    tmp_path: Path, corpus_folder: Path, settings: dict[str, str], steps: int
) -> None:
    uninterrupted = new_trainer(corpus_folder, tmp_path / "uninterrupted", settings)
    uninterrupted.train(RecordingReporter())
    stopped = new_trainer(corpus_folder, tmp_path / "stopped", settings)
    with pytest.raises(Interrupted):
        stopped.train(StopAfter(steps))
    resumed = resumed_trainer(corpus_folder, tmp_path / "stopped", settings)
    assert resumed._learner.average.active
    resumed.train(RecordingReporter())
    assert latest_weights_hash(tmp_path / "stopped") == latest_weights_hash(tmp_path / "uninterrupted")
    assert without_times(resumed.progress.history) == without_times(uninterrupted.progress.history)
    best_facts, expected_facts = (
        Checkpoint.read(Run(tmp_path / name).best).facts for name in ("stopped", "uninterrupted")
    )
    assert best_facts == expected_facts


def test_learning_rate_is_proportional_to_the_length_of_a_step(tmp_path: Path, corpus_folder: Path) -> None:
    for settings, factor in (
        ({"loss_over_time": "mean"}, 0.5),
        ({"loss_over_time": "sum"}, 1.0),  # the loss itself follows it
        ({"loss_over_time": "sum", "optimizer": "adam"}, 0.5),
    ):
        config = preset_named("ptb-200").with_settings({**SMALL, **settings, "variable_steps": "true"})
        trainer = Trainer(config, load_corpus(str(corpus_folder), config.tokenization), Run(tmp_path / "run"))
        whole, half = (trainer._learning_rate(length, 10) for length in (config.steps, config.steps / 2))
        assert half == pytest.approx(whole * factor)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_trains_with_small_sizes(tmp_path: Path, corpus_folder: Path, name: str) -> None:
    config = preset_named(name)
    small = {"embedding_size": "6", "batch_size": "4", "steps": "9", "epochs": "1"}
    small["cell"] = "rnn" if name == "char-128" else config.cell  # Muon with another cell
    small["layer_sizes"] = ",".join(["7"] * (len(config.layer_sizes) - 1) + ["6"])
    config = config.with_settings(small)
    corpus = load_corpus(str(corpus_folder), config.tokenization)
    trainer = Trainer(config, corpus, Run(tmp_path / "run"))
    Run(tmp_path / "run").create(trainer.config, corpus)
    reporter = RecordingReporter()
    trainer.train(reporter)
    losses = [record["loss"] for record in reporter.records if record["kind"] == "train"]
    assert min(losses[1:]) < losses[0]


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [({"amx_bf16": True}, "bf16"), ({"avx512_bf16": True}, "bf16"), ({"avx512_f": True, "amx_bf16": False}, "fp32")],
)
def test_auto_is_bf16_where_the_processor_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], precision: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert device.resolve_precision(preset_named("quick"), "cpu").precision == precision


def test_auto_is_fp32_where_torch_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert device.resolve_precision(preset_named("quick"), "cpu").precision == "fp32"


@pytest.mark.parametrize("seed", ["1", "2", "3"])
def test_bf16_products_learn_as_well_as_fp32(tmp_path: Path, corpus_folder: Path, seed: str) -> None:
    # With the layers of SETTINGS any rounding changes the perplexity by several percent; with these by 0.4 % at most.
    wide = {"embedding_size": "16", "layer_sizes": "16,12", "learning_rate": "0.01"}
    perplexities: dict[str, Any] = {}
    for precision in ("fp32", "bf16"):
        trainer = new_trainer(
            corpus_folder, tmp_path / precision, SETTINGS | wide | {"precision": precision, "seed": seed}
        )
        trainer.train(RecordingReporter())
        perplexities[precision] = trainer.progress.best_valid
    assert perplexities["bf16"] == pytest.approx(perplexities["fp32"], rel=0.01)
    assert perplexities["bf16"] != perplexities["fp32"]


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("onednn_has_bf16_lstm", [True, False])
def test_bf16_layers_with_and_without_the_lstm_of_onednn(
    monkeypatch: pytest.MonkeyPatch, cell: str, onednn_has_bf16_lstm: bool
) -> None:
    """Processors without AVX-512 run without it; either way torch's switch is restored."""
    if onednn_has_bf16_lstm and not device._onednn_has_bf16_lstm():
        pytest.skip("this processor's oneDNN has no bf16 LSTM")
    monkeypatch.setattr(device, "_onednn_has_bf16_lstm", lambda: onednn_has_bf16_lstm)
    before = torch.backends.mkldnn.enabled
    torch.manual_seed(0)
    network = LanguageModel(Architecture(cell, 50, (70, 30), tied=False), 11)
    ids, state = torch.randint(0, 11, (3, 4)), network.initial_state(3)
    with device.bf16_layers():
        output, *_ = network.read(ids, state)
    output.sum().backward()
    gradient = network.layers[0].weight_hh_l0.grad.clone()
    network.zero_grad()
    expected, *_ = network.read(ids, state)
    expected.sum().backward()
    assert output.dtype == torch.float32
    assert 0 < (output - expected).abs().max() < 0.01
    assert (gradient - network.layers[0].weight_hh_l0.grad).norm() < 0.05 * gradient.norm()
    assert torch.backends.mkldnn.enabled == before
