"""The export: equal to the original by independent means, deterministic, and gated by its verification."""

import json
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from lmtool.export import (
    BOUNDS,
    Bounds,
    BuildOptions,
    Case,
    ExportError,
    Original,
    ParityError,
    ParityReport,
    build_model,
    building,
    draw_graph,
    export_run,
    export_sherpa,
    exporting,
    measure_batch_invariance,
    original_of,
    triton_config,
    verify,
    verify_artifact,
    write_triton_repository,
)
from lmtool.export.quantization import pack_blocks
from lmtool.export.sealing import seal
from lmtool.export.sherpa import build_sherpa_model
from lmtool.model import CheckpointError, LanguageModel, Run, RunError, TrainOptions, run_training
from lmtool.model.network import state_tensors
from lmtool.runtime import (
    CELLS,
    PRECISIONS,
    Architecture,
    ArtifactError,
    OptionError,
    Predictor,
    StorageError,
    Tokenization,
    Vocabulary,
)
from lmtool.runtime.artifact import HASH_KEY
from onnx.reference import ReferenceEvaluator
from tiny import SETTINGS, Silent


def network_of(
    layer_sizes: tuple[int, ...], *, tied: bool = False, vocabulary: int = 11, cell: str = "lstm"
) -> LanguageModel:
    network = LanguageModel(Architecture(cell, 5, layer_sizes, tied), vocabulary)
    network.initialize(0.5, torch.Generator().manual_seed(3))
    for name, parameter in network.named_parameters():
        if "bias" in name:  # zeros would hide a bias that is lost
            torch.nn.init.uniform_(parameter, -0.5, 0.5, torch.Generator().manual_seed(4))
    return network.eval()


def draw(network: LanguageModel, batch: int, time: int) -> tuple[np.ndarray, Any, dict[str, np.ndarray]]:
    """Random tokens and a random state, for torch and by the artifact's names."""
    tokens = np.random.default_rng(batch * 10 + time).integers(0, network.vocabulary_size, (batch, time))
    generator = torch.Generator().manual_seed(batch)
    state = tuple(
        tuple(torch.rand(tensor.shape, generator=generator) - 0.5 for tensor in layer)
        for layer in network.initial_state(batch)
    )
    return tokens, state, {name: tensor.numpy() for name, tensor in state_tensors(state).items()}


def assert_same(network: LanguageModel, tokens: np.ndarray, state: Any, logits: np.ndarray, states: Any) -> None:
    with torch.inference_mode():
        expected, expected_state = network(torch.from_numpy(tokens), state)
    np.testing.assert_allclose(logits, expected.numpy(), atol=1e-5)
    named = state_tensors(expected_state)
    for name, found in zip(sorted(named), states, strict=True):
        np.testing.assert_allclose(found, named[name].numpy(), atol=1e-5)


@pytest.mark.parametrize("opset", [17, 21])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("sizes", "tied"), [((7, 3), False), ((7, 5), True), ((4,), False), ((2, 3, 4), False)])
def test_the_reference_evaluator_agrees_with_torch(sizes: tuple[int, ...], tied: bool, cell: str, opset: int) -> None:
    network = network_of(sizes, tied=tied, cell=cell)
    evaluator = ReferenceEvaluator(build_model(network, BuildOptions("fp32", opset)))
    for batch, time in ((1, 1), (3, 4), (2, 9)):
        tokens, state, feeds = draw(network, batch, time)
        with np.errstate(invalid="ignore"):  # small products raise the flag without cause on some processors
            logits, *states = evaluator.run(None, {"token_ids": tokens, "logits_to_keep": np.array([0]), **feeds})
        assert_same(network, tokens, state, logits, states)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("opset", [17, 18, 19, 20, 21])
def test_onnxruntime_agrees_with_torch_in_every_opset(cell: str, opset: int) -> None:
    network = network_of((7, 3), cell=cell)
    model = build_model(network, BuildOptions("fp32", opset))
    for batch, time in ((1, 1), (3, 4), (33, 2)):
        tokens, state, feeds = draw(network, batch, time)
        logits, *states = run_model(model, tokens, feeds)
        assert_same(network, tokens, state, logits, states)


