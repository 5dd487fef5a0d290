"""Compare int8 with static scales, which lmtool exports, with dynamic scales, which it exported before, and fp32.

    python bench/studies/int8_schemes.py [--sizes 200,200] [--vocabulary 10000] [--cell lstm] [--rounds N]

Networks have random weights, which do not affect times. Sessions have the predictor's settings and one thread; in every
round the graphs take turns in both orders, and each figure is the median of its calls in that round. Dynamic scales are
onnxruntime's own (DynamicQuantizeLSTM and MatMulInteger), for LSTM layers only. A call `a x b` has a streams of b
tokens; `last` keeps the logits of the last token only.
"""

import argparse
import functools
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from common.program import run_program
from lmtool.bench.environment import describe_environment
from lmtool.export import BuildOptions, build_model
from lmtool.model.network import LanguageModel
from lmtool.runtime.artifact.architecture import Architecture
from lmtool.runtime.artifact.artifact import LOGITS_TO_KEEP, TOKEN_IDS
from lmtool.runtime.io.text_table import text_table
from lmtool.runtime.session.providers import PROVIDERS
from lmtool.runtime.session.session import SessionOptions, start_session
from onnxruntime.quantization import QuantType, quantize_dynamic

CALLS = ((1, 1, 0), (8, 1, 0), (64, 1, 0), (256, 1, 0), (8, 128, 0), (1, 128, 0), (1, 512, 0), (1, 512, 1))
"""Streams, tokens of each, and positions whose logits are kept (0: all)."""

_GRAPHS = ("fp32", "dynamic", "static")
_HEADER = ("call", *(f"{graph}, us" for graph in _GRAPHS), "fp32 over static", "static over dynamic")
_SECONDS_A_ROUND = 0.15


def dynamic_int8(model: onnx.ModelProto, *, unsigned: bool = False) -> onnx.ModelProto:
    """An fp32 model of an untied network with scales that onnxruntime computes at run time over the whole tensor.

    Args:
        model: The fp32 model.
        unsigned: Store the projection's weights as uint8.
    """
    projection = QuantType.QUInt8 if unsigned else QuantType.QInt8
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        layers = _quantized(model, ["LSTM", "Gather"], QuantType.QInt8, per_channel=True)
        return _quantized(layers, ["MatMul"], projection, per_channel=False)
    finally:
        logging.disable(before)


def _quantized(
    model: onnx.ModelProto, operators: list[str], weight_type: QuantType, *, per_channel: bool
) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "quantized.onnx"
        quantize_dynamic(model, path, per_channel=per_channel, weight_type=weight_type, op_types_to_quantize=operators)
        return onnx.load(path)


def make_sessions(architecture: Architecture, vocabulary: int) -> dict[str, Any]:
    """A session of each graph over one network."""
    network = LanguageModel(architecture, vocabulary)
    network.initialize(0.05, torch.Generator().manual_seed(1))
    fp32, static = (build_model(network.eval(), BuildOptions(precision)) for precision in ("fp32", "int8"))
    models = {"fp32": fp32, "dynamic": dynamic_int8(fp32) if architecture.cell == "lstm" else None, "static": static}
    return {
        name: start_session(
            model.SerializeToString(), PROVIDERS["cpu"], SessionOptions(), guard_saturation=name != "static"
        )
        for name, model in models.items()
        if model is not None
    }


def measure(
    sessions: Mapping[str, Any], feeds: Mapping[str, np.ndarray], rounds: int, seconds: float = _SECONDS_A_ROUND
) -> dict[str, list[float]]:
    """Seconds of a call of each session: the median of every round."""
    medians: dict[str, list[float]] = {name: [] for name in sessions}
    for index in range(rounds):
        for name in sorted(sessions, reverse=index % 2 == 1):
            medians[name].append(_median_call(functools.partial(sessions[name].run, None, feeds), seconds))
    return medians


def _median_call(call: Callable[[], object], seconds: float) -> float:
    call()
    times: list[float] = []
    while sum(times) < seconds or len(times) < 3:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def inputs_of(architecture: Architecture, vocabulary: int, batch: int, tokens: int, kept: int) -> dict[str, np.ndarray]:
    """Random inputs of a call."""
    random = np.random.default_rng(0)
    states = {
        name: random.uniform(-1, 1, (batch, width)).astype(np.float32) for name, width in architecture.states.items()
    }
    keep = {LOGITS_TO_KEEP: np.array([kept])}
    return {TOKEN_IDS: random.integers(0, vocabulary, (batch, tokens)), **states, **keep}


def row_of(call: tuple[int, int, int], medians: Mapping[str, list[float]]) -> tuple[str, ...]:
    """A row of the table: the call, microseconds of each graph, and ratios within the rounds with their ranges."""
    batch, tokens, kept = call
    name = f"{batch} x {tokens}{', last' if kept else ''}"
    times = (f"{statistics.median(medians[graph]) * 1e6:,.0f}" if graph in medians else "-" for graph in _GRAPHS)
    return (name, *times, _ratio(medians, "fp32", "static"), _ratio(medians, "static", "dynamic"))


def _ratio(medians: Mapping[str, list[float]], slow: str, fast: str) -> str:
    if not {slow, fast} <= medians.keys():
        return "-"
    ratios = [above / below for above, below in zip(medians[slow], medians[fast], strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="200,200", help="hidden size of each layer; the first is the embedding's")
    parser.add_argument("--vocabulary", type=int, default=10_000, help="number of tokens")
    parser.add_argument("--cell", default="lstm", help="lstm, gru or rnn")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of all graphs")
    options = parser.parse_args()
    sizes = tuple(map(int, options.sizes.split(",")))
    architecture = Architecture(options.cell, sizes[0], sizes, False)
    sessions = make_sessions(architecture, options.vocabulary)
    environment = describe_environment()
    print(f"{environment['processor']}, one thread, {options.cell} {options.sizes}, {options.vocabulary:,} tokens")
    rows = [_HEADER]
    for call in CALLS:
        feeds = inputs_of(architecture, options.vocabulary, *call)
        rows.append(row_of(call, measure(sessions, feeds, options.rounds)))
    print("\n".join(text_table(rows, ">")))


if __name__ == "__main__":
    run_program(main)
