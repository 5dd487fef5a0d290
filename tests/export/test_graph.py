"""Graphs of every cell, opset and precision compute what torch computes, by independent means."""

import io
import re
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from lmtool.export import BuildOptions, build_model
from lmtool.export.doctor.examination import examine
from lmtool.export.foreign.foreign_model import all_nodes
from lmtool.model import LanguageModel
from lmtool.runtime import CELLS, PRECISIONS
from onnx.reference import ReferenceEvaluator
from support.models.networks import TOLERANCES, assert_same_outputs, network_of, random_inputs, run_model
from torch.torch_version import TorchVersion


@pytest.mark.parametrize("opset", [17, 21])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("sizes", "tied"), [((7, 3), False), ((7, 5), True), ((4,), False), ((2, 3, 4), False)])
def test_the_reference_evaluator_agrees_with_torch(sizes: tuple[int, ...], tied: bool, cell: str, opset: int) -> None:
    network = network_of(sizes, tied=tied, cell=cell)
    evaluator = ReferenceEvaluator(build_model(network, BuildOptions("fp32", opset)))
    for batch, time in ((1, 1), (3, 4), (2, 9)):
        tokens, state, feeds = random_inputs(network, batch, time)
        with np.errstate(invalid="ignore"):  # small products raise the flag without cause on some processors
            logits, *states = evaluator.run(None, {"token_ids": tokens, "logits_to_keep": np.array([0]), **feeds})
        assert_same_outputs(network, tokens, state, logits, states)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("opset", [17, 18, 19, 20, 21])
def test_onnxruntime_agrees_with_torch_in_every_opset(cell: str, opset: int) -> None:
    network = network_of((7, 3), cell=cell)
    model = build_model(network, BuildOptions("fp32", opset))
    for batch, time in ((1, 1), (3, 4), (33, 2)):
        tokens, state, feeds = random_inputs(network, batch, time)
        logits, *states = run_model(model, tokens, feeds)
        assert_same_outputs(network, tokens, state, logits, states)


@pytest.mark.parametrize("cell", CELLS)
def test_half_precision_is_standard_float32_at_its_borders_and_close(cell: str) -> None:
    network = network_of((64, 48), vocabulary=500, cell=cell)
    half, full = (build_model(network, BuildOptions(name)) for name in ("fp16", "fp32"))
    assert [value.type.tensor_type.elem_type for value in half.graph.output] == [
        value.type.tensor_type.elem_type for value in full.graph.output
    ]
    assert half.ByteSize() < 0.6 * full.ByteSize()
    tokens, state, feeds = random_inputs(network, 3, 5)
    logits = run_model(half, tokens, feeds)[0]
    with torch.inference_mode():
        expected, _ = network(torch.from_numpy(tokens), state)
    error = np.abs(logits - expected.numpy()).max()
    assert 0 < error < TOLERANCES["fp16"]


@pytest.mark.parametrize("cell", CELLS)
def test_the_legacy_exporter_of_torch_agrees(cell: str) -> None:
    network = network_of((7, 3), cell=cell)
    tokens, state, feeds = random_inputs(network, 2, 3)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter is deprecated, which is why it is only a cross-check
        torch.onnx.export(
            network,
            (torch.from_numpy(tokens), state),
            file,
            input_names=["token_ids", *feeds],
            output_names=["logits", *(f"next_{name}" for name in feeds)],
            dynamic_axes={"token_ids": {0: "batch", 1: "time"}},
            opset_version=17,
            dynamo=False,
        )
    assert_equal_graphs(network, onnx.load_from_string(file.getvalue()), tokens, feeds)


# With torch 2.13 this exporter takes every cell, but for one length only: also where `dynamic_shapes` asks for any, the
# LSTM's and the GRU's outputs are reshaped to the exported length, and the RNN is unrolled over it. The warnings are of
# torch's own code; the first one as an error would only make the exporter trace in another way than it does for users.
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.filterwarnings("ignore:The tensor attributes? .* assigned during export:UserWarning")
@pytest.mark.filterwarnings(r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning")
def test_the_default_exporter_of_torch_agrees(cell: str, tmp_path: Path) -> None:
    if cell == "gru" and torch.__version__ < TorchVersion("2.13"):
        pytest.skip(f"the exporter of torch {torch.__version__} makes a GRU that computes otherwise than torch")
    network = network_of((7, 3), cell=cell)
    tokens, state, feeds = random_inputs(network, 2, 3)
    program = torch.onnx.export(
        network,
        (torch.from_numpy(tokens), state),
        input_names=["token_ids", *feeds],
        output_names=["logits", *(f"next_{name}" for name in feeds)],
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    assert_equal_graphs(network, program.model_proto, tokens, feeds)
    onnx.save(program.model_proto, tmp_path / "network.onnx")
    assert {fault.kind for fault in examine(tmp_path / "network.onnx").faults} == {"baked-batch", "baked-time"}


def assert_equal_graphs(
    network: LanguageModel, theirs: onnx.ModelProto, tokens: np.ndarray, feeds: dict[str, np.ndarray]
) -> None:
    """Logits and states equal those of our graph, which has fewer nodes."""
    ours = build_model(network, BuildOptions())
    expected, computed = (
        dict(zip([value.name for value in model.graph.output], run_model(model, tokens, feeds), strict=True))
        for model in (theirs, ours)
    )
    assert computed.keys() == expected.keys()
    for name, value in computed.items():
        np.testing.assert_allclose(value, expected[name], atol=1e-6, err_msg=name)
    assert len(ours.graph.node) < len(theirs.graph.node)


def test_a_tied_matrix_is_stored_once() -> None:
    tied, untied = (
        build_model(network_of((7, 5), tied=tied, vocabulary=1000), BuildOptions()).ByteSize() for tied in (True, False)
    )
    assert untied - tied == pytest.approx(1000 * 5 * 4, abs=400)


def test_a_tied_matrix_is_not_transposed_into_a_second_one_at_load(tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    model = build_model(network_of((7, 5), tied=True, vocabulary=1000), BuildOptions())
    onnxruntime.InferenceSession(model.SerializeToString(), options)
    tensors = onnx.load(options.optimized_model_filepath).graph.initializer
    assert sum(1000 in tensor.dims and len(tensor.dims) == 2 for tensor in tensors) == 1


@pytest.mark.parametrize("cell", CELLS)
def test_half_precision_takes_tied_matrices(cell: str) -> None:
    network = network_of((64, 5), tied=True, vocabulary=500, cell=cell)
    tokens, state, feeds = random_inputs(network, 3, 4)
    logits = run_model(build_model(network, BuildOptions("fp16")), tokens, feeds)[0]
    with torch.inference_mode():
        expected, _ = network(torch.from_numpy(tokens), state)
    np.testing.assert_allclose(logits, expected.numpy(), atol=TOLERANCES["fp16"])


def test_the_documentation_lists_the_operators_of_all_files() -> None:
    used = set()
    for cell in CELLS:
        for tied in (True, False):
            for precision in PRECISIONS:
                network = network_of((7, 5), tied=tied, cell=cell)
                nodes = all_nodes(build_model(network, BuildOptions(precision)))
                used |= {(node.domain, node.op_type) for node in nodes}
    assert {domain for domain, _ in used} == {""}
    page = (Path(__file__).parents[2] / "docs" / "reference" / "artifact.md").read_text()
    listed = re.search(r"none newer than opset 16: ([^.]*)\.", page)
    assert listed is not None
    assert listed[1].replace("\n", " ").split(", ") == sorted(operator for _, operator in used)
    assert max(onnx.defs.get_schema(operator, 17).since_version for _, operator in used) == 16
