"""Models of Keras become runs, with their gates in torch's order and their kernels transposed."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from lmtool.model import Imported, ImportOptions, Run, WeightsError, import_weights
from lmtool.runtime import OptionError
from support.foreign.keras_files import keras_layers, write_keras
from support.foreign.programs import TOKENS, Program, one_module

NAMES = ("embedding", "recurrent", "dense")


def imported(tmp_path: Path, file: Path, **options: Any) -> Imported:
    (tmp_path / "tokens.json").write_text(json.dumps(TOKENS))
    return import_weights(ImportOptions(file, tmp_path / f"run{file.suffix}", tmp_path / "tokens.json", **options))


def largest_difference(program: Program, run: Path) -> float:
    token_ids = torch.from_numpy(np.random.default_rng(1).integers(0, len(TOKENS), (3, 9)))
    network, _ = Run(run).trained()
    with torch.inference_mode():
        return float((network(token_ids, network.initial_state(3))[0] - program(token_ids)).abs().max())


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_a_model_computes_the_same(tmp_path: Path, cell: str, suffix: str) -> None:
    program = one_module(cell, NAMES)
    layers, arrays = keras_layers(program, cell)
    done = imported(tmp_path, write_keras(tmp_path / f"model{suffix}", layers, arrays))
    assert (done.layout, done.architecture.cell, done.architecture.layer_sizes) == ("keras", cell, (7, 7))
    assert largest_difference(program, done.run) < 1e-5


def test_the_comparison_finds_exchanged_gates(tmp_path: Path) -> None:
    """The positive control."""
    program = one_module("gru", NAMES)
    layers, arrays = keras_layers(program, "gru")
    arrays[2][1] = arrays[2][1][:, [*range(7, 14), *range(7), *range(14, 21)]]
    run = imported(tmp_path, write_keras(tmp_path / "model.keras", layers, arrays)).run
    assert largest_difference(program, run) > 0.01


def test_masked_tokens_are_pointed_out(tmp_path: Path) -> None:
    layers, arrays = keras_layers(one_module("lstm", NAMES), "lstm")
    layers[1]["config"]["mask_zero"] = True
    done = imported(tmp_path, write_keras(tmp_path / "model.keras", layers, arrays))
    assert "token 0 was masked" in done.notes[0]


@pytest.mark.parametrize(
    ("cell", "changes", "message"),
    [
        (
            "gru",
            {"reset_after": False},
            r"layer 'my_gru_0' \(GRU\) has reset_after=False, artifacts can only have True",
        ),
        ("lstm", {"recurrent_activation": "hard_sigmoid"}, "has recurrent_activation='hard_sigmoid'"),
        ("rnn", {"activation": "relu"}, "has activation='relu', artifacts can only have 'tanh'"),
        ("lstm", {"go_backwards": True}, "has go_backwards=True"),
    ],
)
def test_other_computations_are_refused_by_name(
    tmp_path: Path, cell: str, changes: dict[str, Any], message: str
) -> None:
    layers, arrays = keras_layers(one_module(cell, NAMES), cell)
    layers[2]["config"] |= changes
    with pytest.raises(WeightsError, match=message):
        imported(tmp_path, write_keras(tmp_path / "model.keras", layers, arrays))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Bidirectional", "bidirectional: .*its layers: InputLayer 'my_inputlayer', Embedding"),
        ("Attention", "cannot have its layer Attention at this place"),
        ("Dense", "expected one Dense of softmax after the recurrent layers"),
    ],
)
def test_other_layers_are_refused_by_name(tmp_path: Path, name: str, message: str) -> None:
    layers, arrays = keras_layers(one_module("lstm", NAMES), "lstm")
    layers[2]["class_name"] = name
    with pytest.raises(WeightsError, match=message):
        imported(tmp_path, write_keras(tmp_path / "model.h5", layers, arrays))


def test_layers_that_are_no_chain_are_refused(tmp_path: Path) -> None:
    layers, arrays = keras_layers(one_module("lstm", NAMES, 5), "lstm")
    names = [layer["config"]["name"] for layer in layers]
    old = [[[[name, 0, 0, {}]]] for name in names]
    new = [[{"args": [{"config": {"keras_history": [name, 0, 0]}}], "kwargs": {}}] for name in names]
    for form, suffix in ((old, ".h5"), (new, ".keras")):
        for layer, nodes in zip(layers[1:], form, strict=False):
            layer["inbound_nodes"] = nodes
        assert imported(tmp_path, write_keras(tmp_path / f"model{suffix}", layers, arrays)).layout == "keras"
        layers[3]["inbound_nodes"] = form[1]  # the second layer reads the embedding
        with pytest.raises(WeightsError, match="'my_lstm_1' reads my_embedding, expected a chain of layers"):
            imported(tmp_path, write_keras(tmp_path / f"branch{suffix}", layers, arrays))


def test_weights_without_their_model_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "model.weights.h5", "w") as file:
        file["layers/lstm/cell/vars/0"] = np.ones((2, 8))
    with pytest.raises(
        WeightsError, match=r"weights without their model; save the whole model: model.save\('model.ker"
    ):
        imported(tmp_path, tmp_path / "model.weights.h5")


def test_a_file_does_not_read_others(tmp_path: Path) -> None:
    """HDF5 knows links to other files and arrays whose numbers lie in other files."""
    layers, arrays = keras_layers(one_module("lstm", NAMES), "lstm")
    secret = tmp_path / "secret"
    secret.write_bytes(arrays[1][0].tobytes())
    path = write_keras(tmp_path / "model.h5", layers, arrays)
    place = "model_weights/my_embedding/my_model/my_embedding/kernel:0"
    with h5py.File(path, "a") as file:
        del file[place]
        file.create_dataset(place, (11, 5), "f4", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])
        assert file[place][()].tolist() == arrays[1][0].tolist()  # the positive control: h5py reads it
    with pytest.raises(WeightsError, match="kernel:0' is no array within the file"):
        imported(tmp_path, path)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = arrays[1][0]
    with h5py.File(path, "a") as file:
        del file[place]
        file[place] = h5py.ExternalLink(str(tmp_path / "other.h5"), "x")
        assert file[place][()].tolist() == arrays[1][0].tolist()
    with pytest.raises(WeightsError, match="kernel:0' is a link, which is not followed"):
        imported(tmp_path, path)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    layers, arrays = keras_layers(one_module("lstm", NAMES), "lstm")
    for suffix in (".keras", ".h5"):
        data = write_keras(tmp_path / f"model{suffix}", layers, arrays).read_bytes()
        for size in range(len(data) // 7, len(data), len(data) // 7):
            (tmp_path / f"cut{suffix}").write_bytes(data[:size])
            with pytest.raises(WeightsError):
                imported(tmp_path, tmp_path / f"cut{suffix}")


def test_content_that_expands_is_refused(tmp_path: Path) -> None:
    content = io.BytesIO()
    layers, _ = keras_layers(one_module("lstm", NAMES), "lstm")
    with h5py.File(content, "w") as file:
        group = file.create_group("layers/embedding/vars")
        group.create_dataset("0", (2**28, 5), "f4", chunks=(2**16, 5), compression="gzip")  # all zeros
    with zipfile.ZipFile(tmp_path / "bomb.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", json.dumps({"class_name": "Sequential", "config": {"layers": layers[:2]}}))
        archive.writestr("model.weights.h5", content.getvalue())
    with pytest.raises(WeightsError, match="5,368,709,120 bytes in float32, one ONNX file holds at most"):
        imported(tmp_path, tmp_path / "bomb.keras")
    with zipfile.ZipFile(tmp_path / "zeros.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", json.dumps({"class_name": "Sequential", "config": {"layers": []}}))
        archive.writestr("model.weights.h5", bytes(2**23))
    with pytest.raises(WeightsError, match=r"model.weights.h5 has 8,388,608 bytes, expected .* at most"):
        imported(tmp_path, tmp_path / "zeros.keras")


def test_options_of_other_layouts_do_not_go_with_it(tmp_path: Path) -> None:
    path = write_keras(tmp_path / "model.keras", *keras_layers(one_module("lstm", NAMES), "lstm"))
    with pytest.raises(OptionError, match="is a model of Keras, whose layout is keras; leave the options out"):
        imported(tmp_path, path, layout="fastai")
