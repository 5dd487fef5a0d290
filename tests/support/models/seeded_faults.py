"""Files with one fault each, as people reported them to PyTorch, ONNX, onnxruntime and OpenVINO."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from support.models.recurrent_files import CLASSES, HIDDEN, WIDTH, model_of, recurrent_model, value, weights

Make = Callable[[], onnx.ModelProto]


@dataclass(frozen=True)
class Seed:
    """A fault.

    Attributes:
        name: What is wrong.
        make: Makes the file.
        kinds: What the doctor has to find, and nothing else.
        mended: What is left after `--fix`; None where it mends nothing.
    """

    name: str
    make: Make
    kinds: tuple[str, ...]
    mended: tuple[str, ...] | None


def _layer(model: onnx.ModelProto) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.op_type in ("LSTM", "GRU", "RNN"))


def _without_inputs() -> onnx.ModelProto:
    model = recurrent_model()
    del model.graph.input[1:], _layer(model).input[4:]
    return model


def _without_states() -> onnx.ModelProto:
    model = _without_inputs()
    del model.graph.output[1:], _layer(model).output[1:]
    return model


def _without_outputs() -> onnx.ModelProto:
    model = recurrent_model("GRU")
    del model.graph.output[1:], _layer(model).output[1:]
    return model


def _zeros_of_the_batch() -> onnx.ModelProto:
    """As PyTorch's exporter writes a layer that is called without a state."""
    model = recurrent_model()
    del model.graph.input[1:]
    shape = [
        helper.make_node("Shape", ["x"], ["sizes"]),
        helper.make_node("Gather", ["sizes", "axis"], ["batch"]),
        helper.make_node("Concat", ["axis", "batch", "hidden"], ["shape"], axis=0),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
    ]
    model.graph.initializer.append(numpy_helper.from_array(np.array([HIDDEN]), "hidden"))
    _layer(model).input[5:] = ["zeros", "zeros"]
    nodes = [*shape, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def _constant_rows() -> onnx.ModelProto:
    """As a traced `torch.zeros(1, 2, 3)` is written."""
    model = recurrent_model("GRU", axes=("time", 2, WIDTH))
    del model.graph.input[1:]
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 2, HIDDEN), np.float32), "zeros"))
    _layer(model).input[5] = "zeros"
    return model


def _baked_reshape() -> onnx.ModelProto:
    """As PyTorch's dynamo exporter merges directions after the layer: with the example's length."""
    model = recurrent_model("GRU")
    model.graph.initializer.append(numpy_helper.from_array(np.array([5, -1, HIDDEN]), "example"))
    squeeze = next(node for node in model.graph.node if node.op_type == "Squeeze")
    squeeze.CopyFrom(helper.make_node("Reshape", ["whole", "example"], ["flat"]))
    return model


def _shape_of_state() -> onnx.ModelProto:
    """The state goes in as [1, batch, 3] and comes out as [batch, 3]."""
    model = recurrent_model("GRU")
    _layer(model).output[1] = "last"
    model.graph.initializer.append(numpy_helper.from_array(np.array([0]), "first"))
    model.graph.node.append(helper.make_node("Squeeze", ["last", "first"], ["hn"]))
    model.graph.output[1].CopyFrom(value("hn", ("batch", HIDDEN)))
    return model


def _layout() -> onnx.ModelProto:
    arrays = weights("GRU")
    nodes = [helper.make_node("GRU", ["x", "W", "R", "B", "", "h"], ["", "hn"], hidden_size=HIDDEN, layout=1)]
    state = ("batch", 1, HIDDEN)
    return model_of(nodes, [value("x", ("batch", "time", WIDTH)), value("h", state)], [value("hn", state)], arrays)


def _bidirectional() -> onnx.ModelProto:
    arrays = {name: np.concatenate([array, array]) for name, array in weights().items()}
    nodes = [helper.make_node("LSTM", ["x", "W", "R", "B"], ["y"], hidden_size=HIDDEN, direction="bidirectional")]
    outputs = [value("y", ("time", 2, "batch", HIDDEN))]
    return model_of(nodes, [value("x", ("time", "batch", WIDTH))], outputs, arrays)


