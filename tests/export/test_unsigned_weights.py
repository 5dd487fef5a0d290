"""int8 products are exact on every processor: those of sessions, and those of the graph that verification reads.

Positive control: without the protection, x86-64 without VNNI sums them in 16 bits, which overflow.
"""

import platform
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from int8_schemes import dynamic_int8
from lmtool.export import BuildOptions, build_model
from lmtool.export.unsigned_weights import unsigned_weights
from lmtool.runtime import PROVIDERS, ArtifactError
from lmtool.runtime.session.session import SessionOptions, plain_session, start_session
from onnx import TensorProto, helper, numpy_helper
from support.models.networks import TOLERANCES, network_of, random_inputs

ROOT = Path(__file__).parents[2]
ROWS, INNER, COLUMNS = 4, 64, 32
CLOSE = TOLERANCES["int8"]
"""Overflow moves some logits by five times as much."""

Start = Callable[[bytes], Any]


def unprotected(level: str) -> Start:
    """A session with onnxruntime's own settings."""

    def start(data: bytes) -> Any:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    return start


def without_vnni() -> bool:
    """Whether this is an x86-64 processor that sums int8 products in 16 bits; skips the test where it is not known."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    processor = Path("/proc/cpuinfo")
    if not processor.exists():
        pytest.skip("this system does not tell the processor's instructions as Linux does")
    flags = next(line for line in processor.read_text().splitlines() if line.startswith("flags")).split()
    return "avx2" in flags and not {"avx512_vnni", "avx_vnni"} & set(flags)


def int8_network(purpose: str) -> tuple[bytes, dict[str, np.ndarray], np.ndarray]:
    """A file with dynamic scales, inputs, and the logits that torch computes for them."""
    network = network_of((64, 48), vocabulary=500)
    tokens, state, feeds = random_inputs(network, 3, 5)
    with torch.inference_mode():
        expected, _ = network(torch.from_numpy(tokens), state)
    model = dynamic_int8(build_model(network, BuildOptions()), unsigned=purpose == "latency")
    return model.SerializeToString(), {"token_ids": tokens, **feeds}, expected.numpy()


def error(session: Any, feeds: dict[str, np.ndarray], expected: np.ndarray) -> float:
    return float(np.abs(session.run(["logits"], feeds)[0] - expected).max())


@pytest.mark.parametrize("purpose", ["throughput", "latency"])
@pytest.mark.parametrize("level", ["ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"])
def test_optimized_sessions_do_not_overflow(purpose: str, level: str) -> None:
    data, feeds, expected = int8_network(purpose)
    assert error(start_session(data, PROVIDERS["cpu"], SessionOptions(), level), feeds, expected) < CLOSE


@pytest.mark.parametrize("purpose", ["throughput", "latency"])
def test_a_plain_session_over_unsigned_weights_does_not_overflow(purpose: str) -> None:
    data, feeds, expected = int8_network(purpose)
    assert error(plain_session(unsigned_weights(data)), feeds, expected) < CLOSE


@pytest.mark.parametrize(
    "start",
    [unprotected("ORT_ENABLE_ALL"), unprotected("ORT_DISABLE_ALL"), plain_session],
    ids=["optimized", "not optimized", "not optimized, with the entry"],
)
def test_sessions_without_the_protection_overflow(start: Start) -> None:
    """The positive control; also, that the entry alone does not protect a session without optimizations."""
    if not without_vnni():
        pytest.skip("this processor sums int8 products in 32 bits")
    data, feeds, expected = int8_network("throughput")
    assert error(start(data), feeds, expected) > 3 * CLOSE


def product(operator: str, opset: int, activations: type, *, wrap: bool = False) -> tuple[bytes, np.ndarray]:
    """A product of large numbers by int8 weights, in a nested graph where `wrap`, and what it gives."""
    zero = -128 if activations is np.int8 else 0
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(activations))
    arrays = {"w": np.full((INNER, COLUMNS), 100, np.int8), "x_zero": np.array(zero, activations)}
    arrays |= {"w_zero": np.array(3, np.int8), "one": np.array(1, np.float32), "scale": np.array(5000, np.float32)}
    arrays["y_zero"] = np.array(0, activations)
    expected = (inputs(activations).astype(int) - zero) @ (arrays["w"].astype(int) - 3)
    if operator == "MatMulInteger":
        node, out = helper.make_node(operator, ["x", "w", "x_zero", "w_zero"], ["y"]), TensorProto.INT32
    else:
        names = ["x", "one", "x_zero", "w", "one", "w_zero", "scale", "y_zero"]
        node, out = helper.make_node(operator, names, ["y"]), kind
        expected = np.clip(np.rint(expected / 5000), 0, np.iinfo(activations).max)
    y = helper.make_tensor_value_info("y", out, ["rows", COLUMNS])
    initializers = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    nodes = [node]
    if wrap:
        inner = helper.make_graph([node], "inner", [], [y], initializers)
        always = helper.make_node("Constant", [], ["always"], value=numpy_helper.from_array(np.array(True)))
        nodes = [always, helper.make_node("If", ["always"], ["y"], then_branch=inner, else_branch=inner)]
    x = helper.make_tensor_value_info("x", kind, ["rows", INNER])
    graph = helper.make_graph(nodes, "product", [x], [y], [] if wrap else initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return model.SerializeToString(), expected


def inputs(kind: type) -> np.ndarray:
    drawn = np.random.default_rng(0).integers(200, 256, (ROWS, INNER))
    return (drawn - 128).astype(kind) if kind is np.int8 else drawn.astype(kind)


@pytest.mark.parametrize("activations", [np.uint8, np.int8])
@pytest.mark.parametrize("opset", [17, 21])
@pytest.mark.parametrize("operator", ["MatMulInteger", "QLinearMatMul"])
def test_products_of_unsigned_weights_are_exact(operator: str, opset: int, activations: type) -> None:
    data, expected = product(operator, opset, activations)
    feeds = {"x": inputs(activations)}
    np.testing.assert_array_equal(plain_session(unsigned_weights(data)).run(None, feeds)[0], expected)
    if without_vnni() and activations is np.uint8:
        assert not np.array_equal(plain_session(data).run(None, feeds)[0], expected)  # the positive control


def test_products_in_nested_graphs_are_exact() -> None:
    data, expected = product("MatMulInteger", 17, np.uint8, wrap=True)
    computed = plain_session(unsigned_weights(data)).run(None, {"x": inputs(np.uint8)})[0]
    np.testing.assert_array_equal(computed, expected)


def test_a_product_without_a_zero_point_is_exact() -> None:
    data, expected = product("MatMulInteger", 17, np.uint8)
    model = onnx.load_model_from_string(data)
    del model.graph.node[0].input[2:]
    expected = expected + 3 * inputs(np.uint8).astype(int).sum(axis=1, keepdims=True)
    computed = plain_session(unsigned_weights(model.SerializeToString())).run(None, {"x": inputs(np.uint8)})[0]
    np.testing.assert_array_equal(computed, expected)


def test_files_without_integer_products_stay_as_they_are() -> None:
    data = build_model(network_of((7, 3)), BuildOptions()).SerializeToString()
    assert unsigned_weights(data) is data


@pytest.mark.parametrize(("kind", "refused"), [(np.int8, True), (np.uint8, False)])
def test_int8_weights_that_the_graph_computes_are_refused(kind: type, refused: bool) -> None:
    model = onnx.load_model_from_string(product("MatMulInteger", 17, np.uint8)[0])
    computed = numpy_helper.from_array(np.full((INNER, COLUMNS), 100, kind), "stored")
    model.graph.initializer.append(computed)
    model.graph.node.insert(0, helper.make_node("Identity", ["stored"], ["computed"]))
    model.graph.node[1].input[1] = "computed"
    if not refused:
        unsigned_weights(model.SerializeToString())
        return
    with pytest.raises(ArtifactError, match="MatMulInteger .* has weights 'computed' that the graph computes"):
        unsigned_weights(model.SerializeToString())


def test_one_place_makes_sessions() -> None:
    """All of them have the protection."""
    rooms = [ROOT / room for room in ("runtime", "model", "export", "serve", "bench", "cli", "package")]
    sources = [path for room in rooms for path in room.rglob("*.py") if "studies" not in path.parts]
    makers = [path for path in sources if re.search(r"\bInferenceSession\(", path.read_text())]
    assert makers == [ROOT / "runtime/session/session.py"]
    assert makers[0].read_text().count("InferenceSession(") == 1
