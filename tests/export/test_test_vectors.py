"""Test vectors: their files, the artifact they belong to, and the detection of runtimes that differ."""

import itertools
import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from lmtool.bench import conformance
from lmtool.bench.backends.registry import ONNXRUNTIME, REFERENCE, TORCH
from lmtool.bench.backends.source import Source
from lmtool.bench.conformance import Conformance, ConformanceReport, check_conformance
from lmtool.bench.workers.launch import CrashError, RefusedError
from lmtool.bench.workers.run_vectors import run_vectors
from lmtool.export import ExportError, Original, export_run, original_of
from lmtool.export.test_vectors.files import INDEX, read_vectors, require_room, write_vectors
from lmtool.export.test_vectors.vectors import Vectors, compute_vectors, run_set
from lmtool.model import Run
from lmtool.runtime import Predictor
from lmtool.runtime.io.files import json_text
from onnx import numpy_helper
from support.models.networks import network_of, predictor_of
from support.models.older_files import older_file
from support.processes.commands import lmtool


@pytest.fixture(scope="module")
def exported(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact with its vectors, away from its run."""
    path = tmp_path_factory.mktemp("vectors") / "model.onnx"
    assert export_run(run, out=path, test_vectors=True).vectors == path.parent / INDEX
    return path


@pytest.fixture
def own_copy(exported: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    shutil.copytree(exported.parent, tmp_path / "copy")
    return tmp_path / "copy" / exported.name


def vectors_of(path: Path) -> Vectors:
    return read_vectors(path, Predictor.load(path).artifact)


def change(path: Path, **entries: Any) -> None:
    index = path.parent / INDEX
    index.write_text(json.dumps(json.loads(index.read_text()) | entries))


def rewrite(path: Path, array: np.ndarray) -> None:
    """Write another tensor under the same name."""
    tensor = onnx.load_tensor(path)
    onnx.save_tensor(numpy_helper.from_array(array, tensor.name), path)


def array_of(path: Path) -> np.ndarray:
    return numpy_helper.to_array(onnx.load_tensor(path))


def test_the_folders_hold_the_graphs_inputs_and_outputs_in_order(exported: Path) -> None:
    graph = onnx.load(exported).graph
    folders = sorted(exported.parent.glob("test_data_set_*"))
    assert len(folders) == 30
    for folder in folders:
        for kind, values in (("input", graph.input), ("output", graph.output)):
            names = [value.name for value in values if value.name != "logits_to_keep"]
            tensors = [onnx.load_tensor(folder / f"{kind}_{position}.pb") for position in range(len(names))]
            assert [tensor.name for tensor in tensors] == names
            assert len(list(folder.glob(f"{kind}_*.pb"))) == len(names)
            assert [tensor.data_type for tensor in tensors] == [
                value.type.tensor_type.elem_type for value in values if value.name != "logits_to_keep"
            ]


def test_the_sets_cover_batches_times_states_and_a_closed_loop(exported: Path) -> None:
    vectors = vectors_of(exported)
    shapes = {vector_set.inputs["token_ids"].shape for vector_set in vectors.sets}
    assert {batch for batch, _ in shapes} >= {1, 2, 3, 8}
    assert {time for _, time in shapes} >= {1, 2, 5, 7, 33}
    assert {bool(vector_set.inputs["cell_0"].any()) for vector_set in vectors.sets} == {True, False}
    loop = [vector_set for vector_set in vectors.sets if vector_set.in_loop]
    assert len(loop) == 20
    for before, after in itertools.pairwise(loop):
        assert after.inputs["token_ids"] == before.outputs["logits"].argmax()
        for name in ("cell_0", "cell_1", "hidden_0", "hidden_1"):
            np.testing.assert_array_equal(after.inputs[name], before.outputs[f"next_{name}"])


def test_the_expected_outputs_are_the_originals(exported: Path, run: Run) -> None:
    vectors, original = vectors_of(exported), original_of(run)
    assert vectors.expected_from == original.name
    for vector_set in (vectors.sets[0], vectors.sets[5], vectors.sets[-1]):
        states = {name: array for name, array in vector_set.inputs.items() if name != "token_ids"}
        logits, after = original.run(vector_set.inputs["token_ids"], states)
        np.testing.assert_array_equal(vector_set.outputs["logits"], logits)
        for name, array in after.items():
            np.testing.assert_array_equal(vector_set.outputs[f"next_{name}"], array)


def test_quantized_files_expect_what_onnxruntime_computes(run: Run, tmp_path: Path) -> None:
    path = export_run(run, "int8", tmp_path / "model.onnx", test_vectors=True).path
    vectors = vectors_of(path)
    assert vectors.expected_from == "onnxruntime on the exporting machine"
    predictor = Predictor.load(path)
    assert all(
        case.difference == 0
        for vector_set in vectors.sets
        for case in vector_set.compare(run_set(predictor, vector_set.inputs))
    )


def test_a_network_that_rounding_moves_far_gets_a_bound_that_its_own_export_keeps() -> None:
    network = network_of((7, 3))
    predictor = predictor_of(network, ["<eos>", "<unk>", *"abcdefghi"], "whitespace")

    class Moved:
        """A reference that differs by a hundred times the bound."""

        name, vocabulary, architecture = "moved", predictor.vocabulary, predictor.artifact.architecture

        def run(self, token_ids: Any, states: Any) -> Any:
            outputs = run_set(predictor, {"token_ids": token_ids, **states})
            return outputs.pop("logits") + 1e-3, {name.removeprefix("next_"): array for name, array in outputs.items()}

    moved: Original = Moved()  # type: ignore[assignment]
    assert compute_vectors(predictor, "model.onnx", moved).bound == pytest.approx(4e-3, rel=0.01)


def test_vectors_of_one_artifact_are_replaced_and_those_of_another_kept(run: Run, own_copy: Path) -> None:
    folder = own_copy.parent
    (folder / "test_data_set_99").mkdir()
    (folder / "test_data_set_mine").mkdir()
    before = (folder / "test_data_set_7" / "output_0.pb").read_bytes()
    assert export_run(run, out=own_copy, test_vectors=True).vectors is not None
    assert not (folder / "test_data_set_99").exists()
    assert (folder / "test_data_set_mine").exists()
    assert (folder / "test_data_set_7" / "output_0.pb").read_bytes() == before
    with pytest.raises(ExportError, match=r"those of model.onnx, expected other.onnx; remove them, or .*--out"):
        export_run(run, out=folder / "other.onnx", test_vectors=True)
    assert not (folder / "other.onnx").exists()
    (folder / INDEX).unlink()
    with pytest.raises(ExportError, match=r"test_data_set_0 is there without test_vectors.json"):
        require_room(own_copy)


def test_a_file_of_the_users_is_not_written_over(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text("mine")
    with pytest.raises(ExportError, match=r"data.json is there without test_vectors.json"):
        export_run(run, out=tmp_path / "model.onnx", test_vectors=True)
    assert [path.name for path in tmp_path.iterdir()] == ["data.json"]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"sha256": "0" * 64}, "with the hash 000000000000..., expected model.onnx with"),
        ({"format": 2}, "is not of format 1"),
        ({"bound": "x"}, "has bound 'x', expected a float"),
        ({"sets": []}, "lists no sets: their writing was stopped"),
        ({"sets": [{"folder": "test_data_set_0"}]}, "expected folder, what and in_loop"),
        ({"sets": [{"folder": "../x", "what": "", "in_loop": False}]}, "expected test_data_set_ and a number"),
        ({"sets": [{"folder": "..", "what": "", "in_loop": False}]}, "names the folder '..', expected"),
        ({"sets": [{"folder": "test_data_set_99", "what": "", "in_loop": False}]}, "_99 holds no input_0.pb"),
        ({"bound": math.inf}, "test_vectors.json is JSON with Infinity, expected finite numbers"),
        ({"bound": -1.0}, "has the bound -1.0, expected a positive number"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(own_copy: Path, entries: dict[str, Any], message: str) -> None:
    change(own_copy, **entries)
    with pytest.raises(ExportError, match=message):
        vectors_of(own_copy)


def test_damaged_files_and_missing_ones_are_refused(own_copy: Path) -> None:
    folder = own_copy.parent
    tensor = folder / "test_data_set_0" / "input_0.pb"
    good = tensor.read_bytes()
    outside = onnx.TensorProto(name="x", data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    for data, message in (
        (b"\xff" * 9, "holds no tensor"),
        (good[:-3], "holds no tensor"),
        (outside.SerializeToString(), "keeps its data in another file"),
    ):
        tensor.write_bytes(data)
        with pytest.raises(ExportError, match=message):
            vectors_of(own_copy)
    tensor.write_bytes(good)
    for name, wrong, message in (
        ("input_1", np.zeros((1, 2), np.float32), r"holds the inputs .* expected float32"),
        ("output_0", np.zeros((1, 1, 2), np.float32), r"holds the outputs .* expected float32"),
        ("input_0", np.zeros((1, 1)), r"has no input token_ids, int64"),
        ("input_1", math.nan, r"holds the input cell_0 with numbers that are not finite"),
        ("output_0", -math.inf, r"holds the output logits with numbers that are not finite"),
    ):
        path = tensor.with_name(f"{name}.pb")
        before = path.read_bytes()
        rewrite(path, wrong if isinstance(wrong, np.ndarray) else np.full_like(array_of(path), wrong))
        with pytest.raises(ExportError, match=message):
            vectors_of(own_copy)
        path.write_bytes(before)
    (folder / INDEX).write_text("[" * 100_000)
    with pytest.raises(ExportError, match="test_vectors.json is JSON that nests 100,000 levels deep"):
        vectors_of(own_copy)
    (folder / INDEX).write_text("{")
    with pytest.raises(ExportError, match="test_vectors.json is not JSON"):
        vectors_of(own_copy)
    (folder / INDEX).unlink()
    with pytest.raises(ExportError, match=r"no test vectors beside .*: no test_vectors.json; lmtool export"):
        vectors_of(own_copy)


def test_vectors_are_read_as_they_were_written(exported: Path, tmp_path: Path) -> None:
    vectors = vectors_of(exported)
    shutil.copy(exported, tmp_path)
    write_vectors(vectors, tmp_path)
    for path in [*sorted(exported.parent.rglob("*.pb")), exported.parent / INDEX, exported.parent / "data.json"]:
        assert (tmp_path / path.relative_to(exported.parent)).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("runtime", [ONNXRUNTIME, REFERENCE])
def test_a_runtime_that_agrees_passes_and_one_wrong_number_is_found(own_copy: Path, runtime: str) -> None:
    result = Conformance.from_report(runtime, run_vectors(runtime, Source(own_copy)))
    assert result.passed
    assert (result.calls, result.loop_steps, result.loop_differences) == (30, 20, 0)
    assert {case.tensor for case in result.cases} == {
        "logits",
        *(f"next_{s}_{k}" for s in ("cell", "hidden") for k in (0, 1)),
    }
    path = own_copy.parent / "test_data_set_4" / "output_2.pb"
    wrong = numpy_helper.to_array(onnx.load_tensor(path)).copy()
    wrong[1, 2] += 1e-3
    rewrite(path, wrong)
    result = Conformance.from_report(runtime, run_vectors(runtime, Source(own_copy)))
    assert not result.passed
    assert "test_data_set_4" in result.worst.name
    assert result.worst.absolute == pytest.approx(1e-3, rel=0.05)


def test_another_token_in_the_closed_loop_is_found(own_copy: Path) -> None:
    path = own_copy.parent / "test_data_set_12" / "output_0.pb"
    logits = numpy_helper.to_array(onnx.load_tensor(path)).copy()
    logits[0, 0] = -logits[0, 0]
    rewrite(path, logits)
    report = run_vectors(ONNXRUNTIME, Source(own_copy))
    assert report["loop_differences"] == 1


def test_wrong_shapes_and_missing_outputs_differ_infinitely(exported: Path) -> None:
    first = vectors_of(exported).sets[4]
    wider = {name: np.repeat(array, 2, axis=0) for name, array in first.outputs.items()}
    for outputs in ({}, wider, {name: array * np.nan for name, array in first.outputs.items()}):
        assert {case.difference for case in first.compare(outputs)} == {np.inf}


def test_a_runtime_that_computes_nan_fails(exported: Path) -> None:
    """The process writes null for NaN and infinity."""
    report = json.loads(json_text(run_vectors(ONNXRUNTIME, Source(exported))))
    assert Conformance.from_report(ONNXRUNTIME, report).passed
    for name in ("absolute", "scale"):
        wrong = {**report, "cases": [{**report["cases"][0], name: None}, *report["cases"][1:]]}
        result = Conformance.from_report(ONNXRUNTIME, wrong)
        assert not result.passed
        assert result.worst.difference == math.inf
        shown = ConformanceReport(exported, "the original", report["bound"], [result], {}, {})
        assert re.search(r"onnxruntime .* inf .* FAIL$", shown.format())


def test_the_command_checks_installed_runtimes(exported: Path, run: Run) -> None:
    finished = lmtool("verify", "--model", exported, "--test-vectors", "--against", "onnxruntime", "--json")
    assert finished.returncode == 0, finished.stderr
    report = json.loads(finished.stdout)
    assert [entry["runtime"] for entry in report["runtimes"]] == ["onnxruntime"]
    assert report["passed"]
    assert report["expected_from"] == original_of(run).name
    for arguments, code, message in (
        (("--test-vectors", "--against", "tf"), 2, "'tf' is no runtime"),
        (("--test-vectors", "--run", run.path), 2, "bring their expected outputs"),
        (("--against", "reference"), 2, "goes with --test-vectors"),
    ):
        finished = lmtool("verify", "--model", exported, *arguments)
        assert finished.returncode == code
        assert message in " ".join(finished.stderr.replace("│", "").split())
    finished = lmtool("verify", "--model", run.artifact("fp32"), "--test-vectors")
    assert finished.returncode == 1
    assert "there are no test vectors beside" in finished.stderr
    assert lmtool("export", "--sherpa", "--test-vectors", "--run", run.path).returncode == 2


def test_the_command_exports_vectors(run: Run, tmp_path: Path) -> None:
    finished = lmtool("export", "--onnx", "--run", run.path, "--out", tmp_path / "m.onnx", "--test-vectors", "--json")
    assert json.loads(finished.stdout)["test_vectors"] == str(tmp_path / INDEX)


def test_a_runtime_that_refuses_or_crashes_fails_for_standard_operators(
    own_copy: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = {ONNXRUNTIME: CrashError("it was killed"), REFERENCE: RefusedError("no operator X", by_provider=False)}

    def run_vectors_job(candidate: Any) -> Any:
        raise errors[candidate.backend]

    monkeypatch.setattr(conformance, "run_vectors_job", run_vectors_job)
    runtimes = (ONNXRUNTIME, REFERENCE, TORCH)
    report = check_conformance(own_copy, runtimes, "cpu", lambda line: None)
    assert not report.passed
    assert report.failed == {ONNXRUNTIME: "it was killed", REFERENCE: "no operator X"}
    assert "in its run folder" in report.skipped[TORCH]
    assert "reference: FAILED: no operator X" in report.format()
    quantized = export_run(run, "int8", tmp_path / "q.onnx", test_vectors=True).path
    report = check_conformance(quantized, runtimes, "cpu", lambda line: None)
    assert report.failed == {ONNXRUNTIME: "it was killed", REFERENCE: "no operator X"}
    older = older_file(run.artifact("fp32"), "int8", tmp_path / "older.onnx")
    write_vectors(compute_vectors(Predictor.load(older), older.name, original_of(run)), tmp_path)
    report = check_conformance(older, runtimes, "cpu", lambda line: None)
    assert report.failed == {ONNXRUNTIME: "it was killed"}
    assert report.skipped[REFERENCE] == "no operator X"


def test_a_report_without_any_runtime_does_not_pass(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = replace(conformance.BACKENDS[ONNXRUNTIME], reason_missing=lambda: "it is not installed")
    monkeypatch.setattr(conformance, "BACKENDS", {**conformance.BACKENDS, ONNXRUNTIME: kind})
    report = check_conformance(exported, (ONNXRUNTIME,), "cpu", lambda line: None)
    assert not report.passed
    assert "onnxruntime: not run: it is not installed" in report.format()
