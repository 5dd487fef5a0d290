"""The export is deterministic, and verification can refuse it."""

import itertools
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from lmtool.export import (
    BOUNDS,
    Bounds,
    BuildOptions,
    Case,
    ExportError,
    Largest,
    ParityError,
    ParityReport,
    TorchOriginal,
    build,
    build_model,
    export_run,
    exporter,
    measure_batch_invariance,
    original_of,
    verification,
    verify,
    verify_artifact,
)
from lmtool.export.build import FLOATING, seal
from lmtool.model import CheckpointError, DataError, Run, RunError, TrainOptions, evaluate_run, run_training
from lmtool.runtime import PRECISIONS, ArtifactError, OptionError, Predictor, StorageError, Vocabulary
from lmtool.runtime.artifact.artifact import EARLIER_PRECISIONS, HASH_KEY
from support.models.networks import network_of
from support.runs.reporters import RecordingReporter
from support.runs.settings import SETTINGS
from support.scale import torture_only


def test_the_same_run_exports_the_same_bytes(run: Run, tmp_path: Path) -> None:
    for precision in ("fp32", "int8"):
        again = export_run(run, precision, tmp_path / "again.onnx").path
        assert again.read_bytes() == run.artifact(precision).read_bytes()


@pytest.fixture(scope="module", params=["gru", "rnn"])
def run_of_another_cell(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, corpus_folder: Path
) -> Run:
    path = tmp_path_factory.mktemp(request.param) / "run"
    settings = {**SETTINGS, "cell": request.param, "epochs": "1"}
    run_training(TrainOptions("ptb-200", str(corpus_folder), path, settings=settings, threads=1), RecordingReporter())
    return Run(path)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_run_of_another_cell_is_trained_and_exported(run_of_another_cell: Run, precision: str) -> None:
    exported = export_run(run_of_another_cell, precision)
    predictor = Predictor.load(exported.path)
    assert list(predictor.artifact.architecture.states) == ["hidden_0", "hidden_1"]
    assert predictor.artifact.batch_invariant is exported.report.batch_invariant
    assert len(predictor.stream().suggest(3)) == 3


def test_the_report_of_a_good_export_passes(run: Run, predictor: Predictor, int8_predictor: Predictor) -> None:
    for loaded in (predictor, int8_predictor):
        report = verify(original_of(run), loaded, loop_steps=50)
        assert report.passed
        assert report.failures == []
        assert set(report.tensors) == {"logits", *loaded.artifact.architecture.states}
        for case in report.cases:
            assert 0 < case.absolute <= report.tensors[case.tensor].absolute
            assert case.difference <= report.tensors[case.tensor].relative
        assert all(f"{name} {most.absolute:.1e}" in report.format() for name, most in report.tensors.items())
        assert loaded.artifact.parity["original_sha256"] == report.original_sha256
        assert loaded.artifact.training["test_perplexity"] == pytest.approx(report.original_perplexity, rel=1e-6)
    assert predictor.artifact.batch_invariant is True
    assert measure_batch_invariance(predictor) is True


