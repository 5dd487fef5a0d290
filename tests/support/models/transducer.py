"""A streaming transducer with random weights: a speech recognizer for sherpa-onnx, to use a language model with.

sherpa-onnx contains another onnxruntime, so only a separate process imports it (`recognition`).
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TIMEOUT_SECONDS = 120
FEATURES = 80
CHUNK_FRAMES = 8
JOINED_FRAMES = 4
WIDTH = 6
CONTEXT = 2
STATES = {"h": 3, "c": 4}

CompletedProcess = subprocess.CompletedProcess[str]


def write_transducer(folder: Path, tokens: list[str]) -> Path:
    """Write encoder.onnx, decoder.onnx, joiner.onnx and tokens.txt. Token 0 is the blank.

    Every frame emits a token: the blank and the unknown token, which is skipped too, have almost no probability.
    """
    random = np.random.default_rng(5)
    lines = [f"{token} {index}\n" for index, token in enumerate(tokens)]
    (folder / "tokens.txt").write_text("".join(lines), encoding="utf-8")
    for name, model in (
        ("encoder", _encoder(random)),
        ("decoder", _decoder(random, len(tokens))),
        ("joiner", _joiner(random, tokens)),
    ):
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, folder / f"{name}.onnx")
    return folder


def recognize(folder: Path, language_model: Path, scales: list[float]) -> CompletedProcess:
    """Decode the same noise once for each scale; stdout is JSON, a list of tokens, lm_probs and text."""
    script = Path(__file__).with_name("recognition.py")
    command = [sys.executable, str(script), str(folder), str(language_model), json.dumps(scales)]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)


def _encoder(random: np.random.Generator) -> onnx.ModelProto:
    """Turns every four frames of features into one vector; the states pass through."""
    joined = CHUNK_FRAMES // JOINED_FRAMES
    constants = {
        "shape": np.array([-1, joined, JOINED_FRAMES * FEATURES]),
        "weight": random.normal(0, 0.02, (JOINED_FRAMES * FEATURES, WIDTH)),
    }
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["joined"]),
        helper.make_node("MatMul", ["joined", "weight"], ["product"]),
        helper.make_node("Tanh", ["product"], ["encoder_out"]),
        *(helper.make_node("Identity", [name], [f"next_{name}"]) for name in STATES),
    ]
    states = {name: ["layers", "batch", width] for name, width in STATES.items()}
    inputs: dict[str, Any] = {"x": ["batch", CHUNK_FRAMES, FEATURES], **states}
    outputs = {
        "encoder_out": ["batch", joined, WIDTH],
        **{f"next_{name}": shape for name, shape in states.items()},
    }
    metadata = {
        "model_type": "lstm",
        "num_encoder_layers": 1,
        "T": CHUNK_FRAMES,
        "decode_chunk_len": CHUNK_FRAMES,
        "d_model": STATES["h"],
        "rnn_hidden_size": STATES["c"],
    }
    return _model(nodes, inputs, outputs, constants, metadata)


def _decoder(random: np.random.Generator, tokens: int) -> onnx.ModelProto:
    """Averages the vectors of the last tokens; a stream begins with token -1, which is the last row."""
    nodes = [
        helper.make_node("Gather", ["table", "y"], ["vectors"], axis=0),
        helper.make_node("ReduceMean", ["vectors"], ["decoder_out"], axes=[1], keepdims=0),
    ]
    constants = {"table": random.normal(0, 0.5, (tokens, WIDTH))}
    metadata = {"vocab_size": tokens, "context_size": CONTEXT}
    return _model(nodes, {"y": ["batch", CONTEXT]}, {"decoder_out": ["batch", WIDTH]}, constants, metadata)


def _joiner(random: np.random.Generator, tokens: list[str]) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Add", ["encoder_out", "decoder_out"], ["sum"]),
        helper.make_node("MatMul", ["sum", "weight"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logit"]),
    ]
    bias = np.array([-1e4 if token in (tokens[0], "<unk>") else 0 for token in tokens])
    constants = {"weight": random.normal(0, 0.5, (WIDTH, len(tokens))), "bias": bias}
    inputs = {name: ["batch", WIDTH] for name in ("encoder_out", "decoder_out")}
    return _model(nodes, inputs, {"logit": ["batch", len(tokens)]}, constants, {})


def _model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, Any],
    outputs: dict[str, Any],
    constants: dict[str, np.ndarray],
    metadata: dict[str, object],
) -> onnx.ModelProto:
    kinds = {"y": TensorProto.INT64}
    values = [
        [helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), shape) for name, shape in side.items()]
        for side in (inputs, outputs)
    ]
    initializers = [
        numpy_helper.from_array(value if value.dtype == np.int64 else value.astype(np.float32), name)
        for name, value in constants.items()
    ]
    graph = helper.make_graph(nodes, "transducer", *values, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {key: str(value) for key, value in metadata.items()})
    return model
