"""The backward pass of large LSTM layers: its gradients, and where it is taken."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lmtool.model import Interrupted, LanguageModel, preset_named
from lmtool.model.large_lstm import _LargeLstm, is_large_lstm, run_large_lstm
from lmtool.model.training import device
from lmtool.model.training.device import bf16_layers
from lmtool.model.training.loss import Objective
from lmtool.runtime.artifact.architecture import Architecture
from support.runs.reporters import RecordingReporter, StopAfter
from support.runs.trainers import latest_weights_hash, new_trainer, resumed_trainer
from torch import Tensor, nn

Layer = Callable[[Tensor, tuple[Tensor, Tensor], tuple[Tensor, Tensor, Tensor, Tensor]], tuple[Tensor, Tensor, Tensor]]

pytestmark = pytest.mark.skipif(not device._onednn_has_bf16_lstm(), reason="this processor's oneDNN has no bf16 LSTM")


@pytest.fixture
def any_size(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Take it for layers of all sizes; the list gets an element for each backward pass."""
    calls: list[int] = []
    backward = _LargeLstm.backward
    monkeypatch.setattr(_LargeLstm, "backward", staticmethod(lambda *args: calls.append(1) or backward(*args)))
    monkeypatch.setattr("lmtool.model.large_lstm._MIN_WEIGHTS", 0)
    return calls


