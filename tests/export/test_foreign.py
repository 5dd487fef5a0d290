"""ONNX files from elsewhere are adopted and verified, or refused with a reason."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from lmtool.bench import BenchError
from lmtool.bench.backends.registry import BACKENDS
from lmtool.bench.backends.source import Source
from lmtool.bench.workers.verify import verify_backend
from lmtool.export import BuildOptions, build_model
from lmtool.export.foreign.adopt import adopt
from lmtool.model import Run
from lmtool.runtime import PRECISIONS, Architecture, Artifact, ArtifactError, Predictor, StorageError
from onnx import TensorProto, helper, numpy_helper
from support.models.networks import network_of
from torch import nn

Change = Callable[[onnx.ModelProto], None]


class Elsewhere(nn.Module):
    """Two LSTM layers, batch first, with the contract's names of states."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.embedding = nn.Embedding(11, 5)
        self.first, self.second = nn.LSTM(5, 7, batch_first=True), nn.LSTM(7, 3, batch_first=True)
        self.projection = nn.Linear(3, 11)

    def forward(self, token_ids: Any, cell_0: Any, cell_1: Any, hidden_0: Any, hidden_1: Any) -> Any:
        lower, (hidden_0, cell_0) = self.first(self.embedding(token_ids), (hidden_0[None], cell_0[None]))
        upper, (hidden_1, cell_1) = self.second(lower, (hidden_1[None], cell_1[None]))
        return self.projection(upper), cell_0[0], cell_1[0], hidden_0[0], hidden_1[0]