def run_model(model: onnx.ModelProto, tokens: np.ndarray, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Half precision crashes onnxruntime's CPU provider with more than this.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    known = {value.name for value in session.get_inputs()}
    return session.run(None, {name: value for name, value in {"token_ids": tokens, **feeds}.items() if name in known})


@pytest.mark.parametrize("cell", CELLS)
def test_half_precision_is_standard_float32_at_its_borders_and_close(cell: str) -> None:
    network = network_of((64, 48), vocabulary=500, cell=cell)
    half, full = (build_model(network, BuildOptions(name)) for name in ("fp16", "fp32"))
    assert [value.type.tensor_type.elem_type for value in half.graph.output] == [
        value.type.tensor_type.elem_type for value in full.graph.output
    ]
    assert half.ByteSize() < 0.6 * full.ByteSize()
    tokens, state, feeds = draw(network, 3, 5)
    logits = run_model(half, tokens, feeds)[0]
    with torch.inference_mode():
        expected, _ = network(torch.from_numpy(tokens), state)
    error = np.abs(logits - expected.numpy()).max()
    assert 0 < error < 0.02


@pytest.mark.parametrize("bits", [8, 4])
def test_packed_blocks_unpack_to_the_weights(bits: int) -> None:
    random = np.random.default_rng(0)
    weight = random.normal(size=(6, 300)).astype(np.float32)
    weight[2] = 0
    packed, scales = pack_blocks(weight, bits)
    if bits == 4:
        packed = np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:2], -1)
    restored = (packed.astype(np.float32) - 2 ** (bits - 1)) * scales.reshape(6, -1, 1)
    restored = restored.reshape(6, -1)
    assert not restored[:, 300:].any()
    step = np.repeat(np.abs(scales.reshape(6, -1)), packed.shape[2], axis=1)[:, :300]
    assert (np.abs(restored[:, :300] - weight) <= step * 1.001).all()
    np.testing.assert_allclose(restored[:, :300], weight, atol=0.6 * step.max())


@pytest.mark.parametrize(("precision", "bound"), [("w8", 0.05), ("w4", 0.5)])
@pytest.mark.parametrize("cell", CELLS)
def test_weight_only_projections_are_close(precision: str, bound: float, cell: str) -> None:
    network = network_of((64, 48), vocabulary=500, cell=cell)
    model = build_model(network, BuildOptions(precision))
    assert [node.op_type for node in model.graph.node].count("MatMulNBits") == 1
    tokens, state, feeds = draw(network, 3, 5)
    logits = run_model(model, tokens, feeds)[0]
    with torch.inference_mode():
        expected, _ = network(torch.from_numpy(tokens), state)
    error = np.abs(logits - expected.numpy()).max()
    assert 0 < error < bound


def test_int8_for_latency_quantizes_the_lstm_and_keeps_a_weight_only_projection() -> None:
    model = build_model(network_of((64, 48), vocabulary=500), BuildOptions("int8", optimize_for="latency"))
    operators = [node.op_type for node in model.graph.node]
    assert operators.count("DynamicQuantizeLSTM") == 2
    assert operators.count("MatMulNBits") == 1
    assert not {"LSTM", "MatMul", "MatMulInteger"} & set(operators)


@pytest.mark.parametrize("cell", ["gru", "rnn"])
@pytest.mark.parametrize("purpose", ["latency", "throughput"])
def test_int8_without_lstm_layers_is_refused(cell: str, purpose: str) -> None:
    with pytest.raises(ExportError, match="int8 needs every LSTM as DynamicQuantizeLSTM: found 0 of 0; .* w8"):
        build_model(network_of((7, 3), cell=cell), BuildOptions("int8", optimize_for=purpose))


