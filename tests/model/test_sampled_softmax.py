"""The sampled softmax: how words are drawn, and its loss against torch's and against the exact one."""

from pathlib import Path

import numpy as np
import pytest
import torch
from lmtool.model.training.candidates import Candidates, CandidateSampler
from lmtool.model.training.loss import Workspace, projection_loss
from support.runs.reporters import RecordingReporter
from support.runs.settings import SETTINGS
from support.runs.trainers import new_trainer
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

COUNTS = np.array([900, 500, 60, 40, 9, 5, 5, 3, 1, 1, 0, 0])
SIZES = [(7, 3, 4), (64, 32, 11)]
CPU = torch.device("cpu")


def tensors(tokens: int, width: int, spread: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(tokens)
    hidden = torch.randn(tokens, width, generator=generator) * spread
    weight = torch.randn(len(COUNTS), width, generator=generator)
    bias = torch.randn(len(COUNTS), generator=generator)
    targets = torch.randint(0, len(COUNTS), (tokens,), generator=generator)
    return hidden.requires_grad_(), weight.requires_grad_(), bias.requires_grad_(), targets


def plain_loss(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, candidates: Candidates) -> Tensor:
    """The sampled cross-entropy by torch's functions: each token's target first, then the other candidates."""
    logits = linear(hidden, weight, bias)
    own = logits.gather(1, targets[:, None])
    others = logits[:, candidates.ids] - candidates.log_probabilities
    others = others.masked_fill(candidates.ids == targets[:, None], -torch.inf)
    return cross_entropy(torch.cat((own, others), 1), torch.zeros_like(targets), reduction="sum")


def distance(actual: Tensor, expected: Tensor) -> float:
    return float((actual - expected).norm() / expected.norm())


@pytest.mark.parametrize("candidates", [1, 4, 11])
def test_words_are_drawn_as_often_as_their_probabilities_say(candidates: int) -> None:
    torch.manual_seed(1)
    sampler, drawn, draws = CandidateSampler(COUNTS, candidates, CPU), torch.zeros(len(COUNTS)), 4000
    probabilities = torch.zeros(len(COUNTS))
    for _ in range(draws):
        words = sampler.draw()
        assert len(words.ids) == candidates == len(set(words.ids.tolist()))
        assert words.places[words.ids].tolist() == list(range(candidates))
        assert int((words.places < 0).sum()) == len(COUNTS) - candidates
        drawn[words.ids] += 1
        probabilities[words.ids] = words.log_probabilities.exp()
    assert probabilities.sum().item() == pytest.approx(candidates, rel=1e-5)
    assert bool((probabilities[:-1] >= probabilities[1:]).all())  # the more frequent, the likelier
    deviations = (probabilities * (1 - probabilities) / draws).sqrt()
    assert bool(((drawn / draws - probabilities).abs() <= 4.5 * deviations + 1e-6).all())


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 5e-6), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("spread", [0.3, 30.0, 100.0])
def test_loss_and_gradients_equal_those_of_torch(
    sizes: tuple[int, int, int], dtype: torch.dtype, bound: float, spread: float
) -> None:
    tokens, width, drawn = sizes
    hidden, weight, bias, targets = tensors(tokens, width, spread)
    candidates = CandidateSampler(COUNTS, drawn, CPU).draw()
    assert bool((candidates.places[targets] >= 0).any())
    assert bool((candidates.places[targets] < 0).any())
    plain = plain_loss(hidden, weight, bias, targets, candidates) * 0.25
    sampled = projection_loss(hidden, weight, bias, targets, 0.25, dtype, Workspace(), candidates)
    assert sampled.item() == pytest.approx(plain.item(), rel=bound)
    expected = torch.autograd.grad(plain, (hidden, weight, bias))
    for gradient, reference in zip(torch.autograd.grad(sampled, (hidden, weight, bias)), expected, strict=True):
        assert distance(gradient, reference) < (bound if spread < 1 else 10 * bound)


def test_the_sum_and_its_gradient_are_right_on_average() -> None:
    """The estimate of a softmax's denominator, and of what it passes on, has the mean of the exact one."""
    torch.manual_seed(1)
    hidden, weight, bias, targets = tensors(1, 3, 1.0)
    parameters, sampler, draws = (hidden, weight, bias), CandidateSampler(COUNTS, 4, CPU), 6000

    def of_sum(candidates: Candidates | None) -> Tensor:
        """The sum relative to the target's exponential, and its gradients, in one vector."""
        loss = projection_loss(hidden, weight, bias, targets, 1.0, torch.float32, Workspace(), candidates)
        gradients = torch.autograd.grad(loss, parameters)
        total = loss.detach().exp()
        return torch.cat([total[None], *(total * gradient.flatten() for gradient in gradients)])

    exact, samples = of_sum(None), torch.stack([of_sum(sampler.draw()) for _ in range(draws)])
    assert float(samples.std(0)[0]) > 0.1 * float(exact[0])  # the positive control: single estimates differ
    errors = (samples.mean(0) - exact).abs()
    assert bool((errors <= 4.5 * samples.std(0) / draws**0.5 + 1e-4).all())


@pytest.mark.parametrize(("settings", "epochs"), [
    ({"sampled_softmax": "5", "epochs": "3"}, 3),
    ({"sampled_softmax": "5", "epochs": "3", "full_softmax_epochs": "2"}, 1),
    ({"sampled_softmax": "5", "epochs": "2", "full_softmax_epochs": "9"}, 0),
    ({"sampled_softmax": "1000", "epochs": "2"}, 0),  # more than the vocabulary has
    ({"epochs": "2"}, 0),
])  # fmt: skip
def test_the_epochs_before_the_last_ones_are_sampled(
    tmp_path: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], epochs: int
) -> None:
    draws, draw = [], CandidateSampler.draw

    def record_draw(sampler: CandidateSampler) -> Candidates:
        draws.append(trainer.progress.epoch)
        return draw(sampler)

    monkeypatch.setattr(CandidateSampler, "draw", record_draw)
    trainer = new_trainer(corpus_folder, tmp_path / "run", SETTINGS | settings)
    trainer.train(RecordingReporter())
    assert draws == [epoch for epoch in range(epochs) for _ in range(102)]


def test_a_sampled_softmax_learns(tmp_path: Path, corpus_folder: Path) -> None:
    """As well as the full one, but for noise: 12 of 23 words a step, and all of them in the last epoch."""
    wide = SETTINGS | {"embedding_size": "16", "layer_sizes": "16,12", "learning_rate": "0.01", "epochs": "3"}
    perplexities = []
    for settings in ({}, {"sampled_softmax": "12", "full_softmax_epochs": "1"}):
        trainer = new_trainer(corpus_folder, tmp_path / str(len(settings)), wide | settings)
        trainer.train(RecordingReporter())
        perplexities.append(trainer.progress.best_valid)
    full, sampled = perplexities
    assert sampled == pytest.approx(full, rel=0.06)