STATES = {"cell_0": 7, "cell_1": 3, "hidden_0": 7, "hidden_1": 3}


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that torch's exporter writes of `Elsewhere`."""
    path = tmp_path_factory.mktemp("elsewhere") / "foreign.onnx"
    outputs = ["logits", *(f"next_{name}" for name in STATES)]
    axes = {name: {0: "batch"} for name in (*STATES, *outputs)}
    axes |= {name: {0: "batch", 1: "time"} for name in ("token_ids", "logits")}
    arguments = (torch.zeros(2, 3, dtype=torch.long), *(torch.zeros(2, width) for width in STATES.values()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this exporter is deprecated
        torch.onnx.export(
            Elsewhere().eval(),
            arguments,
            path,
            input_names=["token_ids", *STATES],
            output_names=outputs,
            dynamic_axes=axes,
            dynamo=False,
        )
    return path


def written(path: Path, change: Change, out: Path) -> Path:
    """A copy of a file with a change."""
    model = onnx.load(path)
    change(model)
    onnx.save(model, out)
    return out


def value(model: onnx.ModelProto, name: str) -> onnx.ValueInfoProto:
    return next(declared for declared in (*model.graph.input, *model.graph.output) if declared.name == name)


def without_metadata(model: onnx.ModelProto) -> None:
    del model.metadata_props[:]


def test_an_artifact_without_its_metadata_is_adopted_and_computes_the_same_bits(
    artifact_path: Path, predictor: Predictor, tmp_path: Path
) -> None:
    stripped = written(artifact_path, without_metadata, tmp_path / "stripped.onnx")
    before = stripped.read_bytes()
    copy = adopt(stripped, tmp_path)
    assert copy.parent == tmp_path
    assert stripped.read_bytes() == before
    adopted = Predictor.load(copy)
    assert adopted.artifact.architecture == predictor.artifact.architecture
    assert adopted.artifact.batch_invariant is False
    assert (adopted.artifact.precision, adopted.artifact.parity, adopted.artifact.training) == ("fp32", {}, {})
    assert adopted.vocabulary.tokens == tuple(map(str, range(len(predictor.vocabulary))))
    tokens = np.random.default_rng(0).integers(0, len(predictor.vocabulary), (3, 4))
    for kept in (None, 2):
        ours, theirs = (
            loaded.step(tokens, loaded.initial_state(3), logits_to_keep=kept) for loaded in (predictor, adopted)
        )
        np.testing.assert_array_equal(ours[0], theirs[0])
        for original, copied in zip(ours[1].tensors, theirs[1].tensors, strict=True):
            np.testing.assert_array_equal(original, copied)
    again = adopt(stripped, tmp_path).read_bytes()
    assert again == copy.read_bytes()


def test_a_file_of_another_exporter_computes_what_its_network_computes(foreign: Path, tmp_path: Path) -> None:
    adopted = Predictor.load(adopt(foreign, tmp_path))
    assert adopted.artifact.architecture == Architecture("lstm", 5, (7, 3), tied=False)
    tokens = np.random.default_rng(0).integers(0, 11, (2, 4))
    logits, _ = adopted.step(tokens, adopted.initial_state(2))
    with torch.inference_mode():
        zeros = [torch.zeros(2, width) for width in STATES.values()]
        expected = Elsewhere().eval()(torch.from_numpy(tokens), *zeros)[0]
    np.testing.assert_allclose(logits, expected.numpy(), atol=1e-5)


def test_a_file_of_another_exporter_is_verified_against_the_evaluator(foreign: Path, tmp_path: Path) -> None:
    source = Source(adopt(foreign, tmp_path))
    report = verify_backend("onnxruntime", source)
    assert report["passed"], report["failures"]
    assert report["original"].startswith("onnx.reference ")
    assert report["text"].startswith("drawn from the original itself")
    assert report["original_sha256"] == Artifact.read(source.artifact).sha256
    assert report["placement"]["cpu"]["LSTM"] == 2
    assert report["worst"]["absolute"] > 0  # two computations, not one with itself
    evaluated = verify_backend("reference", source)
    assert evaluated["passed"], evaluated["failures"]
    assert evaluated["original"].startswith("onnxruntime ")
    assert evaluated["original"].endswith(" without graph optimizations")


@pytest.mark.parametrize("tensor", ["logits", "next_cell_1"])
def test_a_wrong_number_is_caught_without_the_pytorch_original(
    foreign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tensor: str
) -> None:
    step = Predictor.step

    def wrong(self: Any, tokens: Any, state: Any, **options: Any) -> Any:
        if not hasattr(self.session, "get_inputs"):  # the evaluator
            return step(self, tokens, state, **options)
        logits, after = step(self, tokens, state, **options)
        if tensor == "logits":
            return logits + np.float32(1e-3), after
        tensors = [array.copy() for array in after.tensors]
        tensors[1][0, 0] += np.float32(1e-3)
        return logits, type(after)(after.model_sha256, tuple(tensors))

    source = Source(adopt(foreign, tmp_path))
    monkeypatch.setattr(Predictor, "step", wrong)
    report = verify_backend("onnxruntime", source)
    assert not report["passed"]
    assert all(f": {tensor.removeprefix('next_')} differs by " in failure for failure in report["failures"][:3])


def test_a_wrong_weight_is_caught_by_another_artifact_as_the_original(run: Run, tmp_path: Path) -> None:
    def wrong(model: onnx.ModelProto) -> None:
        without_metadata(model)
        bias = next(tensor for tensor in model.graph.initializer if tensor.name == "projection.bias")
        values = numpy_helper.to_array(bias).copy()
        values[0] += 0.01
        bias.CopyFrom(numpy_helper.from_array(values, bias.name))

    right = adopt(written(run.artifact("fp32"), without_metadata, tmp_path / "right.onnx"), tmp_path)
    moved = adopt(written(run.artifact("fp32"), wrong, tmp_path / "wrong.onnx"), tmp_path)
    assert verify_backend("onnxruntime", Source(right, right))["passed"]
    report = verify_backend("onnxruntime", Source(moved, right))
    assert "logits differs by 1.0" in report["failures"][0]


def test_an_artifact_without_its_run_is_verified_against_its_own_graph(run: Run, dynamic_int8_path: Path) -> None:
    files = (run.artifact("fp32"), run.artifact("int8"), dynamic_int8_path)
    for path, original in zip(files, ("onnx.reference ", "onnx.reference ", "onnxruntime "), strict=True):
        report = verify_backend("onnxruntime", Source(path))
        assert report["passed"], report["failures"]
        assert report["original"].startswith(original)
        assert report["original_sha256"] == report["exported_from"]
    assert "onnx.reference cannot run the file: No implementation for operator" in report["original"]
    beside = verify_backend("onnxruntime", Source(run.artifact("int8"), run.artifact("fp32")))
    assert beside["passed"], beside["failures"]
    assert beside["original"].endswith(" over model.onnx")


def test_torch_needs_the_run(run: Run) -> None:
    for original in (None, run.artifact("fp32")):
        with pytest.raises(BenchError, match="there is no PyTorch original of .*expected the run folder"):
            BACKENDS["torch"].load(Source(run.artifact("fp32"), original))


def test_an_operator_that_the_evaluator_lacks_is_named(dynamic_int8_path: Path) -> None:
    with pytest.raises(BenchError, match="onnx.reference .* cannot run .*: No implementation for operator"):
        BACKENDS["reference"].load(Source(dynamic_int8_path))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_cell_sizes_and_precision_are_read_from_the_graph(cell: str, precision: str, tmp_path: Path) -> None:
    network = network_of((7, 3), cell=cell)
    onnx.save(build_model(network, BuildOptions(precision)), tmp_path / "plain.onnx")
    artifact = Artifact.read(adopt(tmp_path / "plain.onnx", tmp_path))
    is_seen = precision != "int8" or cell != "gru"  # the nodes of int8 do not tell a GRU from an RNN
    assert artifact.architecture == replace(network.architecture, cell=cell if is_seen else "rnn")
    assert artifact.precision == precision


def test_tied_weights_are_noticed(tmp_path: Path) -> None:
    onnx.save(build_model(network_of((7, 5), tied=True), BuildOptions()), tmp_path / "tied.onnx")
    assert Artifact.read(adopt(tmp_path / "tied.onnx", tmp_path)).architecture.tied is True


def test_sizes_that_the_graph_leaves_open_are_found(foreign: Path, tmp_path: Path) -> None:
    def open_up(model: onnx.ModelProto) -> None:
        for output in model.graph.output:
            output.type.tensor_type.shape.dim[-1].dim_param = "size"
        value(model, "hidden_0").type.tensor_type.shape.dim[1].dim_param = "anything"
        value(model, "cell_1").type.tensor_type.shape.dim[1].Clear()

    artifact = Artifact.read(adopt(written(foreign, open_up, tmp_path / "open.onnx"), tmp_path))
    assert artifact.architecture == Architecture("lstm", 5, (7, 3), tied=False)
    assert len(artifact.vocabulary) == 11


def test_an_artifact_is_not_adopted(artifact_path: Path, tmp_path: Path) -> None:
    assert adopt(artifact_path, tmp_path) == artifact_path
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_artifact_is_refused_and_never_adopted(artifact_path: Path, tmp_path: Path) -> None:
    data = artifact_path.read_bytes()
    damaged = tmp_path / "damaged.onnx"
    weights = numpy_helper.to_array(onnx.load(artifact_path).graph.initializer[0]).tobytes()
    places = {"weights": data.index(weights) + 5, "format": data.index(b"lmtool.format") + 9}
    for place in places.values():
        changed = bytearray(data)
        changed[place] ^= 1
        damaged.write_bytes(changed)
        with pytest.raises(ArtifactError, match="it is damaged: its bytes hash|it has no lmtool.format"):
            adopt(damaged, tmp_path)
    for size in (0, 10, len(data) // 2, len(data) - 20):
        damaged.write_bytes(data[:size])
        with pytest.raises(ArtifactError, match=rf"damaged.onnx \({size:,} bytes\) cannot be used"):
            adopt(damaged, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["damaged.onnx"]


def test_files_that_are_not_onnx_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("something else")
    with pytest.raises(ArtifactError, match="it is no ONNX file"):
        adopt(tmp_path / "text.onnx", tmp_path)
    with pytest.raises(StorageError, match="cannot read"):
        adopt(tmp_path / "none.onnx", tmp_path)


def test_weights_outside_the_file_are_refused(foreign: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.onnx"
    onnx.save(onnx.load(foreign), outside, save_as_external_data=True, location="weights.bin", size_threshold=0)
    with pytest.raises(ArtifactError, match="a weight lies outside the file"):
        adopt(outside, tmp_path)


def test_files_that_onnxs_checker_refuses_are_refused(foreign: Path, tmp_path: Path) -> None:
    def break_node(model: onnx.ModelProto) -> None:
        model.graph.node[0].input[0] = "nothing"

    with pytest.raises(ArtifactError, match="onnx's checker refuses it: .*nothing"):
        adopt(written(foreign, break_node, tmp_path / "broken.onnx"), tmp_path)


def rename(old: str, new: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        value(model, old).name = new
        for node in model.graph.node:
            for names in (node.input, node.output):
                names[:] = [new if name == old else name for name in names]

    return change


def retype(name: str, kind: int, *shape: int | str) -> Change:
    return lambda model: value(model, name).CopyFrom(helper.make_tensor_value_info(name, kind, shape))


def drop_output(model: onnx.ModelProto) -> None:
    model.graph.output.remove(value(model, "next_hidden_1"))


def add_output(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Identity", ["logits"], ["more"]))
    model.graph.output.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["batch", "time", 11]))


def half_state(model: onnx.ModelProto) -> None:
    model.graph.node.insert(0, helper.make_node("Cast", ["hidden_1"], ["wide"], to=TensorProto.FLOAT))
    for node in model.graph.node[1:]:
        node.input[:] = ["wide" if name == "hidden_1" else name for name in node.input]
    retype("hidden_1", TensorProto.FLOAT16, "batch", 3)(model)


def require_keep(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("logits_to_keep", TensorProto.INT64, [1]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            rename("token_ids", "input_ids"),
            r"the input 'token_ids' breaks the contract: found none, expected int64 \[batch, time\] "
            r"\(the graph's inputs: input_ids, cell_0,",
        ),
        (rename("hidden_0", "h0"), r"input 'hidden_0' .* found none, expected float32 \[batch, 7\]"),
        (rename("cell_1", "cell_2"), r"input 'cell_1' .* found none, expected float32 \[batch, 3\]"),
        (rename("next_cell_0", "state"), r"output 'next_cell_0' .* found none, expected float32 \[batch, 7\]"),
        (drop_output, r"output 'next_hidden_1' .* found none, expected float32 \[batch, 3\]"),
        (add_output, r"output 'more' .* found float32 \[batch, time, 11\], expected none"),
        (
            retype("token_ids", TensorProto.INT32, "batch", "time"),
            r"input 'token_ids' .* found int32 \[batch, time\], expected int64 \[batch, time\]",
        ),
        (retype("token_ids", TensorProto.INT64, 2, "time"), r"input 'token_ids' .* found int64 \[2, time\]"),
        (retype("token_ids", TensorProto.INT64, "batch", 3), r"input 'token_ids' .* found int64 \[batch, 3\]"),
        (
            retype("hidden_0", TensorProto.FLOAT, 1, "batch", 7),
            r"input 'hidden_0' .* found float32 \[1, batch, 7\], expected float32 \[batch, 7\]",
        ),
        (retype("cell_0", TensorProto.FLOAT, "batch", 8), r"input 'cell_0' .* \[batch, 8\], expected .* \[batch, 7\]"),
        (half_state, r"input 'hidden_1' .* found float16 \[batch, 3\], expected float32 \[batch, 3\]"),
        (require_keep, r"input 'logits_to_keep' .* found int64 \[1\] without a default"),
    ],
)
def test_the_first_input_or_output_that_differs_is_named(
    foreign: Path, tmp_path: Path, change: Change, message: str
) -> None:
    changed = written(foreign, change, tmp_path / "changed.onnx")
    with pytest.raises(ArtifactError, match=message):
        adopt(changed, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["changed.onnx"]


def test_an_axis_that_is_frozen_against_its_declaration_is_found(foreign: Path, tmp_path: Path) -> None:
    def freeze(model: onnx.ModelProto) -> None:
        model.graph.initializer.append(numpy_helper.from_array(np.array([-1, 1], np.int64), "frozen"))
        model.graph.node.insert(0, helper.make_node("Identity", ["frozen"], ["hidden_from_inference"]))
        reshape = helper.make_node("Reshape", ["token_ids", "hidden_from_inference"], ["column"])
        model.graph.node.insert(1, reshape)
        for node in model.graph.node[2:]:
            node.input[:] = ["column" if name == "token_ids" else name for name in node.input]

    with pytest.raises(ArtifactError, match=r"it does not run with token ids \[2, 3\]: "):
        adopt(written(foreign, freeze, tmp_path / "frozen.onnx"), tmp_path)


def test_a_default_that_drops_logits_is_found(artifact_path: Path, tmp_path: Path) -> None:
    def keep_one(model: onnx.ModelProto) -> None:
        without_metadata(model)
        keep = next(tensor for tensor in model.graph.initializer if tensor.name == "logits_to_keep")
        keep.CopyFrom(numpy_helper.from_array(np.array([1], np.int64), keep.name))

    with pytest.raises(ArtifactError, match=r"output 'logits' .* with token ids \[2, 3\] found float32 \[2, 1, "):
        adopt(written(artifact_path, keep_one, tmp_path / "one.onnx"), tmp_path)


def test_an_embedding_that_is_too_small_is_refused(tmp_path: Path) -> None:
    model = build_model(network_of((7, 3)), BuildOptions())
    table = next(tensor for tensor in model.graph.initializer if tensor.name == "embedding")
    table.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(table)[:9], "embedding"))
    onnx.save(model, tmp_path / "small.onnx")
    with pytest.raises(ArtifactError, match="its embedding has 9 rows for the 11 tokens of its logits"):
        adopt(tmp_path / "small.onnx", tmp_path)
