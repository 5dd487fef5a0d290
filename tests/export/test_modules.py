"""Modules of PyTorch become an artifact in one call, verified against the modules themselves."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lmtool.export import ExportError, ParityError, export_module
from lmtool.export.foreign import modules as modules_file
from lmtool.export.verification import verify
from lmtool.model import WeightsError
from lmtool.model.foreign.parts import Layer
from lmtool.runtime import (
    ArgumentError,
    OptionError,
    Predictor,
    StorageError,
    Tokenization,
    Vocabulary,
    VocabularyError,
)
from support.foreign.programs import TOKENS
from torch import nn

SIZE = len(TOKENS)
CASES: dict[str, tuple[nn.RNNBase | list[nn.RNNBase], int]] = {
    "lstm": (nn.LSTM(5, 7, 2, dropout=0.5), 7),
    "lstms of two sizes, batch first": ([nn.LSTM(5, 7, batch_first=True), nn.LSTM(7, 3)], 3),
    "gru": (nn.GRU(5, 7, 2, batch_first=True), 7),
    "grus without biases": ([nn.GRU(5, 7, bias=False), nn.GRU(7, 3, 2)], 3),
    "rnn": (nn.RNN(5, 7), 7),
}


@pytest.fixture(autouse=True)
def _short_verification(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules_file, "verify", functools.partial(verify, loop_steps=20, drawn_tokens=50))


def exported(path: Path, layers: Any, width: int = 7, **options: Any) -> Predictor:
    torch.manual_seed(3)
    done = export_module(nn.Embedding(SIZE, 5), layers, nn.Linear(width, SIZE), TOKENS, path / "model.onnx", **options)
    assert done.report.passed
    return Predictor.load(done.path)


@pytest.mark.parametrize("case", CASES)
def test_an_artifact_computes_what_the_modules_compute(tmp_path: Path, case: str) -> None:
    layers, width = CASES[case]
    torch.manual_seed(3)
    embedding, projection = nn.Embedding(SIZE, 5), nn.Linear(width, SIZE)
    done = export_module(embedding, layers, projection, TOKENS, tmp_path / "model.onnx")
    assert done.report.original == "the modules"
    predictor = Predictor.load(done.path)
    activations = embedding(torch.arange(SIZE)[None])
    with torch.inference_mode():
        for layer in layers if isinstance(layers, list) else [layers]:
            first = layer.batch_first
            layer.eval()
            outputs = layer(activations if first else activations.transpose(0, 1))[0]
            activations = outputs if first else outputs.transpose(0, 1)
        expected = projection(activations)
    logits, _ = predictor.step(np.arange(SIZE)[None], predictor.initial_state(1))
    np.testing.assert_allclose(logits, expected.numpy(), atol=1e-5)
    assert predictor.vocabulary.encode("the cat\nfish") == [2, 3, 0, 1]


def test_tied_matrices_are_stored_once_and_int8_is_an_option(tmp_path: Path) -> None:
    embedding, projection = nn.Embedding(SIZE, 7), nn.Linear(7, SIZE, bias=False)
    projection.weight = embedding.weight
    done = export_module(embedding, nn.LSTM(7, 7), projection, TOKENS, str(tmp_path / "model.onnx"), precision="int8")
    artifact = Predictor.load(done.path).artifact
    assert artifact.architecture.tied
    assert artifact.precision == "int8"
    assert artifact.batch_invariant
    assert embedding.training, "the modules stay as they are"
    assert (tmp_path / "parity.int8.json").exists()


def test_a_mistake_in_reading_the_weights_refuses_the_export(tmp_path: Path, monkeypatch: Any) -> None:
    """The original is the modules themselves, so that it does not repeat the mistake."""
    read = modules_file._layer

    def wrong(module: nn.Module, number: int) -> Layer:
        layer = read(module, number)
        return layer._replace(recurrence=torch.cat([layer.recurrence.chunk(4)[at] for at in (0, 2, 1, 3)]))

    monkeypatch.setattr(modules_file, "_layer", wrong)
    with pytest.raises(ParityError, match="export of the modules does not match the original and was not written"):
        exported(tmp_path, nn.LSTM(5, 7))
    assert not (tmp_path / "model.onnx").exists()


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "bidirectional": (nn.LSTM(5, 7, bidirectional=True), ExportError, "the LSTM is bidirectional: it reads the text's"),
    "proj_size": (nn.LSTM(5, 7, proj_size=3), ExportError, "the LSTM has proj_size=3, which artifacts cannot have"),
    "relu": (nn.RNN(5, 7, nonlinearity="relu"), ExportError, "the RNN is of relu, artifacts have tanh only"),
    "none": ([], ExportError, "layers are empty, expected one nn.LSTM"),
    "batch norm": ([nn.LSTM(5, 7), nn.BatchNorm1d(7)], ArgumentError, "a layer is .*BatchNorm1d.*, expected nn.LSTM"),
    "cells": ([nn.LSTM(5, 7), nn.GRU(7, 7)], WeightsError, r"\[28, 7\], \[21, 7\], expected 4 \(lstm\)"),
    "width": (nn.LSTM(6, 7), WeightsError, r"the input weight of layer 1 is \[28, 6\], expected \[28, 5\]"),
    "projection": (nn.LSTM(5, 6), WeightsError, r"the projection is \[11, 7\], expected \[11, 6\]"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_modules_are_refused_by_name(tmp_path: Path, case: str) -> None:
    layers, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        exported(tmp_path, layers)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    embedding, layer, projection = nn.Embedding(SIZE, 5), nn.GRU(5, 7), nn.Linear(7, SIZE)
    path = tmp_path / "model.onnx"
    with pytest.raises(VocabularyError, match="the vocabulary has 10 tokens, the network 11 rows"):
        export_module(embedding, layer, projection, TOKENS[:10], path)
    with pytest.raises(OptionError, match="which of the 11 tokens is the unknown"):
        export_module(embedding, layer, projection, [f"w{number}" for number in range(SIZE)], path)
    with pytest.raises(ArgumentError, match="embedding is Linear .*, expected an Embedding"):
        export_module(projection, layer, projection, TOKENS, path)  # type: ignore[arg-type]
    with pytest.raises(ExportError, match="the embedding has max_norm=1.0"):
        export_module(nn.Embedding(SIZE, 5, max_norm=1.0), layer, projection, TOKENS, path)
    with pytest.raises(StorageError, match="there is no folder"):
        export_module(embedding, layer, projection, TOKENS, tmp_path / "none" / "model.onnx")
    with torch.no_grad():
        layer.weight_hh_l0[0, 0] = torch.nan
    with pytest.raises(WeightsError, match="'weight_hh_l0' holds numbers that are not finite"):
        export_module(embedding, layer, projection, Vocabulary(TOKENS, Tokenization("whitespace")), path)
    assert list(tmp_path.iterdir()) == []