@pytest.mark.parametrize("cell", CELLS)
def test_the_legacy_exporter_of_torch_agrees(cell: str, tmp_path: Path) -> None:
    network = network_of((7, 3), cell=cell)
    tokens, state, feeds = draw(network, 2, 3)
    path = tmp_path / "theirs.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter is deprecated, which is why it is only a cross-check
        torch.onnx.export(
            network,
            (torch.from_numpy(tokens), state),
            path,
            input_names=["token_ids", *(f"{name}_{layer}" for layer in (0, 1) for name in state_kinds(cell))],
            dynamic_axes={"token_ids": {0: "batch", 1: "time"}},
            opset_version=17,
            dynamo=False,
        )
    ours, theirs = build_model(network, BuildOptions()), onnx.load(path)
    expected = run_model(theirs, tokens, feeds)[0]
    np.testing.assert_allclose(run_model(ours, tokens, feeds)[0], expected, atol=1e-6)
    assert len(ours.graph.node) < len(theirs.graph.node)


def state_kinds(cell: str) -> tuple[str, ...]:
    return ("hidden", "cell") if cell == "lstm" else ("hidden",)


def test_a_tied_matrix_is_stored_once() -> None:
    tied, untied = (
        build_model(network_of((7, 5), tied=tied, vocabulary=1000), BuildOptions()).ByteSize() for tied in (True, False)
    )
    assert untied - tied == pytest.approx(1000 * 5 * 4, abs=200)


def test_the_same_run_exports_the_same_bytes(run: Run, tmp_path: Path) -> None:
    for precision in ("fp32", "int8"):
        again = export_run(run, precision, tmp_path / "again.onnx").path
        assert again.read_bytes() == run.artifact(precision).read_bytes()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_a_run_of_another_cell_is_trained_and_exported(
    tmp_path: Path, corpus_folder: Path, cell: str, precision: str
) -> None:
    settings = {**SETTINGS, "cell": cell, "epochs": "1"}
    options = TrainOptions("ptb-200", str(corpus_folder), tmp_path / "run", settings=settings, threads=1)
    run_training(options, Silent())
    if precision == "int8":
        with pytest.raises(ExportError, match="export --precision w8 or fp32 instead"):
            export_run(Run(tmp_path / "run"), precision)
        return
    exported = export_run(Run(tmp_path / "run"), precision)
    predictor = Predictor.load(exported.path)
    assert list(predictor.artifact.architecture.states) == ["hidden_0", "hidden_1"]
    assert predictor.artifact.batch_invariant is exported.report.batch_invariant
    assert len(predictor.stream().suggest(3)) == 3


def test_the_report_of_a_good_export_passes(run: Run, predictor: Predictor, int8_predictor: Predictor) -> None:
    for loaded in (predictor, int8_predictor):
        report = verify(original_of(run), loaded, loop_steps=50)
        assert report.passed
        assert report.failures == []
        assert loaded.artifact.parity["original_sha256"] == report.original_sha256
        assert loaded.artifact.training["test_perplexity"] == pytest.approx(report.original_perplexity, rel=1e-6)
    assert predictor.artifact.batch_invariant is True
    assert measure_batch_invariance(predictor) is True


def test_int8_is_really_quantized_and_smaller() -> None:
    network = network_of((64, 48), tied=False, vocabulary=500)
    fp32, int8 = (build_model(network, BuildOptions(name)) for name in ("fp32", "int8"))
    operators = [node.op_type for node in int8.graph.node]
    assert operators.count("DynamicQuantizeLSTM") == 2
    assert operators.count("MatMulInteger") == 1
    assert "LSTM" not in operators
    assert int8.ByteSize() < 0.35 * fp32.ByteSize()


