"""Files that are refused before onnx or onnxruntime reads them: other formats, too many parts, NaN and infinity."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from lmtool.export.build import seal
from lmtool.export.foreign.adopt import adopt
from lmtool.runtime import Artifact, ArtifactError, NumberError, Predictor, StreamPool
from lmtool.runtime.artifact import protobuf
from lmtool.runtime.artifact.artifact import HASH_KEY
from lmtool.runtime.artifact.safety import _REFUSED, _WITHIN, find_tensors
from lmtool.runtime.session.providers import PROVIDERS
from lmtool.runtime.session.session import SessionOptions, plain_session, start_session
from onnx import AttributeProto, TensorProto, helper, numpy_helper
from support.hostile.access_monitor import Honeypot

MOST_SECONDS = 5.0
BIAS = "projection.bias"


def resealed(path: Path, change: Callable[[onnx.ModelProto], Any]) -> bytes:
    model = onnx.load(path)
    metadata = {entry.key: entry.value for entry in model.metadata_props if entry.key != HASH_KEY}
    change(model)
    return seal(model, metadata)


def constant(value: TensorProto) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["unused"], value=value)


def branched(value: TensorProto) -> onnx.NodeProto:
    output = helper.make_tensor_value_info("o", value.data_type, [1])
    body = helper.make_graph([helper.make_node("Identity", ["w"], ["o"])], "branch", [], [output], [value])
    return helper.make_node("If", ["condition"], ["unused"], then_branch=body, else_branch=body)


# Formats


def test_bytes_in_the_format_of_onnxruntime_are_refused(artifact_path: Path, tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "model.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(artifact_path.read_bytes(), options, providers=["CPUExecutionProvider"])
    data = (tmp_path / "model.ort").read_bytes()
    assert data[4:8] == b"ORTM"
    with pytest.raises(ArtifactError, match="it is in onnxruntime's own format"):
        find_tensors(memoryview(data))
    with pytest.raises(ArtifactError, match="cannot load"):
        start_session(data, PROVIDERS["cpu"], SessionOptions())
    with pytest.raises(ArtifactError, match="cannot load"):
        plain_session(data)
    loaded = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    assert loaded.get_inputs()  # the positive control: without settings onnxruntime accepts it


@pytest.mark.parametrize(
    "location",
    ["relative.bin", "./relative.bin", "linked.bin", "hard.bin", "../inside/relative.bin", "absolute", "../.."],
)
def test_a_session_reads_no_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str) -> None:
    """A second protection: `find_tensors` has refused such a file before."""
    honeypot = Honeypot(tmp_path)
    monkeypatch.chdir(honeypot.inside)
    outside = TensorProto(name="w", data_type=1, dims=[4], data_location=TensorProto.EXTERNAL)
    path = str(honeypot.secret) if location == "absolute" else location
    for key, value in {"location": path, "offset": 0, "length": 16}.items():
        outside.external_data.add(key=key, value=str(value))
    ends = [helper.make_tensor_value_info(name, 1, [4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [outside])
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    with pytest.raises(ArtifactError, match="External data path|external data"):
        plain_session(data)
    assert not honeypot.was_accessed()
    if location == "relative.bin":  # the positive control
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        assert honeypot.was_accessed()


def test_every_message_of_the_format_is_checked_or_refused() -> None:
    """No message of the newest onnx can hide content that is small in the file and large in memory."""
    waiting, seen = [("model", onnx.ModelProto.DESCRIPTOR)], set()
    while waiting:
        ours, theirs = waiting.pop()
        if (ours, theirs.full_name) in seen:
            continue
        seen.add((ours, theirs.full_name))
        for field in theirs.fields:
            if field.message_type is None or (ours, field.number) in _REFUSED:
                continue
            assert field.number in _WITHIN[ours], f"{theirs.name}.{field.name}"
            waiting.append((_WITHIN[ours][field.number], field.message_type))
    assert len(seen) > 15


# Many small parts


def empty(number: int, count: int) -> bytes:
    return protobuf.message((number, b"")) * count


MANY = {
    "nodes": empty(1, 10_001),
    "initializers": empty(5, 100_001),
    "values": empty(13, 100_001),
    "annotations": empty(14, 100_001),
    "attributes": protobuf.message((1, empty(5, 100_001))),
    "inputs": protobuf.message((1, empty(1, 100_001))),
    "floats": protobuf.message((1, protobuf.message((5, b"\x3d\0\0\0\0" * 100_001)))),
    "dimensions": protobuf.message(
        (13, protobuf.message((2, protobuf.message((1, protobuf.message((2, empty(1, 100_001))))))))
    ),
    "shared out": b"".join(protobuf.message((13, empty(4, 999))) for _ in range(101)),
    "integers": protobuf.message((5, protobuf.message((2, 7), (7, bytes((1 << 23) + 1))))),
    "nested": b"",
}
for _ in range(40):
    MANY["nested"] = protobuf.message((1, protobuf.message((5, protobuf.message((6, MANY["nested"]))))))


@pytest.mark.parametrize("what", MANY)
def test_too_many_small_parts_are_refused_before_they_are_read(
    artifact_path: Path, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = memoryview(artifact_path.read_bytes())
    (graph,) = [field for field in protobuf.fields(data) if field.number == 7]
    content = protobuf.message((7, bytes(data[graph.start : graph.end]) + MANY[what]))
    header_bytes = len(protobuf.message((7, bytes(graph.end - graph.start)))) - (graph.end - graph.start)
    flooded = bytes(data[: graph.start - header_bytes]) + content + bytes(data[graph.end :])
    monkeypatch.setattr("lmtool.export.foreign.adopt._parsed", lambda _: pytest.fail("onnx has read it"))
    (tmp_path / "flooded.onnx").write_bytes(flooded)
    messages = (
        "has more than 100,000 parts|more than 10,000 nodes|nested more than 100 deep|integers of variable length"
    )
    started = time.process_time()
    with pytest.raises(ArtifactError, match=messages):
        Artifact.parse(flooded)
    with pytest.raises(ArtifactError, match=messages):
        adopt(tmp_path / "flooded.onnx", tmp_path)
    assert time.process_time() - started < MOST_SECONDS


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (protobuf.message((14, protobuf.message((1, "k"), (2, "v")))) * 2, "the metadata key 'k' appears twice"),
        (empty(8, 3_000_000), "has more than 100,000 parts"),
        (protobuf.message((14, protobuf.message((1, "k"), (2, "v")) + empty(3, 3))), "is not a key and a value"),
        (protobuf.message((7, b"")), "it holds a model with two graphs"),
    ],
)
def test_many_entries_beside_the_graph_are_refused(artifact_path: Path, extra: bytes, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        Artifact.parse(artifact_path.read_bytes() + extra)


def test_two_tensors_that_a_reader_would_merge_are_refused() -> None:
    """The first declares its bytes as integers, the second does not."""
    first = protobuf.message((1, 1), (2, 6), (9, np.float32(math.nan).tobytes()))
    attribute = protobuf.message((1, "value"), (20, 4), (5, first), (5, protobuf.message((2, 1))))
    merged = AttributeProto.FromString(attribute).t
    assert np.isnan(numpy_helper.to_array(merged)).all()
    graph = protobuf.message((1, protobuf.message((2, "unused"), (4, "Constant"), (5, attribute))))
    with pytest.raises(ArtifactError, match="an attribute with two tensors"):
        find_tensors(memoryview(protobuf.message((7, graph))))


# NaN and infinity

FLOATS = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16, TensorProto.DOUBLE: np.float64}


def listed(kind: int, value: float) -> TensorProto:
    """The value in the typed field of its type, not in raw_data."""
    return helper.make_tensor("w", kind, [1], [value])


def raw(kind: int, value: float) -> TensorProto:
    if kind == TensorProto.BFLOAT16:
        content = np.array([value], np.float32).view(np.uint32)[0] >> 16
        return TensorProto(name="w", data_type=kind, dims=[1], raw_data=np.uint16(content).tobytes())
    return numpy_helper.from_array(np.array([value], FLOATS[kind]), "w")


def planted(model: onnx.ModelProto, where: str, value: TensorProto) -> None:
    if where == "an initializer":
        model.graph.initializer.append(value)
    elif where == "a constant":
        model.graph.node.append(constant(value))
    else:
        model.graph.initializer.append(numpy_helper.from_array(np.array(True), "condition"))
        model.graph.node.append(branched(value))


@pytest.mark.parametrize("where", ["an initializer", "a constant", "a branch"])
@pytest.mark.parametrize("how", [raw, listed])
@pytest.mark.parametrize("kind", [*FLOATS, TensorProto.BFLOAT16], ids=TensorProto.DataType.Name)
def test_nan_and_infinity_are_refused_everywhere(
    artifact_path: Path, kind: int, how: Callable[[int, float], TensorProto], where: str
) -> None:
    for value in (math.nan, math.inf, -math.inf):
        data = resealed(artifact_path, lambda model, value=value: planted(model, where, how(kind, value)))
        with pytest.raises(ArtifactError, match="its weight 'w' holds numbers that are not finite"):
            Predictor.load(data)
    for value in (0.0, -1.5, 60000.0):  # the positive control
        Artifact.parse(resealed(artifact_path, lambda model, value=value: planted(model, where, how(kind, value))))


@pytest.mark.parametrize("attribute", [{"value_float": math.nan}, {"value_floats": [1.0, math.inf]}], ids=str)
def test_attributes_with_nan_or_infinity_are_refused(artifact_path: Path, attribute: dict[str, Any]) -> None:
    node = helper.make_node("Constant", [], ["unused"], **attribute)
    with pytest.raises(ArtifactError, match="its attribute at byte [0-9,]+ holds numbers that are not finite"):
        Predictor.load(resealed(artifact_path, lambda model: model.graph.node.append(node)))
    node = helper.make_node("Constant", [], ["unused"], value_floats=[1.0, 2.0])
    assert Predictor.load(resealed(artifact_path, lambda model: model.graph.node.append(node)))


def test_a_network_that_computes_nan_makes_no_pool(artifact_path: Path) -> None:
    """Infinity minus infinity is reported as such, and not as rows that differ in a batch."""

    def change(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            node.input[:] = ["bias" if name == BIAS else name for name in node.input]
        model.graph.initializer.append(numpy_helper.from_array(np.array([3e38], np.float32), "large"))
        model.graph.node.insert(0, helper.make_node("Sub", ["larger", "larger"], ["bias"]))
        model.graph.node.insert(0, helper.make_node("Mul", ["large", "large"], ["larger"]))

    predictor = Predictor.load(resealed(artifact_path, change))
    with pytest.raises(NumberError, match="the logits or states that the network computed are not finite"):
        StreamPool(predictor)


@pytest.mark.parametrize("kind", [0, 14, 15, 17, 18, 19, 20, 23, 24, 99])
def test_unknown_types_are_refused(artifact_path: Path, kind: int) -> None:
    value = TensorProto(name="w", data_type=kind, dims=[1], raw_data=b"\0")
    with pytest.raises(ArtifactError, match=f"its weight 'w' is of ONNX's type {kind}, expected float32"):
        Artifact.parse(resealed(artifact_path, lambda model: model.graph.initializer.append(value)))


def test_infinite_halves_in_many_varints_are_refused(artifact_path: Path) -> None:
    """More than a block of them, of one to three bytes; only the last is infinite."""
    numbers = np.random.default_rng(1).integers(0, 0x7C00, 900_000).tolist()
    for last in (0x7BFF, 0x7C00):
        value = TensorProto(name="w", data_type=TensorProto.FLOAT16, dims=[len(numbers) + 1])
        value.int32_data.extend([*numbers, last])
        data = resealed(artifact_path, lambda model, value=value: model.graph.initializer.append(value))
        if last == 0x7BFF:
            assert Artifact.parse(data)
        else:
            with pytest.raises(ArtifactError, match="its weight 'w' holds numbers that are not finite"):
                Artifact.parse(data)
