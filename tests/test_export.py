"""The export: equal to the original by independent means, deterministic, and gated by its verification."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from lmtool.export import (
    BOUNDS,
    Case,
    ExportError,
    ParityError,
    ParityReport,
    build_model,
    export_run,
    exporting,
    measure_batch_invariance,
    verify,
    verify_artifact,
)
from lmtool.model import CheckpointError, LanguageModel, Run
from lmtool.model.network import state_tensors
from lmtool.runtime import Architecture, ArtifactError, Predictor, StorageError
from onnx.reference import ReferenceEvaluator


def network_of(cell_sizes: tuple[int, ...], *, tied: bool, vocabulary: int = 11) -> LanguageModel:
    network = LanguageModel(Architecture("lstm", 5, cell_sizes, tied), vocabulary)
    network.initialize(0.5, torch.Generator().manual_seed(3))
    for name, parameter in network.named_parameters():
        if "bias" in name:  # zeros would hide a bias that is lost
            torch.nn.init.uniform_(parameter, -0.5, 0.5, torch.Generator().manual_seed(4))
    return network.eval()


@pytest.mark.parametrize("opset", [17, 21])
@pytest.mark.parametrize(("sizes", "tied"), [((7, 3), False), ((7, 5), True), ((4,), False), ((2, 3, 4), False)])
def test_the_reference_evaluator_agrees_with_torch(sizes: tuple[int, ...], tied: bool, opset: int) -> None:
    network = network_of(sizes, tied=tied)
    evaluator = ReferenceEvaluator(build_model(network, "fp32", opset))
    random = np.random.default_rng(0)
    for batch, time in ((1, 1), (3, 4), (2, 9)):
        tokens = random.integers(0, 11, (batch, time))
        state = tuple((torch.rand(batch, size) - 0.5, torch.rand(batch, size) - 0.5) for size in sizes)
        feeds = {name: tensor.numpy() for name, tensor in state_tensors(state).items()}
        with torch.inference_mode():
            expected, expected_state = network(torch.from_numpy(tokens), state)
        logits, *states = evaluator.run(None, {"token_ids": tokens, "logits_to_keep": np.array([0]), **feeds})
        np.testing.assert_allclose(logits, expected.numpy(), atol=1e-5)
        named = state_tensors(expected_state)
        for name, found in zip(sorted(named), states, strict=True):
            np.testing.assert_allclose(found, named[name].numpy(), atol=1e-5)


def test_a_tied_matrix_is_stored_once() -> None:
    tied, untied = (
        build_model(network_of((7, 5), tied=tied, vocabulary=1000), "fp32").ByteSize() for tied in (True, False)
    )
    assert untied - tied == pytest.approx(1000 * 5 * 4, abs=200)


def test_the_same_run_exports_the_same_bytes(run: Run, tmp_path: Path) -> None:
    for precision in ("fp32", "int8"):
        again = export_run(run, precision, tmp_path / "again.onnx").path
        assert again.read_bytes() == run.artifact(precision).read_bytes()


def test_the_report_of_a_good_export_passes(run: Run, predictor: Predictor, int8_predictor: Predictor) -> None:
    for loaded in (predictor, int8_predictor):
        report = verify(run.trained()[0], loaded, run.corpus().ids["test"], loop_steps=50)
        assert report.passed
        assert report.failures == []
        assert loaded.artifact.parity["original_sha256"] == report.original_sha256
        assert loaded.artifact.training["test_perplexity"] == pytest.approx(report.original_perplexity, rel=1e-6)
    assert predictor.artifact.batch_invariant is True
    assert measure_batch_invariance(predictor) is True


def test_int8_is_really_quantized_and_smaller() -> None:
    network = network_of((64, 48), tied=False, vocabulary=500)
    fp32, int8 = build_model(network, "fp32"), build_model(network, "int8")
    operators = [node.op_type for node in int8.graph.node]
    assert operators.count("DynamicQuantizeLSTM") == 2
    assert operators.count("MatMulInteger") == 1
    assert "LSTM" not in operators
    assert int8.ByteSize() < 0.35 * fp32.ByteSize()


def test_dynamic_int8_depends_on_neighbours_and_says_so(int8_predictor: Predictor) -> None:
    assert int8_predictor.artifact.batch_invariant is False
    assert measure_batch_invariance(int8_predictor) is False


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("weight", ["layer_1.W", "layer_0.R", "projection", "embedding", "layer_0.B"])
def test_a_planted_wrong_weight_is_never_written(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, weight: str
) -> None:
    build = exporting.build_graph

    def build_wrong(*args: object) -> onnx.ModelProto:
        model = build(*args)
        tensor = next(found for found in model.graph.initializer if found.name.startswith(weight))
        values = onnx.numpy_helper.to_array(tensor).copy()
        values.flat[: values.size // 2] *= -1.5
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        return model

    monkeypatch.setattr(exporting, "build_graph", build_wrong)
    monkeypatch.setattr(exporting, "write_report", lambda *_: None)
    out = tmp_path / "model.onnx"
    with pytest.raises(ParityError, match=f"the {precision} export of .* does not match the original, so it was not"):
        export_run(run, precision, out)
    assert list(tmp_path.iterdir()) == []


def report(**changes: object) -> ParityReport:
    values: dict[str, object] = {
        "precision": "fp32",
        "provider": "cpu",
        "original_sha256": "0",
        "cases": [Case("grid", 1e-6, 10.0)],
        "loop_steps": 10,
        "loop_disagreements": 0,
        "tokens": 100,
        "original_perplexity": 50.0,
        "artifact_perplexity": 50.0,
        "batch_invariant": True,
    }
    return ParityReport(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "failure"),
    [
        ({"cases": [Case("grid", 2e-4, 10.0)]}, "grid: differs by 2.00e-04 at scale 10.0, allowed 1e-05"),
        ({"cases": [Case("small", 2e-5, 0.1)]}, "small: differs by 2.00e-05"),
        ({"cases": [Case("lost", float("nan"), 1.0)]}, "lost: differs by nan"),
        ({"loop_disagreements": 1}, "closed loop: 1 of 10 greedy tokens differ"),
        ({"artifact_perplexity": 50.1}, r"perplexity: 50.1000, the original's is 50.0000 \(\+0.200%, allowed 0.01%\)"),
        ({"artifact_perplexity": float("nan")}, "perplexity: nan"),
        ({"precision": "int8", "artifact_perplexity": 50.6}, r"\+1.200%, allowed 1.00%"),
    ],
)
def test_every_bound_is_a_gate(changes: dict[str, object], failure: str) -> None:
    found = report(**changes)
    assert not found.passed
    assert len(found.failures) == 1
    assert __import__("re").search(failure, found.failures[0])
    assert f"! {found.failures[0]}" in found.format()


def test_within_the_bounds_a_report_passes() -> None:
    assert report(cases=[Case("grid", 9e-5, 10.0)], artifact_perplexity=50.004).passed
    assert report(precision="int8", cases=[Case("grid", 0.2, 10.0)], artifact_perplexity=50.4).passed
    assert set(BOUNDS) == {"fp32", "int8"}


def test_without_its_corpus_a_run_is_verified_on_its_own_text(
    run: Run, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run, "corpus_facts", lambda _: {"name": "/no/such/folder", "sha256": "0"})
    found = verify_artifact(run.artifact("fp32"))
    assert found.passed
    assert found.tokens == 2000


def test_an_artifact_of_another_network_is_refused(run: Run, predictor: Predictor) -> None:
    with pytest.raises(ArtifactError, match="the artifact is .*layer_sizes=\\(7, 3\\).*, the original .*\\(4,\\)"):
        verify(network_of((4,), tied=False), predictor, None)


def test_options_and_places_that_cannot_be(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="precision 'fp8' is not known, expected one of fp32, int8"):
        export_run(run, "fp8")
    for opset in (16, 22):
        with pytest.raises(ExportError, match=f"opset is {opset}, expected 17 to 21"):
            export_run(run, opset=opset)
    with pytest.raises(StorageError, match="it is a folder"):
        export_run(run, out=tmp_path)
    with pytest.raises(StorageError, match="there is no folder"):
        export_run(run, out=tmp_path / "none" / "model.onnx")


def test_a_network_over_the_limit_of_one_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "_SIZE_LIMIT_BYTES", 1000)
    with pytest.raises(ExportError, match="one ONNX file holds at most 1,000"):
        build_model(network_of((7, 3), tied=False), "fp32")


def test_a_damaged_checkpoint_is_not_exported(run: Run, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    __import__("shutil").copytree(run.path, copy)
    data = bytearray(Run(copy).best.read_bytes())
    data[-5] ^= 1
    Run(copy).best.write_bytes(data)
    before = Run(copy).artifact("fp32").read_bytes()
    with pytest.raises(CheckpointError, match="is damaged"):
        export_run(Run(copy))
    assert Run(copy).artifact("fp32").read_bytes() == before