def test_dynamic_int8_depends_on_neighbours_and_says_so(int8_predictor: Predictor) -> None:
    assert int8_predictor.artifact.batch_invariant is False
    assert measure_batch_invariance(int8_predictor) is False


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("weight", ["layer_1.W", "layer_0.R", "projection", "embedding", "layer_0.B"])
def test_a_planted_wrong_weight_is_never_written(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, weight: str
) -> None:
    build = building.build_graph

    def build_wrong(*args: object, **options: object) -> onnx.ModelProto:
        model = build(*args, **options)
        tensor = next(found for found in model.graph.initializer if found.name.startswith(weight))
        values = onnx.numpy_helper.to_array(tensor).copy()
        values.flat[: values.size // 2] *= -1.5
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        return model

    monkeypatch.setattr(building, "build_graph", build_wrong)
    out = tmp_path / "model.onnx"
    with pytest.raises(
        ParityError, match=f"the {precision} export of .* does not match the original and was not written"
    ):
        export_run(run, precision, out)
    assert [path.name for path in tmp_path.iterdir()] == [f"rejected.{precision}.json"]


def report(**changes: object) -> ParityReport:
    values: dict[str, object] = {
        "precision": "fp32",
        "variant": "fp32",
        "provider": "cpu",
        "exported_from": None,
        "original_sha256": "0",
        "cases": [Case("grid", "logits", 1e-6, 10.0)],
        "loop_steps": 10,
        "loop_differences": 0,
        "loop_disagreements": 0,
        "text": "a text",
        "tokens": 100,
        "original_perplexity": 50.0,
        "artifact_perplexity": 50.0,
        "batch_invariant": True,
    }
    return ParityReport(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "failure"),
    [
        (
            {"cases": [Case("grid", "logits", 2e-4, 10.0)]},
            "grid: logits differs by 2.00e-04 at scale 10.0",
        ),
        ({"cases": [Case("small", "logits", 2e-5, 1.0)]}, "small: logits differs by 2.00e-05"),
        ({"cases": [Case("lost", "logits", float("nan"), 1.0)]}, "lost: logits differs by nan"),
        ({"exported_from": "1"}, "exported from another network"),
        ({"loop_disagreements": 1}, "closed loop: 1 of 10 tokens differ beyond rounding"),
        ({"artifact_perplexity": 50.1}, r"perplexity: 50.1000, the original's is 50.0000 \(\+0.200%, allowed 0.01%\)"),
        ({"artifact_perplexity": float("nan")}, "perplexity: nan"),
        ({"precision": "int8", "cases": [Case("grid", "logits", 6.0, 10.0)]}, "allowed 0.5 of it"),
        ({"precision": "int8", "artifact_perplexity": 50.6}, r"\+1.200%, allowed 1.00%"),
    ],
)
def test_every_bound_is_a_gate(changes: dict[str, object], failure: str) -> None:
    found = report(**changes)
    assert not found.passed
    assert len(found.failures) == 1
    assert re.search(failure, found.failures[0])
    assert f"! {found.failures[0]}" in found.format()


def test_within_the_bounds_a_report_passes() -> None:
    assert report(cases=[Case("grid", "logits", 9e-5, 10.0)], artifact_perplexity=50.004).passed
    assert report(precision="int8", cases=[Case("grid", "logits", 0.2, 10.0)], artifact_perplexity=50.4).passed
    assert set(BOUNDS) == set(PRECISIONS)


def test_without_its_corpus_a_run_is_verified_on_its_own_text(
    run: Run, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run, "corpus_facts", lambda _: {"name": "/no/such/folder", "sha256": "0"})
    found = verify_artifact(run.artifact("fp32"))
    assert found.passed
    assert found.text.startswith("drawn from the original itself")
    assert found.tokens == 2000


def test_an_artifact_of_another_network_is_refused(run: Run, predictor: Predictor) -> None:
    with pytest.raises(ArtifactError, match="the artifact is .*layer_sizes=\\(7, 3\\).*, the original .*\\(4,\\)"):
        verify(Original(network_of((4,)), predictor.vocabulary), predictor)


def test_greedy_tokens_that_differ_beyond_rounding_are_counted(run: Run, predictor: Predictor) -> None:
    original = original_of(run)
    with torch.no_grad():
        original.network.projection.weight *= -3
    found = verify(original, predictor, loop_steps=50)
    assert "exported from another network" in found.failures[0]
    assert found.loop_differences > 25
    assert found.loop_disagreements == found.loop_differences