def test_the_closed_loop_continues_from_the_states_that_calls_return(
    run: Run, own_predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """States on a GPU stay there, as in an application."""
    step, calls = own_predictor.step, []

    def record(token_ids: Any, state: Any, **options: Any) -> Any:
        logits, after = step(token_ids, state, **options)
        calls.append((state, after))
        return logits, after

    monkeypatch.setattr(own_predictor, "step", record)
    assert verify(original_of(run), own_predictor, loop_steps=5).passed
    assert all(state is after for (_, after), (state, _) in itertools.pairwise(calls[:5]))


def test_int8_is_batch_invariant(int8_predictor: Predictor, dynamic_int8_path: Path) -> None:
    assert int8_predictor.artifact.batch_invariant is True
    assert measure_batch_invariance(int8_predictor) is True
    assert measure_batch_invariance(Predictor.load(dynamic_int8_path)) is False


def test_an_int8_artifact_that_is_not_to_the_bit_is_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "measure_batch_invariance", lambda _: False)
    with pytest.raises(ParityError, match="its results depend on the other rows of a batch or on chunks"):
        export_run(run, "int8", tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()
    assert export_run(run, "fp16", tmp_path / "half.onnx").report.batch_invariant is False


def test_a_row_that_is_left_over_makes_a_batch_dependent(artifact_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A product may take rows two at a time."""
    tampered = Predictor.load(artifact_path)
    step = tampered.step

    def in_pairs(token_ids: Any, state: Any, *, logits_to_keep: int | None = None) -> Any:
        logits, after = step(token_ids, state, logits_to_keep=logits_to_keep)
        rows = logits.copy().reshape(-1, logits.shape[2])
        rows[len(rows) // 2 * 2 :] += np.float32(1e-5)
        return rows.reshape(logits.shape), after

    assert measure_batch_invariance(tampered) is True
    monkeypatch.setattr(tampered, "step", in_pairs)
    assert measure_batch_invariance(tampered) is False


WEIGHTS = ("layer_1.W", "layer_0.R", "projection", "embedding", "layer_0.B")
QUICK = {(weight, "fp32") for weight in WEIGHTS}
INT8_WEIGHTS = ("layer_1.weights", "layer_0.weights.scales", "projection", "embedding", "layer_0.weights.bias")
QUICK |= {("layer_0.R", "fp16"), ("projection", "int8"), ("layer_1.weights", "int8")}
CASES = [*itertools.product(WEIGHTS, FLOATING), *((weight, "int8") for weight in INT8_WEIGHTS)]


@pytest.mark.parametrize(
    ("weight", "precision"),
    [pytest.param(*case, marks=() if case in QUICK else torture_only) for case in CASES],
)
def test_a_wrong_weight_is_never_written(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, weight: str
) -> None:
    maker = "build_int8_graph" if precision == "int8" else "build_graph"
    build_right = getattr(build, maker)

    def build_wrong(*args: object, **options: object) -> onnx.ModelProto:
        model = build_right(*args, **options)
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name.startswith(weight))
        values = onnx.numpy_helper.to_array(tensor).copy()
        half = values.flat[: values.size // 2]
        wrong = {"uint8": lambda: 255 - half, "int8": lambda: -half}.get(str(values.dtype), lambda: half * -1.5)
        values.flat[: values.size // 2] = wrong()
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        return model

    monkeypatch.setattr(build, maker, build_wrong)
    out = tmp_path / "model.onnx"
    with pytest.raises(
        ParityError,
        match=f"the {precision} export of .* does not match the original and was not written: .*; what to do: .",
    ):
        export_run(run, precision, out)
    assert [path.name for path in tmp_path.iterdir()] == [f"rejected.{precision}.json"]


def report(**changes: object) -> ParityReport:
    values: dict[str, object] = {
        "precision": "fp32",
        "variant": "fp32",
        "provider": "cpu",
        "exported_from": None,
        "original": "a network",
        "original_sha256": "0",
        "cases": [Case("grid", "logits", 1e-6, 10.0)],
        "tensors": {},
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
        ({"precision": "int8", "cases": [Case("grid", "logits", 6.0, 10.0)]}, "allowed 0.5 of the scale"),
        ({"precision": "int8", "artifact_perplexity": 50.2}, r"\+0.400%, allowed 0.30%"),
    ],
)
def test_every_bound_is_a_gate(changes: dict[str, object], failure: str) -> None:
    parity = report(**changes)
    assert not parity.passed
    assert len(parity.failures) == 1
    assert re.search(failure, parity.failures[0])
    assert f"! {parity.failures[0]}" in parity.format()


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({"exported_from": "1"}, "--run DIR, or export this run again: lmtool export --run DIR"),
        ({"provider": "cuda"}, "--provider cpu; if that passes, the fault is in onnxruntime's cuda provider"),
        ({"precision": "int8"}, "int8 may be too coarse for this network; export --precision fp32 instead"),
        ({}, "try another version of onnxruntime; .* report it at https://.* with rejected.fp32.json, config.json"),
    ],
)
def test_a_refusal_says_what_to_do(changes: dict[str, object], advice: str) -> None:
    parity = report(**changes, artifact_perplexity=80.0)
    assert re.search(f"what to do: .*{advice}", parity.format())
    assert re.search(advice, parity.to_json()["advice"])
    assert report().to_json()["advice"] is None


def test_a_report_names_the_case_that_is_closest_to_its_limit() -> None:
    cases = [Case("grid", "logits", 9e-5, 10.0), Case("loop", "cell_0", 2e-3, 20.0, moved=1e-3)]
    text = report(cases=cases, tensors={"logits": Largest(9e-5, 9e-6), "cell_0": Largest(2e-3, 1e-4)}).format()
    closest = "logits, 9.00e-05 of 1.00e-04 (scale 10.0, allowed 1e-05 of the scale; grid)"
    assert f"2 cases, closest to its limit: {closest}" in text
    assert "largest of each     logits 9.0e-05, cell_0 2.0e-03" in text


def test_the_largest_differences_are_those_of_any_comparison() -> None:
    largest = Largest().over(Case("a", "logits", 1e-3, 10.0)).over(Case("b", "logits", 5e-4, 1.0))
    assert (largest.absolute, largest.relative) == (1e-3, 5e-4)
    lost = largest.over(Case("c", "logits", float("nan"), 1.0)).over(Case("d", "logits", 1.0, 1.0))
    assert (lost.absolute, lost.relative) == (float("inf"), float("inf"))


def test_within_the_bounds_a_report_passes() -> None:
    assert report(cases=[Case("grid", "logits", 9e-5, 10.0)], artifact_perplexity=50.004).passed
    assert report(precision="int8", cases=[Case("grid", "logits", 0.2, 10.0)], artifact_perplexity=50.1).passed
    assert set(BOUNDS) == {*PRECISIONS, *EARLIER_PRECISIONS, "bf16"}


def test_without_its_corpus_a_run_is_verified_on_its_own_text(
    run: Run, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run, "corpus_facts", lambda _: {"name": "/no/such/folder", "sha256": "0"})
    parity = verify_artifact(run.artifact("fp32"))
    assert parity.passed
    assert parity.text.startswith("drawn from the original itself, because the corpus is not where it was when ")
    assert parity.text.endswith(" was trained: there is no /no/such/folder")
    assert parity.tokens == 2000
    with pytest.raises(DataError, match="there is no /no/such/folder; put it back, or name its new place: --data$"):
        evaluate_run(run.path, None, None, 1)


def test_an_artifact_of_another_network_is_refused(run: Run, predictor: Predictor) -> None:
    with pytest.raises(ArtifactError, match="artifact has lstm layers of 7, 3 on .*, the original lstm layers of 4 on"):
        verify(TorchOriginal(network_of((4,)), predictor.vocabulary), predictor)


def test_greedy_tokens_that_differ_beyond_rounding_are_counted(run: Run, predictor: Predictor) -> None:
    original = original_of(run)
    with torch.no_grad():
        original.network.projection.weight *= -3
    parity = verify(original, predictor, loop_steps=50)
    assert "exported from another network" in parity.failures[0]
    assert parity.loop_differences > 25
    assert parity.loop_disagreements == parity.loop_differences


def test_a_graph_that_keeps_the_wrong_logits_is_caught(run: Run, tmp_path: Path) -> None:
    """Only `logits_to_keep` is wrong, by one position."""
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
    parity = verify(original_of(run), Predictor.load(seal(model, metadata)), loop_steps=5)
    assert not parity.passed
    assert all(failure.startswith(("the last ", "and ")) for failure in parity.failures)


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
        verify(TorchOriginal(run.trained()[0], swapped), Predictor.load(run.artifact("fp32")))


def test_a_rejected_export_keeps_the_report_of_the_good_one(run: Run, tmp_path: Path, monkeypatch: Any) -> None:
    copy = Run(tmp_path / "copy")
    shutil.copytree(run.path, copy.path)
    good = (copy.path / "parity.fp32.json").read_bytes()
    monkeypatch.setitem(exporter.verify.__globals__["BOUNDS"], "fp32", Bounds(0.0, 0.0, 0.0))
    with pytest.raises(ParityError):
        export_run(copy)
    assert (copy.path / "parity.fp32.json").read_bytes() == good
    assert json.loads((copy.path / "rejected.fp32.json").read_text())["failures"]


def test_invalid_options_and_paths_are_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="precision 'fp8' is not exported, expected one of fp32, fp16, int8$"):
        export_run(run, "fp8")
    with pytest.raises(OptionError, match="precision 'w8' is not exported, expected .*; int8 replaces it"):
        export_run(run, "w8")
    for opset in (16, 22):
        with pytest.raises(OptionError, match=f"opset is {opset}, expected 17 to 21"):
            export_run(run, opset=opset)
    with pytest.raises(StorageError, match="it is a folder"):
        export_run(run, out=tmp_path)
    with pytest.raises(StorageError, match="there is no folder"):
        export_run(run, out=tmp_path / "none" / "model.onnx")


def test_a_network_over_the_limit_of_one_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "MOST_WEIGHT_BYTES", 1000)
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


@pytest.mark.parametrize(("moved", "passed"), [(0.0, False), (1e-6, False), (3e-4, True), (float("nan"), False)])
def test_the_bound_grows_with_the_rounding_error_of_the_original(moved: float, passed: bool) -> None:
    case = Case("random tokens", "logits", 8e-5, 1.0, moved=moved)
    assert (case.excess(BOUNDS["fp32"]) <= 1) == passed