def _reordered_weights() -> onnx.ModelProto:
    """As PyTorch's dynamo exporter wrote them: gates are sliced and concatenated in the graph."""
    model = recurrent_model()
    starts = {f"at_{row}": np.array([row]) for row in range(0, 5 * HIDDEN, HIDDEN)}
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in starts.items())
    nodes = []
    for name in ("W", "R"):
        rows = [f"{name}_{row}" for row in range(0, 4 * HIDDEN, HIDDEN)]
        for row, part in zip(range(0, 4 * HIDDEN, HIDDEN), rows, strict=True):
            nodes.append(helper.make_node("Slice", [name, f"at_{row}", f"at_{row + HIDDEN}", "axis"], [part]))
        nodes.append(helper.make_node("Concat", rows, [f"{name}_gates"], axis=1))
    _layer(model).input[1:3] = ["W_gates", "R_gates"]
    nodes += model.graph.node
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def _weights_as_inputs() -> onnx.ModelProto:
    """As older exporters wrote them, with each initializer among the inputs."""
    model = recurrent_model("GRU")
    model.graph.input.extend(value(name, array.shape) for name, array in weights("GRU").items())
    return model


def _sequence_lengths() -> onnx.ModelProto:
    model = recurrent_model()
    model.graph.input.insert(1, value("lengths", ("batch",), TensorProto.INT32))
    _layer(model).input[4] = "lengths"
    return model


def _contrib_operator() -> onnx.ModelProto:
    model = recurrent_model()
    product = next(node for node in model.graph.node if node.op_type == "MatMul")
    product.op_type, product.domain = "FusedMatMul", "com.microsoft"
    return model


def _centred() -> onnx.ModelProto:
    """The mean over the sequence is taken from each step."""
    model = recurrent_model("GRU")
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["centred"]),
        *model.graph.node,
    ]
    nodes[2].input[0] = "centred"
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def _outside() -> onnx.ModelProto:
    model = recurrent_model()
    for tensor in model.graph.initializer:
        if tensor.name == "W":
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="weights.bin")
    return model


def unrolled(steps: int = 4, states: bool = False) -> onnx.ModelProto:
    """An LSTM cell, written out for each step of `x` [batch, steps, 4]; `y` [batch, 2] is that of the last step."""
    arrays = {name: weights()[name][0].T.copy() for name in "WR"}
    arrays["P"] = arrays["R"][:, :CLASSES].copy()
    arrays |= {f"at_{step}": np.array(step) for step in range(steps)}
    nodes, hidden, cell = [], "h", "c"
    if not states:
        arrays |= {"h": np.zeros((1, HIDDEN), np.float32), "c": np.zeros((1, HIDDEN), np.float32)}
    for step in range(steps):
        at = lambda name, step=step: f"{name}_{step}"  # noqa: E731
        nodes += [
            helper.make_node("Gather", ["x", f"at_{step}"], [at("x")], axis=1),
            helper.make_node("MatMul", [at("x"), "W"], [at("in")]),
            helper.make_node("MatMul", [hidden, "R"], [at("back")]),
            helper.make_node("Add", [at("in"), at("back")], [at("sum")]),
            helper.make_node("Split", [at("sum")], [at("i"), at("o"), at("f"), at("g")], axis=1),
            *(helper.make_node("Sigmoid", [at(gate)], [at(f"{gate}s")]) for gate in "iof"),
            helper.make_node("Tanh", [at("g")], [at("gs")]),
            helper.make_node("Mul", [at("is"), at("gs")], [at("new")]),
            helper.make_node("Mul", [at("fs"), cell], [at("old")]),
            helper.make_node("Add", [at("new"), at("old")], [at("cell")]),
            helper.make_node("Tanh", [at("cell")], [at("tanh")]),
            helper.make_node("Mul", [at("os"), at("tanh")], [at("hidden")]),
        ]
        hidden, cell = at("hidden"), at("cell")
    nodes.append(helper.make_node("MatMul", [hidden, "P"], ["y"]))
    inputs, outputs = [value("x", ("batch", steps, WIDTH))], [value("y", ("batch", CLASSES))]
    if states:
        inputs += [value("h", ("batch", HIDDEN)), value("c", ("batch", HIDDEN))]
        nodes += [helper.make_node("Identity", [x], [y]) for x, y in ((hidden, "hn"), (cell, "cn"))]
        outputs += [value("hn", ("batch", HIDDEN)), value("cn", ("batch", HIDDEN))]
    return model_of(nodes, inputs, outputs, arrays)


