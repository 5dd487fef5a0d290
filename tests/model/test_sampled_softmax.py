"""The sampled softmax: how tokens are drawn, and its loss against torch's and against the exact one."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from lmtool.model.training.candidates import Candidates, CandidateSampler
from lmtool.model.training.loss import Workspace, projection_loss
from support.loss_inputs import distance, loss_inputs
from support.runs.reporters import RecordingReporter
from support.runs.settings import SETTINGS
from support.runs.trainers import new_trainer
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

COUNTS = np.array([5, 900, 500, 60, 1, 40, 9, 0, 5, 3, 1, 0])
CPU = torch.device("cpu")


def sampled_logits(inputs: tuple[Tensor, ...], candidates: Candidates) -> Tensor:
    """By torch's functions: the target's logit first, then those of the candidates that are other tokens."""
    hidden, weight, bias, targets = inputs
    logits = linear(hidden, weight, bias)
    own = logits.gather(1, targets[:, None])
    others = logits[:, candidates.ids] - candidates.log_probabilities
    return torch.cat((own, others.masked_fill(candidates.ids == targets[:, None], -torch.inf)), 1)


@pytest.mark.parametrize("candidates", [1, 4, 11])
def test_tokens_are_drawn_as_often_as_their_probabilities_say(candidates: int) -> None:
    torch.manual_seed(1)
    sampler, drawn, draws = CandidateSampler(COUNTS, candidates, CPU), torch.zeros(len(COUNTS)), 4000
    probabilities = torch.zeros(len(COUNTS))
    for _ in range(draws):
        tokens = sampler.draw()
        assert len(tokens.ids) == candidates == len(tokens.ids.unique())
        drawn[tokens.ids] += 1
        probabilities[tokens.ids] = tokens.log_probabilities.exp()
    assert probabilities.sum().item() == pytest.approx(candidates, rel=1e-5)
    by_count = probabilities[np.argsort(-COUNTS, kind="stable")]
    assert bool((by_count[:-1] >= by_count[1:] - 1e-6).all())
    deviations = (probabilities * (1 - probabilities) / draws).sqrt()
    assert bool(((drawn / draws - probabilities).abs() <= 4.5 * deviations + 1e-6).all())


def test_a_large_vocabulary_gives_the_number_of_distinct_tokens() -> None:
    torch.manual_seed(1)
    counts = np.random.default_rng(1).permutation((1e7 / np.arange(1, 100_001)).astype(np.int64))
    sampler = CandidateSampler(counts, 2500, CPU)
    for _ in range(100):
        ids = sampler.draw().ids
        assert len(ids) == 2500
        assert bool((ids[1:] > ids[:-1]).all())


@pytest.mark.parametrize(("tokens", "width", "drawn"), [(7, 3, 4), (64, 32, 11)])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 5e-6), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("spread", [0.3, 2.0, 300.0])
def test_loss_and_gradients_equal_those_of_torch(
    tokens: int, width: int, drawn: int, dtype: torch.dtype, bound: float, spread: float
) -> None:
    torch.manual_seed(1)
    hidden, weight, bias, targets = inputs = loss_inputs(tokens, width, len(COUNTS), spread)
    candidates = CandidateSampler(COUNTS, drawn, CPU).draw()
    logits = sampled_logits(inputs, candidates)
    among = torch.isin(targets, candidates.ids)
    assert bool(among.any())  # both kinds of targets
    assert not bool(among.all())
    largest = (logits - logits[:, :1]).max().item()
    assert (largest > math.log(1e30)) == (spread == 300.0)  # only then the largest logit is looked for
    plain = cross_entropy(logits, torch.zeros_like(targets), reduction="sum") * 0.25
    sampled = projection_loss(hidden, weight, bias, targets, 0.25, dtype, Workspace(), candidates)
    assert sampled.item() == pytest.approx(plain.item(), rel=bound)
    expected = torch.autograd.grad(plain, (hidden, weight, bias))
    for gradient, reference in zip(torch.autograd.grad(sampled, (hidden, weight, bias)), expected, strict=True):
        assert distance(gradient, reference) < (bound if spread < 1 else 10 * bound)


def test_the_sum_and_its_gradient_are_right_on_average() -> None:
    """The estimate of a softmax's denominator, and of what it passes on, has the mean of the exact one."""
    torch.manual_seed(1)
    hidden, weight, bias, targets = loss_inputs(1, 3, len(COUNTS), 1.0)
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
    ({"sampled_softmax": "5", "epochs": "4"}, 3),
    ({"sampled_softmax": "5", "epochs": "3", "full_softmax_share": "0"}, 3),
    ({"sampled_softmax": "5", "epochs": "3", "full_softmax_share": "0.5"}, 2),
    ({"sampled_softmax": "5", "epochs": "2", "full_softmax_share": "0.99"}, 1),
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
