"""Small networks with unequal sizes, their artifacts, and comparison of both."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from lmtool.export import BuildOptions, build_model
from lmtool.export.build import seal
from lmtool.model import LanguageModel
from lmtool.model.network import state_tensors
from lmtool.runtime import PROVIDERS, Architecture, Predictor, Tokenization, Vocabulary
from lmtool.runtime.session.session import SessionOptions, start_session

TOLERANCES = {"fp32": 1e-5, "fp16": 0.02, "int8": 0.1}
"""Precision -> largest difference of a logit or state of these networks from torch's."""


def network_of(
    layer_sizes: tuple[int, ...], *, tied: bool = False, vocabulary: int = 11, cell: str = "lstm"
) -> LanguageModel:
    network = LanguageModel(Architecture(cell, 5, layer_sizes, tied), vocabulary)
    network.initialize(0.5, torch.Generator().manual_seed(3))
    for name, parameter in network.named_parameters():
        if "bias" in name:  # zeros would hide a bias that is lost
            torch.nn.init.uniform_(parameter, -0.5, 0.5, torch.Generator().manual_seed(4))
    return network.eval()


def random_inputs(network: LanguageModel, batch: int, time: int) -> tuple[np.ndarray, Any, dict[str, np.ndarray]]:
    """Random tokens [batch, time] and a random state, for torch and under the artifact's names."""
    tokens = np.random.default_rng(batch * 10 + time).integers(0, network.vocabulary_size, (batch, time))
    generator = torch.Generator().manual_seed(batch)
    state = tuple(
        tuple(torch.rand(tensor.shape, generator=generator) - 0.5 for tensor in layer)
        for layer in network.initial_state(batch)
    )
    return tokens, state, {name: tensor.numpy() for name, tensor in state_tensors(state).items()}


def assert_same_outputs(
    network: LanguageModel, tokens: np.ndarray, state: Any, logits: np.ndarray, states: Any
) -> None:
    with torch.inference_mode():
        expected, expected_state = network(torch.from_numpy(tokens), state)
    np.testing.assert_allclose(logits, expected.numpy(), atol=TOLERANCES["fp32"])
    expected_states = state_tensors(expected_state)
    for name, tensor in zip(sorted(expected_states), states, strict=True):
        np.testing.assert_allclose(tensor, expected_states[name].numpy(), atol=TOLERANCES["fp32"])


def run_model(model: onnx.ModelProto, tokens: np.ndarray, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    # Half precision crashes onnxruntime's CPU provider with every optimization.
    session = start_session(model.SerializeToString(), PROVIDERS["cpu"], SessionOptions(), "ORT_ENABLE_EXTENDED")
    inputs = {value.name for value in session.get_inputs()}
    return session.run(None, {name: value for name, value in {"token_ids": tokens, **feeds}.items() if name in inputs})


def artifact_of(
    network: LanguageModel,
    tokens: list[str],
    rule: str | Tokenization,
    graph_precision: str = "fp32",
    change: Callable[[onnx.ModelProto, dict[str, str]], None] | None = None,
    **metadata: str,
) -> bytes:
    """An untrained, unverified artifact of a network and a vocabulary.

    `metadata` replaces entries, named without the prefix `lmtool.`; then `change` is called, before the hash.
    """
    tokenization = Tokenization.of_rule(rule) if isinstance(rule, str) else rule
    vocabulary = Vocabulary(tokens, tokenization)
    entries = {
        "lmtool.format": "1",
        "lmtool.model": json.dumps(network.architecture.to_json()),
        "lmtool.vocabulary": vocabulary.tokens_json(),
        "lmtool.vocabulary_sha256": vocabulary.sha256,
        "lmtool.tokenization": json.dumps(vocabulary.tokenization.to_json()),
        "lmtool.precision": graph_precision,
        "lmtool.batch_invariant": "true",
        "lmtool.training": "{}",
        "lmtool.parity": "{}",
    }
    entries |= {f"lmtool.{key}": value for key, value in metadata.items()}
    model = build_model(network, BuildOptions(graph_precision))
    if change is not None:
        change(model, entries)
    return seal(model, entries)


def predictor_of(network: LanguageModel, tokens: list[str], rule: str | Tokenization) -> Predictor:
    """The artifact of `artifact_of`, loaded."""
    return Predictor.load(artifact_of(network, tokens, rule))


def count_tokens(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list to which every later call of the network appends its number of tokens."""
    counts: list[int] = []
    run = predictor.network.run

    def counted_run(token_ids: Any, *arguments: Any, **options: Any) -> Any:
        counts.append(len(token_ids[0]))
        return run(token_ids, *arguments, **options)

    monkeypatch.setattr(predictor.network, "run", counted_run)
    return counts