def test_a_graph_that_keeps_the_wrong_logits_is_caught(run: Run, tmp_path: Path) -> None:
    """Everything is right but `logits_to_keep`: one position too early."""
    model = onnx.load(run.artifact("fp32"))
    slice_node = next(node for node in model.graph.node if node.op_type == "Slice")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1], np.int64), "one_early"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0], np.int64), "zero"))
    at = list(model.graph.node).index(slice_node)
    for offset, node in enumerate(
        [
            onnx.helper.make_node("Equal", ["logits_to_keep", "zero"], ["keeps_all"]),
            onnx.helper.make_node("Where", ["keeps_all", slice_node.input[2], "one_early"], ["end"]),
            onnx.helper.make_node("Add", [slice_node.input[1], "one_early"], ["earlier"]),
            onnx.helper.make_node("Where", ["keeps_all", slice_node.input[1], "earlier"], ["start"]),
        ]
    ):
        model.graph.node.insert(at + offset, node)
    slice_node = next(node for node in model.graph.node if node.op_type == "Slice")
    slice_node.input[1:3] = ["start", "end"]
    metadata = {entry.key: entry.value for entry in model.metadata_props if entry.key != HASH_KEY}
    found = verify(original_of(run), Predictor.load(seal(model, metadata)), loop_steps=5)
    assert not found.passed
    assert all(failure.startswith(("the last ", "and ")) for failure in found.failures)


def test_a_number_that_is_lost_once_fails_the_whole_loop() -> None:
    cases = [Case("loop", "logits", value, 1.0) for value in (1e-7, float("nan"), 1e-6)]
    worst = max(cases, key=lambda case: case.difference)
    assert report(cases=[worst]).failures


def test_another_vocabulary_is_refused_by_export_and_verify(run: Run, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    value = json.loads((copy / "vocabulary.json").read_text())
    first, second = value["tokens"].index("the"), value["tokens"].index("a")
    value["tokens"][first], value["tokens"][second] = "a", "the"
    (copy / "vocabulary.json").write_text(json.dumps(value))
    for refused in (lambda: export_run(Run(copy)), lambda: verify_artifact(Run(copy).artifact("fp32"))):
        with pytest.raises(RunError, match="is not the vocabulary that .* was trained with"):
            refused()
    swapped = Vocabulary.from_json(value["tokens"], value["tokenization"])
    with pytest.raises(ArtifactError, match="has another vocabulary"):
        verify(Original(run.trained()[0], swapped), Predictor.load(run.artifact("fp32")))


def test_a_rejected_export_keeps_the_report_of_the_good_one(run: Run, tmp_path: Path, monkeypatch: Any) -> None:
    copy = Run(tmp_path / "copy")
    shutil.copytree(run.path, copy.path)
    good = (copy.path / "parity.fp32.json").read_bytes()
    monkeypatch.setitem(exporting.verify.__globals__["BOUNDS"], "fp32", Bounds(0.0, 0.0))
    with pytest.raises(ParityError):
        export_run(copy)
    assert (copy.path / "parity.fp32.json").read_bytes() == good
    assert json.loads((copy.path / "rejected.fp32.json").read_text())["failures"]


def test_options_and_places_that_cannot_be(run: Run, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="w8 has one graph for every purpose"):
        export_run(run, "w8", optimize_for="latency")
    with pytest.raises(OptionError, match="optimize_for is 'size', expected one of latency, throughput"):
        export_run(run, "int8", optimize_for="size")
    with pytest.raises(OptionError, match="precision 'fp8' is not known, expected one of fp32, fp16, int8, w8, w4"):
        export_run(run, "fp8")
    for opset in (16, 22):
        with pytest.raises(OptionError, match=f"opset is {opset}, expected 17 to 21"):
            export_run(run, opset=opset)
    with pytest.raises(StorageError, match="it is a folder"):
        export_run(run, out=tmp_path)
    with pytest.raises(StorageError, match="there is no folder"):
        export_run(run, out=tmp_path / "none" / "model.onnx")


def test_a_network_over_the_limit_of_one_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "_SIZE_LIMIT_BYTES", 1000)
    with pytest.raises(ExportError, match="one ONNX file holds at most 1,000"):
        build_model(network_of((7, 3), tied=False), BuildOptions())


