"""Measure forward and backward pass of one LSTM layer in bf16: torch's, and that of `model/large_lstm.py`.

    python bench/studies/large_lstm.py [--threads N] [--rounds N]

Both take turns in each round, with the same random numbers. A ratio is that of one round; the table has the medians of
the rounds with their quartiles, and how far the gradients of inputs and weights are from those in fp32 (norm of the
difference over that of the gradient, the largest, in the last round).
"""

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from common.program import run_program
from lmtool.bench.environment import describe_environment
from lmtool.model.large_lstm import run_large_lstm
from lmtool.model.training.device import bf16_layers
from lmtool.runtime.io.text_table import text_table
from torch import Tensor

LAYERS = [(16, 48, 256, 512), (20, 35, 650, 650), (16, 48, 400, 800), (20, 35, 1150, 1150), (20, 35, 1500, 1500)]
"""Batch, time steps, width of the inputs, units."""
_WARM_UP = 2

Run = Callable[..., Any]


def _torch_layer(inputs: Tensor, state: tuple[Tensor, Tensor], weights: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return torch.lstm(inputs, state, weights, True, 1, 0.0, True, False, True)


def _step(run: Run, numbers: list[Tensor], factors: Tensor, *, bf16: bool) -> tuple[float, list[Tensor]]:
    """Seconds of a forward and a backward pass, and the gradients of inputs and weights."""
    inputs, hidden, cell, *weights = (number.clone().requires_grad_() for number in numbers)
    weights[3].requires_grad_(False)
    began = time.perf_counter()
    with bf16_layers() if bf16 else nullcontext():
        outputs, *_ = run(inputs, (hidden, cell), tuple(weights))
    (outputs * factors).sum().backward()
    seconds = time.perf_counter() - began
    return seconds, [number.grad for number in (inputs, *weights[:2]) if number.grad is not None]


def _measure(batch: int, steps: int, width: int, units: int, rounds: int) -> list[str]:
    """The row of a layer."""
    bound = units**-0.5
    shapes = [(batch, steps, width), (1, batch, units), (1, batch, units), (4 * units, width), (4 * units, units)]
    numbers = [torch.randn(shape) * 0.5 for shape in shapes[:3]]
    numbers += [torch.empty(shape).uniform_(-bound, bound) for shape in shapes[3:]]
    numbers += [torch.zeros(4 * units), torch.zeros(4 * units)]
    factors = torch.randn(batch, steps, units) / (batch * steps)
    _, exact = _step(_torch_layer, numbers, factors, bf16=False)
    seconds: dict[str, list[float]] = {"torch": [], "ours": []}
    errors: dict[str, float] = {}
    for index in range(_WARM_UP + rounds):
        for name, run in (("torch", _torch_layer), ("ours", run_large_lstm)):
            taken, gradients = _step(run, numbers, factors, bf16=True)
            errors[name] = max(_distance(found, expected) for found, expected in zip(gradients, exact, strict=True))
            if index >= _WARM_UP:
                seconds[name].append(taken)
    ratios = [before / after for before, after in zip(seconds["torch"], seconds["ours"], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    milliseconds = [f"{1000 * statistics.median(values):.1f}" for values in seconds.values()]
    distances = [f"{value:.2%}" for value in errors.values()]
    return [
        f"{batch} x {steps}",
        f"{width}",
        f"{units}",
        *milliseconds,
        f"{middle:.2f} ({low:.2f} to {high:.2f})",
        *distances,
    ]


def _distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def main() -> None:
    """Measure all layers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of torch")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of each layer, 2 or more")
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error(f"--rounds is {options.rounds}, expected 2 or more")
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    header = ["batch x steps", "width", "units", "torch, ms", "ours, ms", "times as fast", "torch off", "ours off"]
    rows = [header, *(_measure(*layer, options.rounds) for layer in LAYERS)]
    print(f"{describe_environment()['processor']}, threads: {options.threads}", *text_table(rows, "<>"), sep="\n")


if __name__ == "__main__":
    run_program(main)
