"""Artifacts that are refused before anything runs: other files, other formats, damage, external weights."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lmtool.export.build import seal
from lmtool.runtime import Artifact, ArtifactError, Predictor, StorageError
from lmtool.runtime.artifact.artifact import HASH_KEY, hash_span, hash_with_placeholder


def shapes(values: Iterable[onnx.ValueInfoProto]) -> dict[str, list[str | int]]:
    dims = {value.name: value.type.tensor_type.shape.dim for value in values}
    return {name: [dim.dim_param or dim.dim_value for dim in shape] for name, shape in dims.items()}


def test_the_contract_is_on_the_file(artifact_path: Path) -> None:
    model = onnx.load(artifact_path)
    onnx.checker.check_model(model, full_check=True)
    inputs = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in model.graph.input
    }
    outputs = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in model.graph.output
    }
    states = {"cell_0": ["batch", 7], "cell_1": ["batch", 3], "hidden_0": ["batch", 7], "hidden_1": ["batch", 3]}
    size = len(Artifact.read(artifact_path).vocabulary)
    assert inputs == {"token_ids": ["batch", "time"], **states, "logits_to_keep": [1]}
    assert outputs == {"logits": ["batch", "kept", size], **{f"next_{name}": shape for name, shape in states.items()}}
    assert {node.domain for node in model.graph.node} == {""}
    assert [opset.version for opset in model.opset_import] == [17]
    assert {"model_type", "vocab_size", "unk_id", "eos_id"} <= {entry.key for entry in model.metadata_props}


def resealed(path: Path, change: Callable[[onnx.ModelProto, dict[str, str]], None]) -> bytes:
    """The artifact, changed and hashed again, so that only the change can be detected."""
    model = onnx.load(path)
    metadata = {entry.key: entry.value for entry in model.metadata_props if entry.key != HASH_KEY}
    change(model, metadata)
    return seal(model, metadata)


def set_metadata(key: str, value: str | None) -> Callable[[onnx.ModelProto, dict[str, str]], None]:
    def change(_: onnx.ModelProto, metadata: dict[str, str]) -> None:
        metadata.pop(key)
        if value is not None:
            metadata[key] = value

    return change


BPE = '"rule":"bpe","unknown":"<unk>","end_of_sentence":"Ċ"'


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("lmtool.format", "2", "its format is '2', this version of lmtool reads '1'"),
        ("lmtool.format", None, "has no lmtool.format"),
        ("lmtool.model", "{}", "model description lacks 'cell'"),
        ("lmtool.model", "[", "lmtool.model is not JSON"),
        (
            "lmtool.model",
            '{"cell":"lstm","embedding_size":5,"layer_sizes":[7,-3],"tied":false}',
            "is not one that this version reads",
        ),
        ("lmtool.vocabulary", '["a"]', "lacks its special token"),
        ("lmtool.vocabulary", '["<eos>","<unk>"]', "vocabulary hashes to"),
        ("lmtool.tokenization", "{}", "tokenization must be an object"),
        ("lmtool.tokenization", f'{{{BPE},"merges":["a b"]}}', "lacks its special token 'Ċ'"),
        ("lmtool.tokenization", f'{{{BPE},"merges":["a b","ab c","a b"]}}', "merge 3 is 'a b', expected two tokens"),
        ("lmtool.tokenization", f'{{{BPE},"merges":{{}}}}', "merges must be a list of strings"),
        ("lmtool.precision", None, "lacks lmtool.precision"),
        ("lmtool.training", '{"valid_perplexity":NaN}', "lmtool.training is JSON with NaN, expected finite numbers"),
        ("lmtool.training", f'{{"a":[{"[]," * 1_400_000}1]}}', "lmtool.training is JSON of 4,200,0.. bytes"),
        ("lmtool.parity", '{"a":' * 900 + "1" + "}" * 900, "lmtool.parity is JSON that nests 900 levels deep"),
    ],
)
def test_invalid_metadata_is_refused(artifact_path: Path, key: str, value: str | None, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        Predictor.load(resealed(artifact_path, set_metadata(key, value)))


def test_names_that_are_not_utf8_are_refused(artifact_path: Path) -> None:
    """onnxruntime accepts them, and fails when they are read."""
    data = artifact_path.read_bytes().replace(b"\x12\x04time", b"\x12\x04\xffime")
    start, end = hash_span(data)
    data = data[:start] + hash_with_placeholder(data, start, end).encode() + data[end:]
    assert Artifact.parse(data)
    with pytest.raises(ArtifactError, match="an input of the graph has a name that is not UTF-8"):
        Predictor.load(data)


def test_a_graph_that_breaks_the_contract_is_refused(artifact_path: Path) -> None:
    def rename(model: onnx.ModelProto, _: dict[str, str]) -> None:
        for node in model.graph.node:
            node.input[:] = ["memory" if name == "cell_1" else name for name in node.input]
        for value in model.graph.input:
            value.name = "memory" if value.name == "cell_1" else value.name

    message = r"input 'cell_1' breaks the contract: found none, expected float32 \[batch, 3\]"
    with pytest.raises(ArtifactError, match=message):
        Predictor.load(resealed(artifact_path, rename))


def test_sizes_that_the_graph_does_not_have_are_refused(artifact_path: Path) -> None:
    wrong = '{"cell":"lstm","embedding_size":5,"layer_sizes":[7,4],"tied":false}'
    with pytest.raises(ArtifactError, match=r"input 'cell_1' breaks .* \[batch, 3\], expected .* \[batch, 4\]"):
        Predictor.load(resealed(artifact_path, set_metadata("lmtool.model", wrong)))


def test_weights_outside_the_file_are_refused(artifact_path: Path) -> None:
    def move_out(model: onnx.ModelProto, _: dict[str, str]) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="/etc/hostname")

    with pytest.raises(ArtifactError, match="a weight lies outside the file"):
        Predictor.load(resealed(artifact_path, move_out))


def test_every_flipped_byte_is_noticed(artifact_path: Path) -> None:
    data = artifact_path.read_bytes()
    for position in np.random.default_rng(0).choice(len(data), 300, replace=False):
        broken = bytearray(data)
        broken[position] ^= 1 << (position % 8)
        with pytest.raises(ArtifactError):
            Artifact.parse(bytes(broken))
    assert Artifact.parse(data).sha256  # and the positive control: untouched, it is read


def test_every_truncation_is_noticed(artifact_path: Path) -> None:
    data = artifact_path.read_bytes()
    for size in (0, 1, 100, len(data) // 2, len(data) - 1):
        with pytest.raises(ArtifactError):
            Artifact.parse(data[:size])


@given(data=st.binary(max_size=300))
def test_any_bytes_give_an_artifact_error(data: bytes) -> None:
    with pytest.raises(ArtifactError):
        Artifact.parse(data)


def test_the_hash_can_be_checked_with_hashlib_alone(artifact_path: Path) -> None:
    import hashlib

    data = artifact_path.read_bytes()
    sha256 = Artifact.parse(data).sha256
    assert data.count(sha256.encode()) == 1
    assert hashlib.sha256(data.replace(sha256.encode(), b"0" * 64)).hexdigest() == sha256


def test_a_plain_onnx_file_and_a_missing_one_are_named(tmp_path: Path) -> None:
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", [value], [value])
    path = tmp_path / "plain.onnx"
    onnx.save(onnx.helper.make_model(graph), path)
    with pytest.raises(ArtifactError, match=r"plain\.onnx .* was not exported by lmtool"):
        Artifact.read(path)
    with pytest.raises(StorageError, match="cannot read .*none.onnx: No such file"):
        Artifact.read(tmp_path / "none.onnx")
    with pytest.raises(StorageError, match="Is a directory"):
        Artifact.read(tmp_path)


def in_a_constant(model: onnx.ModelProto, _: dict[str, str]) -> None:
    outside = onnx.TensorProto(name="c", data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    node = model.graph.node.add(op_type="Constant", output=["c"])
    node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR).t.CopyFrom(outside)


def sparse(model: onnx.ModelProto, _: dict[str, str]) -> None:
    values, indices = (onnx.helper.make_tensor(name, kind, [1], [1]) for name, kind in (("s", 1), ("i", 7)))
    model.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, indices, [2**40]))


def function(model: onnx.ModelProto, _: dict[str, str]) -> None:
    model.functions.add(name="F", domain="f")


def training_graph(model: onnx.ModelProto, _: dict[str, str]) -> None:
    model.training_info.add()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (in_a_constant, "a weight lies outside the file"),
        (sparse, "it holds a sparse tensor, which takes more memory than the file"),
        (function, "it holds local functions"),
        (training_graph, "it holds a training graph"),
    ],
)
def test_content_that_expands_is_refused_everywhere(
    artifact_path: Path, change: Callable[[onnx.ModelProto, dict[str, str]], None], message: str
) -> None:
    with pytest.raises(ArtifactError, match=message):
        Artifact.parse(resealed(artifact_path, change))


@pytest.mark.parametrize(
    ("key", "value"),
    [("cell", []), ("embedding_size", 10**19), ("layer_sizes", []), ("layer_sizes", [1] * 1001), ("tied", "no")],
)
def test_huge_sizes_are_refused_with_a_short_message(artifact_path: Path, key: str, value: Any) -> None:
    description = json.dumps({**Artifact.read(artifact_path).architecture.to_json(), key: value})
    with pytest.raises(ArtifactError, match="the model description is not one that this version reads") as refused:
        Artifact.parse(resealed(artifact_path, set_metadata("lmtool.model", description)))
    assert len(str(refused.value)) < 500


def test_a_field_number_that_other_readers_would_shorten_is_refused(artifact_path: Path) -> None:
    hidden = bytes([7 << 3 | 2 | 0x80, 0x80, 0x80, 0x80, 0x10, 0])  # the graph's number, and a bit above the 32nd
    with pytest.raises(ArtifactError, match="is damaged at byte"):
        Artifact.parse(hidden + artifact_path.read_bytes())


def test_loading_computes_nothing_and_a_graph_that_cannot_run_says_so(artifact_path: Path) -> None:
    """A constant of a negative size loads, and is refused when it is computed."""

    def impossible(model: onnx.ModelProto, _: dict[str, str]) -> None:
        sizes = {"size": np.array([-5]), "one": np.ones(1, np.float32)}
        model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in sizes.items())
        for node in model.graph.node:
            node.input[:] = ["bias" if name == "projection.bias" else name for name in node.input]
        for operator, inputs, output in (
            ("Add", ["projection.bias", "sum"], "bias"),
            ("ReduceSum", ["big"], "sum"),
            ("Expand", ["one", "size"], "big"),
        ):
            model.graph.node.insert(0, onnx.helper.make_node(operator, inputs, [output]))

    predictor = Predictor.load(resealed(artifact_path, impossible))
    with pytest.raises(ArtifactError, match="onnxruntime cannot run the artifact"):
        predictor.step([[1]], predictor.initial_state())


@pytest.mark.parametrize("token_ids", [[[1]], [[1, 2]]], ids=["one token", "two tokens"])
def test_outputs_of_other_shapes_than_declared_are_refused(artifact_path: Path, token_ids: list[list[int]]) -> None:
    """One word fewer, in a way that onnxruntime cannot know before it runs."""

    def lessen(model: onnx.ModelProto, _: dict[str, str]) -> None:
        for node in model.graph.node:
            node.output[:] = ["all_logits" if name == "logits" else name for name in node.output]
        numbers = {"first": [0], "last": [-1], "axis": [2], "zero": [0]}
        arrays = [onnx.numpy_helper.from_array(np.array(value), name) for name, value in numbers.items()]
        model.graph.initializer.extend(arrays)
        for operator, inputs, output in (
            ("Mul", ["token_ids", "zero"], "zeros"),
            ("ReduceSum", ["zeros"], "none"),
            ("Add", ["last", "none"], "end_of_batch"),
            ("Reshape", ["end_of_batch", "last"], "end"),
            ("Slice", ["all_logits", "first", "end", "axis"], "logits"),
        ):
            model.graph.node.append(onnx.helper.make_node(operator, inputs, [output]))

    predictor = Predictor.load(resealed(artifact_path, lessen))
    expected = f"the artifact's graph breaks the contract: for a batch of 1 and {len(token_ids[0])} positions it gave"
    with pytest.raises(ArtifactError, match=expected):
        predictor.step(token_ids, predictor.initial_state())