def torch_layer(
    inputs: Tensor, state: tuple[Tensor, Tensor], weights: tuple[Tensor, Tensor, Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    outputs, hidden, cell = torch.lstm(inputs, state, weights, True, 1, 0.0, True, False, True)
    return outputs.float(), hidden.float(), cell.float()


def numbers_of(time: int, forget_bias: float) -> list[Tensor]:
    """Inputs, hidden and cell state, and weights of a layer of 24 units; the second bias has no gradient."""
    generator = torch.Generator().manual_seed(1)
    shapes = [(5, time, 16), (1, 5, 24), (1, 5, 24), (96, 16), (96, 24), (96,), (96,)]
    numbers = [torch.randn(shape, generator=generator).mul_(0.4) for shape in shapes]
    numbers[5][24:48] += forget_bias
    return [number.requires_grad_(index < 6) for index, number in enumerate(numbers)]


def run(layer: Layer, numbers: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    inputs, hidden, cell, weight_ih, weight_hh, bias_ih, bias_hh = numbers
    return layer(inputs, (hidden, cell), (weight_ih, weight_hh, bias_ih, bias_hh))


def gradients_of(layer: Layer, time: int, forget_bias: float, *, states: bool = True) -> list[Tensor]:
    """The gradients of all numbers, if random multiples of the outputs, and of the states, are summed."""
    numbers, generator = numbers_of(time, forget_bias), torch.Generator().manual_seed(2)
    results = run(layer, numbers)
    summed = results if states else results[:1]
    torch.stack([(result * torch.randn(result.shape, generator=generator)).sum() for result in summed]).sum().backward()
    return [number.grad for number in numbers[:6] if number.grad is not None]


def error(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found.detach() - expected.detach()).norm() / expected.detach().norm())


@pytest.mark.parametrize(
    ("time", "forget_bias", "states"), [(1, 0.0, True), (2, 0.0, True), (48, 0.0, False), (70, 4.0, True)]
)
def test_gradients_are_those_of_fp32_but_for_rounding(time: int, forget_bias: float, states: bool) -> None:
    exact = gradients_of(torch_layer, time, forget_bias, states=states)
    with bf16_layers():
        rounded = gradients_of(torch_layer, time, forget_bias, states=states)
        gradients = gradients_of(run_large_lstm, time, forget_bias, states=states)
    assert len(gradients) == len(exact) == 6
    for gradient, exact_one, rounded_one in zip(gradients, exact, rounded, strict=True):
        assert gradient.dtype == torch.float32
        assert error(gradient, exact_one) < max(0.01, 1.5 * error(rounded_one, exact_one))
        assert error(gradient, exact_one) > 1e-6  # the control: it did run in bf16


def test_a_gradient_of_one_for_all_outputs_is_taken() -> None:
    numbers = numbers_of(3, 0.0)
    expected = numbers_of(3, 0.0)
    with bf16_layers():
        run(run_large_lstm, numbers)[0].sum().backward()
        run(torch_layer, expected)[0].sum().backward()
    assert numbers[0].grad is not None
    assert expected[0].grad is not None
    assert error(numbers[0].grad, expected[0].grad) < 0.02


def test_outputs_are_those_of_torch() -> None:
    with bf16_layers():
        found = run(run_large_lstm, numbers_of(9, 0.0))
        with torch.no_grad():
            same = run(torch_layer, numbers_of(9, 0.0))
        trained = run(torch_layer, numbers_of(9, 0.0))
    assert all(map(torch.equal, found, same))
    assert all(error(one, other) < 0.01 for one, other in zip(found, trained, strict=True))


def test_it_trains_large_layers_in_bf16_on_the_cpu_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    large, small, other = nn.LSTM(400, 800), nn.LSTM(650, 650), nn.GRU(400, 1200)
    assert not is_large_lstm(large)
    with bf16_layers():
        assert [is_large_lstm(layer) for layer in (large, small, other)] == [True, False, False]
        assert not is_large_lstm(nn.LSTM(400, 800, device="meta"))
    with torch.autocast("cpu", torch.float16):
        assert not is_large_lstm(large)
    monkeypatch.setattr(device, "_onednn_has_bf16_lstm", lambda: False)
    with bf16_layers():
        assert not is_large_lstm(large)


@pytest.mark.parametrize("weight_dropout", ["0", "0.3"])
def test_a_step_with_it_has_the_gradients_of_one_without(
    monkeypatch: pytest.MonkeyPatch, any_size: list[int], weight_dropout: str
) -> None:
    settings = {"embedding_size": "32", "layer_sizes": "48,32", "precision": "bf16", "weight_dropout": weight_dropout}
    config = preset_named("ptb-best-cpu").with_settings(settings)
    gradients: list[dict[str, Any]] = []
    for smallest in (10**9, 0):
        monkeypatch.setattr("lmtool.model.large_lstm._MIN_WEIGHTS", smallest)
        assert any_size == []
        torch.manual_seed(1)
        network = LanguageModel(config.architecture, 40, config.dropouts)
        state = tuple(tuple(torch.rand(6, size) - 0.5 for _ in range(2)) for size in config.layer_sizes)
        loss, *_ = Objective(network, config)(torch.randint(0, 40, (6, 20)), torch.randint(0, 40, (6, 20)), state)
        loss.backward()
        gradients.append({name: weight.grad for name, weight in network.named_parameters() if weight.grad is not None})
    assert len(any_size) == 2
    assert gradients[0].keys() == gradients[1].keys() >= {"layers.0.weight_hh_l0", "layers.1.bias_ih_l0"}
    for name, gradient in gradients[1].items():
        assert error(gradient, gradients[0][name]) < 0.02, name
        assert name.startswith("projection") or error(gradient, gradients[0][name]) > 0, name


def test_a_stopped_training_with_it_resumes_bit_for_bit(
    tmp_path: Path, corpus_folder: Path, any_size: list[int]
) -> None:
    settings = {"embedding_size": "8", "layer_sizes": "8", "steps": "5", "epochs": "2", "precision": "bf16"}
    whole = new_trainer(corpus_folder, tmp_path / "whole", settings)
    whole.train(RecordingReporter())
    stopped = new_trainer(corpus_folder, tmp_path / "stopped", settings)
    with pytest.raises(Interrupted):
        stopped.train(StopAfter(7))
    resumed_trainer(corpus_folder, tmp_path / "stopped", settings).train(RecordingReporter())
    assert len(any_size) > 14
    assert latest_weights_hash(stopped.run.path) == latest_weights_hash(whole.run.path)


@pytest.mark.usefixtures("any_size")
def test_a_network_is_evaluated_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmtool.model.network.run_large_lstm", None)
    network, ids = LanguageModel(Architecture("lstm", 5, (7, 3), tied=False), 11), torch.zeros(1, 4, dtype=torch.int64)
    network.train(False)
    with bf16_layers():
        assert network(ids, network.initial_state(1))[0].shape == (1, 4, 11)
    network.train()
    with bf16_layers(), pytest.raises(TypeError):
        network(ids, network.initial_state(1))
