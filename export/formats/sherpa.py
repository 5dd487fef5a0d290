"""Export under the names that icefall and sherpa-onnx give a streaming RNN language model.

Inputs `x` int64 [batch, time], `h0` and `c0` float32 [layers, batch, hidden]; outputs `log_softmax` float32
[batch, vocabulary] of the token after the last one, `next_h0`, `next_c0`; metadata `num_layers`, `hidden_size`,
`sos_id`.
sherpa-onnx takes inputs and outputs in this order, for shallow fusion (https://github.com/k2-fsa/sherpa-onnx). It reads
and scores the recognizer's token ids, except the blank, 0.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from ...model.network import LanguageModel
from ...runtime.artifact.artifact import LOGITS, LOGITS_TO_KEEP, NEXT, TOKEN_IDS
from ...runtime.session.providers import PROVIDERS
from ...runtime.session.session import SessionOptions, start_session
from ...runtime.vocabulary import Vocabulary
from ..build import BuildOptions, build_model
from ..errors import ExportError

_LOOP_STEPS = 200
_STATES = {"h0": "hidden", "c0": "cell"}
"""sherpa-onnx's name of a stacked state -> the artifact's name, without the layer."""


def build_sherpa_model(
    network: LanguageModel, vocabulary: Vocabulary, opset: int, ids: Sequence[int] | None = None
) -> onnx.ModelProto:
    """Build the checked fp32 model with its metadata.

    Args:
        network: A network of LSTM layers of one size.
        vocabulary: Its vocabulary.
        opset: ONNX operator set.
        ids: The vocabulary's id of each recognizer token; the model then takes and scores the recognizer's ids. None
            for the vocabulary's ids.

    Raises:
        ExportError: The layers are not LSTMs of one size.
    """
    architecture = network.architecture
    if architecture.cell != "lstm" or len(set(architecture.layer_sizes)) != 1:
        raise ExportError(
            f"sherpa-onnx stacks the states of LSTM layers of one size; this network has {architecture.cell} layers of "
            f"{', '.join(map(str, architecture.layer_sizes))}; leave --sherpa out"
        )
    model = build_model(network, BuildOptions("fp32", opset))
    graph, layers, size = model.graph, len(architecture.layer_sizes), architecture.layer_sizes[0]
    _keep_the_last_position(graph)
    before = [node for stacked, state in _STATES.items() for node in _split_states(stacked, state, layers)]
    after = [node for stacked, state in _STATES.items() for node in _join_states(stacked, state, layers)]
    after += [
        helper.make_node("Squeeze", [LOGITS, "axis_1"], ["last_logits"]),
        helper.make_node("LogSoftmax", ["last_logits"], ["log_softmax"], axis=1),
    ]
    _replace(graph.node, [*before, *graph.node, *after])
    if ids is None:
        _rename_input(graph)
    else:
        _translate(graph, ids)
    shape: list[str | int | None] = [layers, "batch", size]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in _STATES]
    _replace(graph.input, [helper.make_tensor_value_info("x", TensorProto.INT64, ["batch", "time"]), *values])
    scores = helper.make_tensor_value_info("log_softmax", TensorProto.FLOAT, ["batch", len(ids or vocabulary)])
    next_states = [helper.make_tensor_value_info(f"{NEXT}{name}", TensorProto.FLOAT, shape) for name in _STATES]
    _replace(graph.output, [scores, *next_states])
    helper.set_model_props(model, _metadata(layers, size, vocabulary, ids))
    onnx.checker.check_model(model, full_check=True)
    return model


def sherpa_difference(network: LanguageModel, data: bytes, ids: Sequence[int] | None = None) -> float:
    """Largest difference of a log-probability from the network's, in a closed loop of greedy tokens.

    `ids`: the network's id for each of the model's ids; None where they are the same.
    """
    network_ids = range(network.vocabulary_size) if ids is None else ids
    session = start_session(data, PROVIDERS["cpu"], SessionOptions())
    sizes = network.architecture.layer_sizes
    states = {name: np.zeros((len(sizes), 1, sizes[0]), np.float32) for name in _STATES}
    state, token, worst = network.initial_state(1), 0, 0.0
    for _ in range(_LOOP_STEPS):
        scores, *after = session.run(None, {"x": np.array([[token]]), **states})
        states = dict(zip(_STATES, after, strict=True))
        with torch.inference_mode():
            logits, state = network(torch.tensor([[network_ids[token]]]), state)
            expected = logits[0, -1].log_softmax(0).numpy()[network_ids]
        worst = float(np.maximum(worst, np.abs(scores[0] - expected).max()))
        token = int(expected.argmax())
    return worst


def _metadata(layers: int, size: int, vocabulary: Vocabulary, ids: Sequence[int] | None) -> dict[str, str]:
    boundary = vocabulary.end_of_sentence_id if ids is None else ids.index(vocabulary.end_of_sentence_id)
    return {
        "model_type": "rnnlm",
        "version": "1",
        "comment": "streaming RNN language model exported by lmtool",
        "num_layers": str(layers),
        "hidden_size": str(size),
        "vocab_size": str(len(ids or vocabulary)),
        "sos_id": str(boundary),
        "eos_id": str(boundary),
    }


def _rename_input(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        node.input[:] = ["x" if name == TOKEN_IDS else name for name in node.input]


def _translate(graph: onnx.GraphProto, ids: Sequence[int]) -> None:
    """Map the recognizer's ids to the network's before the first node, and its scores back after the last."""
    graph.initializer.append(numpy_helper.from_array(np.array(ids, np.int64), "network_ids"))
    graph.node[-1].output[0] = "network_log_softmax"
    first = helper.make_node("Gather", ["network_ids", "x"], [TOKEN_IDS], axis=0)
    last = helper.make_node("Gather", ["network_log_softmax", "network_ids"], ["log_softmax"], axis=1)
    _replace(graph.node, [first, *graph.node, last])


def _keep_the_last_position(graph: onnx.GraphProto) -> None:
    tensor = next(tensor for tensor in graph.initializer if tensor.name == LOGITS_TO_KEEP)
    tensor.CopyFrom(numpy_helper.from_array(np.ones(1, np.int64), LOGITS_TO_KEEP))


def _split_states(stacked: str, state: str, layers: int) -> list[onnx.NodeProto]:
    """[layers, batch, hidden] -> [batch, hidden] for each layer."""
    parts = [f"{stacked}_{layer}" for layer in range(layers)]
    nodes = [helper.make_node("Split", [stacked], parts, axis=0)]
    return nodes + [
        helper.make_node("Squeeze", [part, "axis_0"], [f"{state}_{layer}"]) for layer, part in enumerate(parts)
    ]


def _join_states(stacked: str, state: str, layers: int) -> list[onnx.NodeProto]:
    """[batch, hidden] of each layer -> [layers, batch, hidden]."""
    parts = [f"{NEXT}{stacked}_{layer}" for layer in range(layers)]
    nodes = [
        helper.make_node("Unsqueeze", [f"{NEXT}{state}_{layer}", "axis_0"], [part]) for layer, part in enumerate(parts)
    ]
    return [*nodes, helper.make_node("Concat", parts, [f"{NEXT}{stacked}"], axis=0)]


def _replace(field: Any, values: list[Any]) -> None:
    del field[:]
    field.extend(values)
