"""Models as Keras writes them, from the weights of PyTorch's modules: `.keras` (version 3) and `.h5` (version 2)."""

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from torch import Tensor

from support.foreign.programs import EMBEDDING, VOCABULARY, Program

Layer = dict[str, Any]
_CLASSES = {"lstm": "LSTM", "gru": "GRU", "rnn": "SimpleRNN"}
_FOLDERS = {"LSTM": "lstm", "GRU": "gru", "SimpleRNN": "simple_rnn", "Embedding": "embedding", "Dense": "dense"}
_PARTS = ("kernel", "recurrent_kernel", "bias")


def keras_layers(program: Program, cell: str, **changes: Any) -> tuple[list[Layer], list[list[np.ndarray]]]:
    """Configurations and weights of the layers; `changes` are settings of the recurrent ones.

    Args:
        program: Its layers are in one module, with biases; of an LSTM or RNN the second bias is added to the first.
        cell: lstm, gru or rnn.
        changes: Settings.
    """
    weights = {name: tensor.detach() for name, tensor in program.state_dict().items()}
    embedding, recurrent, projection = program.names
    configs: list[Layer] = [_config("InputLayer"), _config("Embedding", input_dim=VOCABULARY, output_dim=EMBEDDING)]
    arrays: list[list[np.ndarray]] = [[], [weights[f"{embedding}.weight"].numpy()]]
    for index in range(2):
        named = [weights[f"{recurrent}.{kind}_l{index}"] for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        gates = {"activation": "tanh", "recurrent_activation": "sigmoid"} if cell != "rnn" else {"activation": "tanh"}
        gates |= {"reset_after": True} if cell == "gru" else {}
        configs.append(_config(_CLASSES[cell], f"_{index}", **gates, **changes))
        arrays.append(_recurrent(cell, named))
    configs += [_config("Dropout", rate=0.5), _config("Dense", units=VOCABULARY, activation="softmax")]
    arrays += [[], [weights[f"{projection}.weight"].T.numpy(), weights[f"{projection}.bias"].numpy()]]
    return configs, arrays


def _config(name: str, suffix: str = "", **settings: Any) -> Layer:
    return {"class_name": name, "config": {"name": f"my_{name.lower()}{suffix}", **settings}}


def _recurrent(cell: str, tensors: Sequence[Tensor]) -> list[np.ndarray]:
    kernel, recurrence, *biases = (_keras_gates(cell, tensor.numpy()).T for tensor in tensors)
    return [kernel, recurrence, np.stack(biases) if cell == "gru" else biases[0] + biases[1]]


def _keras_gates(cell: str, array: np.ndarray) -> np.ndarray:
    """Keras has a GRU's update gate before its reset gate."""
    if cell != "gru":
        return array
    reset, update, new = np.split(array, 3)
    return np.concatenate([update, reset, new])


def write_keras(path: Path, layers: list[Layer], arrays: list[list[np.ndarray]]) -> Path:
    """A file of version 3, or for `.h5` of version 2."""
    model = {"class_name": "Sequential", "config": {"name": "my_model", "layers": layers}}
    if path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file.attrs["model_config"] = json.dumps(model)
            for layer, weights in zip(layers, arrays, strict=True):
                name = layer["config"]["name"]
                group = file.create_group(f"model_weights/{name}")
                names = [f"my_model/{name}/{part}:0" for part in _PARTS[: len(weights)]]
                group.attrs["weight_names"] = [each.encode() for each in names]
                for each, array in zip(names, weights, strict=True):
                    group[each] = array
        return path
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        counts: dict[str, int] = {}
        for layer, weights in zip(layers, arrays, strict=True):
            name = _FOLDERS.get(layer["class_name"], layer["class_name"].lower())
            number = counts[name] = counts.get(name, -1) + 1
            inner = "cell/vars" if layer["class_name"] in _CLASSES.values() else "vars"
            group = file.create_group(f"layers/{name}{f'_{number}' if number else ''}/{inner}")
            for index, array in enumerate(weights):
                group[str(index)] = array
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", json.dumps(model))
        archive.writestr("model.weights.h5", content.getvalue())
    return path