def _layers_for_steps() -> onnx.ModelProto:
    """As a loop over `nn.LSTMCell` is exported: a layer for each step."""
    arrays = {**weights("GRU"), **{f"at_{step}": np.array([step]) for step in range(4)}}
    nodes, hidden = [], "h"
    for step in range(4):
        after = "hn" if step == 3 else f"hidden_after_{step}"
        nodes.append(helper.make_node("Gather", ["x", f"at_{step}"], [f"x_{step}"]))
        inputs = [f"x_{step}", "W", "R", "B", "", hidden]
        nodes.append(helper.make_node("GRU", inputs, ["", after], hidden_size=HIDDEN))
        hidden = after
    state = (1, "batch", HIDDEN)
    return model_of(nodes, [value("x", (4, "batch", WIDTH)), value("h", state)], [value("hn", state)], arrays)


CROSSWISE = [("h", "cn"), ("c", "hn")]
NUMBERED = [("h0", "12"), ("c0", "13")]
NO_STATES = ("no-state-input", "no-state-output")
SEEDS = (
    Seed("an example's batch", lambda: recurrent_model(axes=("time", 2, WIDTH)), ("baked-batch",), ()),
    Seed("an example's length", lambda: recurrent_model("GRU", axes=(5, "batch", WIDTH)), ("baked-time",), ()),
    Seed("an example's length in a Reshape", _baked_reshape, ("baked-time",), None),
    Seed("a cell written out for each step", unrolled, (*NO_STATES, "baked-time"), None),
    Seed("a layer for each step", _layers_for_steps, ("baked-time",), None),
    Seed("neither state inputs nor outputs", _without_states, NO_STATES, ()),
    Seed("no state inputs", _without_inputs, ("no-state-input",), ()),
    Seed("no state output", _without_outputs, ("no-state-output",), ()),
    Seed("zeros as the initial state", _zeros_of_the_batch, ("constant-initial-state",), ()),
    Seed("an initial state of the example", _constant_rows, ("constant-initial-state", "baked-batch"), ()),
    Seed("names that do not pair", lambda: recurrent_model(states=NUMBERED), ("unpaired-state",), ()),
    Seed("names that pair crosswise", lambda: recurrent_model(states=CROSSWISE), ("unpaired-state",), ()),
    Seed("a state of another shape", _shape_of_state, ("unpaired-state",), None),
    Seed("layout 1", _layout, ("layout",), None),
    Seed("the batch read as the time", lambda: recurrent_model(axes=("batch", "time", WIDTH)), ("layout",), None),
    Seed("a bidirectional layer", _bidirectional, ("bidirectional",), None),
    Seed("gates reordered in the graph", _reordered_weights, ("weights-not-initializers",), ()),
    Seed("weights among the inputs", _weights_as_inputs, ("weights-not-initializers",), ()),
    Seed("lengths of packed sequences", _sequence_lengths, ("sequence-lengths",), None),
    Seed("weights in another file", _outside, ("external-data",), None),
    Seed("a runtime's own operator", _contrib_operator, ("contrib-operators",), None),
    Seed("the mean over the sequence", _centred, ("differs-when-streamed",), None),
)