def test_a_damaged_checkpoint_is_not_exported(run: Run, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    data = bytearray(Run(copy).best.read_bytes())
    data[-5] ^= 1
    Run(copy).best.write_bytes(data)
    before = Run(copy).artifact("fp32").read_bytes()
    with pytest.raises(CheckpointError, match="is damaged"):
        export_run(Run(copy))
    assert Run(copy).artifact("fp32").read_bytes() == before


def test_a_triton_repository_keeps_every_state_by_name(run: Run, tmp_path: Path) -> None:
    path = write_triton_repository(run.artifact("fp32"), tmp_path, "tiny")
    assert (path / "1" / "model.onnx").read_bytes() == run.artifact("fp32").read_bytes()
    text = (path / "config.pbtxt").read_text()
    for name, width in (("cell_0", 7), ("cell_1", 3), ("hidden_0", 7), ("hidden_1", 3)):
        assert f'input_name: "{name}"' in text
        assert f'output_name: "next_{name}"' in text
        assert f'initial_state {{ name: "zeros" data_type: TYPE_FP32 dims: [ {width} ] zero_data: true }}' in text
    with pytest.raises(OptionError, match="name is 'a/b', expected a file name"):
        write_triton_repository(run.artifact("fp32"), tmp_path, "a/b")


def test_the_triton_configuration_is_what_the_server_publishes(predictor: Predictor) -> None:
    config = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="tritonclient[grpc] is not installed")
    from google.protobuf import text_format

    parsed = text_format.Parse(triton_config(predictor.artifact, "tiny"), config.ModelConfig())
    assert [(state.input_name, list(state.dims)) for state in parsed.sequence_batching.state] == [
        (name, [width]) for name, width in predictor.artifact.architecture.states.items()
    ]
    assert all(state.initial_state[0].zero_data for state in parsed.sequence_batching.state)
    assert list(parsed.output[0].dims) == [-1, len(predictor.vocabulary)]


def test_sherpa_names_take_stacked_states_and_give_log_probabilities() -> None:
    network = network_of((6, 6))
    vocabulary = Vocabulary(["<eos>", "<unk>", *"abcdefghi"], Tokenization())
    model = build_sherpa_model(network, vocabulary, 17)
    assert [value.name for value in model.graph.input] == ["x", "h0", "c0"]
    assert [value.name for value in model.graph.output] == ["log_softmax", "next_h0", "next_c0"]
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert (metadata["num_layers"], metadata["hidden_size"], metadata["sos_id"]) == ("2", "6", "0")
    tokens, state, feeds = draw(network, 3, 4)
    stacked = {name: np.stack([feeds[f"{ours}_{layer}"] for layer in (0, 1)]) for name, ours in SHERPA_STATES.items()}
    scores, hidden, cell = run_model(model, tokens, {"x": tokens, **stacked})
    with torch.inference_mode():
        expected, after = network(torch.from_numpy(tokens), state)
    np.testing.assert_allclose(scores, expected[:, -1].log_softmax(1).numpy(), atol=1e-5)
    np.testing.assert_allclose(hidden, torch.stack([layer[0] for layer in after]).numpy(), atol=1e-5)
    np.testing.assert_allclose(cell, torch.stack([layer[1] for layer in after]).numpy(), atol=1e-5)
    for sizes, kind in (((7, 3), "lstm"), ((6, 6), "gru")):
        with pytest.raises(ExportError, match="stacks the states of LSTM layers of one size"):
            build_sherpa_model(network_of(sizes, cell=kind), vocabulary, 17)


SHERPA_STATES = {"h0": "hidden", "c0": "cell"}


def test_a_sherpa_export_is_verified_before_it_is_written(
    tmp_path: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**SETTINGS, "layer_sizes": "4,4", "epochs": "1"}
    run_training(TrainOptions("ptb-200", str(corpus_folder), tmp_path / "run", settings=settings, threads=1), Silent())
    path = export_sherpa(Run(tmp_path / "run"))
    assert path == tmp_path / "run" / "sherpa" / "model.onnx"
    monkeypatch.setattr(exporting, "SHERPA_BOUND", 0.0)
    with pytest.raises(ParityError, match="the sherpa export of .* differs from the original by"):
        export_sherpa(Run(tmp_path / "run"), tmp_path / "never.onnx")
    assert not (tmp_path / "never.onnx").exists()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_graph_is_drawn(run: Run, tmp_path: Path, precision: str) -> None:
    nodes = draw_graph(run.artifact(precision), tmp_path / "graph.png")
    assert nodes == len(onnx.load(run.artifact(precision)).graph.node)
    assert (tmp_path / "graph.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ArtifactError, match="is no ONNX model"):
        draw_graph(tmp_path / "text.onnx", tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
