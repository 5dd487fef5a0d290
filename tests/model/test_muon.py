"""The optimizer Muon."""

from pathlib import Path

import pytest
import torch
from lmtool.model import CheckpointError, LanguageModel, preset_named
from lmtool.model.training.muon import Muon, orthogonalized
from lmtool.model.training.optimizers import Optimizers
from support.runs.reporters import RecordingReporter
from support.runs.settings import SETTINGS
from support.runs.trainers import new_trainer
from torch import nn


@pytest.mark.parametrize("shape", [(40, 40), (160, 40), (40, 100), (1, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_singular_values_become_about_one_and_the_vectors_stay(shape: tuple[int, int], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(*shape), full_matrices=False)
    matrix = left * torch.linspace(1, 0.05, min(shape)) @ right
    result = left.t() @ orthogonalized(7 * matrix, dtype) @ right.t()
    values = result.diagonal()
    assert 0.6 < values.min() <= values.max() < 1.3
    assert (result - values.diag()).abs().max() < (1e-4 if dtype == torch.float32 else 0.05)


def test_a_step_by_hand() -> None:
    torch.manual_seed(0)
    matrix = nn.Parameter(torch.randn(8, 3))
    optimizer = Muon([matrix], 0.01, weight_decay=0.5, dtype=torch.float32, momentum=0.9)
    mean, expected = torch.zeros(8, 3), matrix.detach().clone()
    for _ in range(3):
        matrix.grad = torch.randn(8, 3)
        mean = 0.9 * mean + 0.1 * matrix.grad
        direction = orthogonalized(0.1 * matrix.grad + 0.9 * mean, torch.float32)
        expected = expected * (1 - 0.01 * 0.5) - 0.01 * 0.2 * 8**0.5 * direction
        optimizer.step()
    torch.testing.assert_close(matrix.detach(), expected)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon of its own")
def test_steps_equal_those_of_torch() -> None:
    torch.manual_seed(0)
    ours, theirs = (nn.Parameter(torch.ones(24, 6)) for _ in range(2))
    optimizer = Muon([ours], 0.02, weight_decay=0.1, dtype=torch.bfloat16)
    other = torch.optim.Muon([theirs], 0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(5):
        ours.grad = theirs.grad = torch.randn(24, 6)
        optimizer.step()
        other.step()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-3)
    assert (ours - 1).abs().max() > 0.02


@pytest.mark.parametrize(("cell", "tied"), [("lstm", False), ("lstm", True), ("gru", False), ("rnn", False)])
def test_matrices_of_layers_are_stepped_by_muon_and_the_rest_by_adamw(cell: str, tied: bool) -> None:
    torch.manual_seed(0)
    settings = {"optimizer": "muon", "precision": "fp32", "cell": cell, "tied": str(tied), "embedding_size": "13"}
    config = preset_named("ptb-200").with_settings({**settings, "layer_sizes": "20,13"})
    network, same = (LanguageModel(config.architecture, 50) for _ in range(2))
    same.load_state_dict(network.state_dict())
    optimizers, loaded = Optimizers(config, network), Optimizers(config, same)
    gradients = [torch.randn_like(parameter) for parameter in optimizers.parameters]

    def step(stepped: Optimizers) -> None:
        for parameter, gradient in zip(stepped.parameters, gradients, strict=True):
            parameter.grad = gradient.clone()
        stepped.step(0.01)

    step(optimizers)
    assert optimizers.learning_rate == 0.01
    names = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    kinds: dict[str, set[str]] = {name: set() for name in names}
    for key in optimizers.tensors():
        index, _, kind = key.partition(".")
        kinds[names[int(index)]].add(kind)
    matrices = {name for name in names if name.startswith("layers.") and "weight" in name}
    assert len(matrices) == 4
    for name, found in kinds.items():
        assert found == ({"momentum_buffer"} if name in matrices else {"step", "exp_avg", "exp_avg_sq"})

    same.load_weights(network.weights())
    loaded.load({key: tensor.clone() for key, tensor in optimizers.tensors().items()})
    step(optimizers)
    step(loaded)
    for name, weight in network.weights().items():
        assert torch.equal(weight, same.weights()[name])
    for key, tensor in optimizers.tensors().items():
        assert torch.equal(tensor, loaded.tensors()[key])


def test_adamw_steps_by_a_multiple_of_the_learning_rate() -> None:
    weights = []
    for factor, rate in (("1", 0.02), ("2", 0.01)):
        torch.manual_seed(0)
        config = preset_named("ptb-200").with_settings(
            {"precision": "fp32", "optimizer": "muon", "weight_decay": "0.1", "adamw_factor": factor}
        )
        network = LanguageModel(config.architecture, 50)
        optimizers = Optimizers(config, network)
        for _ in range(2):
            for parameter in optimizers.parameters:
                parameter.grad = torch.randn_like(parameter)
            optimizers.step(rate)
        assert optimizers.learning_rate == rate
        weights.append(network.weights())
    for name, weight in weights[0].items():
        is_matrix = name.startswith("layers.") and "weight" in name
        assert torch.equal(weight, weights[1][name]) != is_matrix, name


def test_a_checkpoint_of_another_optimizer_is_refused() -> None:
    config = preset_named("ptb-200").with_settings({"precision": "fp32", "optimizer": "muon"})
    network = LanguageModel(config.architecture, 50)
    both = [Optimizers(config.with_settings({"optimizer": name}), network) for name in ("muon", "adamw")]
    for optimizers in both:
        for parameter in optimizers.parameters:
            parameter.grad = torch.ones_like(parameter)
        optimizers.step(0.5)
    muon, adamw = both
    with pytest.raises(CheckpointError, match=r"'optimizer\.\d\.exp_avg' is missing"):
        adamw.load(muon.tensors())
    with pytest.raises(CheckpointError, match=r"'optimizer\.\d\.exp_avg' is not expected"):
        muon.load(adamw.tensors())


def test_networks_learn_by_it_in_fp32_and_bf16(tmp_path: Path, corpus_folder: Path) -> None:
    perplexities: dict[str, float] = {}
    for optimizer, precision in (("adamw", "fp32"), ("muon", "fp32"), ("muon", "bf16")):
        settings = {**SETTINGS, "optimizer": optimizer, "learning_rate": "0.01", "precision": precision}
        trainer = new_trainer(corpus_folder, tmp_path / f"{optimizer}-{precision}", settings)
        trainer.train(RecordingReporter())
        assert trainer.progress.best_valid is not None
        perplexities[f"{optimizer} {precision}"] = trainer.progress.best_valid
    assert perplexities["muon fp32"] < 1.1 * perplexities["adamw fp32"]
    assert perplexities["muon bf16"] == pytest.approx(perplexities["muon fp32"], rel=0.05)
