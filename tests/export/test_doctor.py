"""The doctor finds each seeded fault and nothing else, and finds nothing in good files."""

import contextlib
import importlib.util
import json
import warnings
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from lmtool.export import BuildOptions, build_model
from lmtool.export.doctor.examination import Examination, examine
from lmtool.export.doctor.finding import KINDS
from lmtool.export.doctor.mending import mend
from lmtool.runtime import PRECISIONS, ArtifactError, OptionError, StorageError
from onnx import TensorProto, helper, numpy_helper
from support.hostile.access_monitor import Honeypot
from support.models.networks import network_of
from support.models.node_tests import node_tests
from support.models.recurrent_files import model_of, recurrent_model, value
from support.models.seeded_faults import SEEDS, Seed, unrolled
from torch import nn

SILERO = ("silero_vad", "silero_vad_half", "silero_vad_16k_op15", "silero_vad_16k_sequence", "silero_vad_op18_ifless")


def examined(model: onnx.ModelProto, folder: Path, **options: Any) -> Examination:
    path = folder / "network.onnx"
    path.write_bytes(model.SerializeToString())
    return examine(path, **options)


def kinds(examination: Examination) -> list[str]:
    return [fault.kind for fault in examination.faults]


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.name)
def test_a_seeded_fault_is_found_and_no_other(seed: Seed, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    examination = examined(seed.make(), tmp_path)
    assert set(kinds(examination)) == set(seed.kinds), examination.format()
    assert capfd.readouterr() == ("", "")  # runtimes print nothing of their own
    for fault in examination.faults:
        assert fault.where
        assert fault.problem
        assert fault.fix
    assert json.loads(json.dumps(examination.to_json()))["faults"][0]["kind"] == examination.faults[0].kind


def test_every_kind_of_fault_is_seeded() -> None:
    assert {kind for seed in SEEDS for kind in seed.kinds} == set(KINDS)


def test_the_documentation_lists_the_seeded_faults() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "doctor.md").read_text(encoding="utf-8")
    lines = [line.split("|") for line in page.splitlines()]
    rows = [(cells[1].strip(), cells[3].strip()) for cells in lines if len(cells) == 5]
    for seed in SEEDS:
        assert (seed.name, ", ".join(f"`{kind}`" for kind in seed.kinds)) in rows


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_artifacts_have_no_fault(cell: str, precision: str, tmp_path: Path) -> None:
    examination = examined(build_model(network_of((7, 3), cell=cell), BuildOptions(precision)), tmp_path)
    assert examination.is_sound, examination.format()
    assert len(examination.states) == (4 if cell == "lstm" else 2)
    assert any(note.startswith("step by step the outputs are those") for note in examination.notes)


@pytest.mark.parametrize("operator", ["LSTM", "GRU", "RNN"])
def test_plain_layers_have_no_fault(operator: str, tmp_path: Path) -> None:
    for states in ([("h", "hn"), ("c", "cn")], [("hidden_in", "hidden_out"), ("cell_in", "cell_out")]):
        examination = examined(recurrent_model(operator, states), tmp_path)
        assert examination.is_sound, examination.format()


class Elsewhere(nn.Module):
    """Stacked layers, batch first, with their state."""

    def __init__(self, kind: type[nn.RNNBase], layers: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.layers = nn.Embedding(11, 5), kind(5, 7, layers, batch_first=True)
        self.projection = nn.Linear(7, 11)

    def forward(self, tokens: Any, *state: Any) -> Any:
        hidden, after = self.layers(self.embedding(tokens), state if len(state) > 1 else state[0])
        return self.projection(hidden), *(after if isinstance(after, tuple) else (after,))


@pytest.mark.parametrize(("kind", "layers"), [(nn.LSTM, 1), (nn.LSTM, 2), (nn.GRU, 2)])
def test_what_torch_exports_right_has_no_fault(kind: type[nn.RNNBase], layers: int, tmp_path: Path) -> None:
    states = ["h", "c"] if kind is nn.LSTM else ["h"]
    names = ["tokens", "y", *states, *(f"{name}n" for name in states)]
    axes = {name: {0: "batch", 1: "time"} if name in ("tokens", "y") else {1: "batch"} for name in names}
    arguments = (torch.zeros(2, 3, dtype=torch.long), *(torch.zeros(layers, 2, 7) for _ in states))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this exporter is deprecated
        torch.onnx.export(
            Elsewhere(kind, layers).eval(),
            arguments,
            tmp_path / "network.onnx",
            input_names=["tokens", *states],
            output_names=["y", *(f"{name}n" for name in states)],
            dynamic_axes=axes,
            dynamo=False,
        )
    examination = examine(tmp_path / "network.onnx")
    assert examination.is_sound, examination.format()
    assert [(pair.input, pair.output) for pair in examination.states] == [(name, f"{name}n") for name in states]


def silero_file(name: str) -> Path:
    spec = importlib.util.find_spec("silero_vad")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("needs the package silero-vad")
    return Path(spec.submodule_search_locations[0]) / "data" / f"{name}.onnx"


@pytest.mark.parametrize("name", SILERO)
def test_the_models_of_silero_vad_have_no_fault(name: str) -> None:
    examination = examine(silero_file(name))
    assert examination.is_sound, examination.format()
    assert len(examination.states) == (2 if name.endswith("sequence") else 1)
    proved = "axis 0 of 'input' is a time: step by step the outputs are those of the whole sequence"
    assert (proved in examination.notes) == name.endswith("sequence")


def test_what_is_baked_into_a_model_of_silero_vad_is_found() -> None:
    assert kinds(examine(silero_file("silero_vad_openvino_16k"))) == ["weights-not-initializers", "baked-batch"]


ALWAYS = {"weights-not-initializers", "baked-batch"}
NO_STATE = {"no-state-input", "no-state-output", "baked-time"}
NODE_TESTS = {
    "defaults": ALWAYS | NO_STATE,
    "with_initial_bias": ALWAYS | NO_STATE,
    "batchwise": ALWAYS | NO_STATE | {"layout"},
    "reverse": ALWAYS | {"bidirectional", "baked-time"},
    "bidirectional": ALWAYS | {"bidirectional", "baked-time"},
    "with_peepholes": ALWAYS | {"sequence-lengths", "no-state-output"},
    "seq_length": ALWAYS | NO_STATE,
}
"""Test of onnx's own -> what is wrong with it for a stream."""


def test_the_node_tests_of_onnx_have_these_faults_and_no_others(tmp_path: Path) -> None:
    found = set()
    for case in node_tests():
        operator, _, name = case.name.removeprefix("test_").replace("simple_rnn", "rnn").partition("_")
        expected = NODE_TESTS[name] - ({"no-state-output"} if operator != "lstm" else set())
        examination = examined(case.model, tmp_path)
        assert set(kinds(examination)) == expected, f"{case.name}: {examination.format()}"
        found.add(operator)
    assert found >= {"lstm", "gru"}


def test_states_that_neither_names_nor_layers_tell_can_be_given(tmp_path: Path) -> None:
    model = unrolled(1, states=True)
    for output, name in zip(model.graph.output[1:], ("12", "13"), strict=True):
        node = next(node for node in model.graph.node if output.name in node.output)
        node.output[0], output.name = name, name
    assert kinds(examined(model, tmp_path)) == ["unpaired-state", "unpaired-state"]
    given = examined(model, tmp_path, states={"h": "12", "c": "13"})
    assert [(pair.input, pair.output) for pair in given.states] == [("h", "12"), ("c", "13")]
    with pytest.raises(OptionError, match="states names the output '14', expected one of y, 12, 13"):
        examined(model, tmp_path, states={"h": "14"})


def test_an_unrolled_step_with_its_state_has_no_fault(tmp_path: Path) -> None:
    examination = examined(unrolled(1, states=True), tmp_path)
    assert examination.is_sound, examination.format()
    assert "1 unrolled cell" in examination.summary


def test_what_is_no_fault_is_a_note(tmp_path: Path) -> None:
    notes = " ".join(examined(recurrent_model(opset=22), tmp_path).notes)
    assert "opset 22: onnxruntime before 1.27 has no CUDA kernel of LSTM" in notes
    notes = " ".join(examined(recurrent_model(axes=(1, "batch", 4)), tmp_path).notes)
    assert "the time is 1: one step a call" in notes


def test_a_state_that_comes_back_in_another_shape_is_found_by_running(tmp_path: Path) -> None:
    model = recurrent_model("GRU")
    model.graph.node[0].output[1] = "last"
    model.graph.node.append(helper.make_node("Transpose", ["last"], ["hn"], perm=[1, 0, 2]))
    model.graph.output[1].CopyFrom(value("hn", ("one", "two", 3)))
    examination = examined(model, tmp_path)
    assert kinds(examination) == ["differs-when-streamed"]
    assert "it does not run" in examination.faults[0].problem


def test_weights_in_another_file_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honeypot = Honeypot(tmp_path)
    monkeypatch.chdir(honeypot.inside)
    model = build_model(network_of((7, 3)), BuildOptions())
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="relative.bin")
    assert kinds(examined(model, tmp_path)) == ["external-data"]
    assert mend(tmp_path / "network.onnx", tmp_path / "mended.onnx").path is None
    assert not honeypot.was_accessed()
    with contextlib.suppress(ValueError):  # the positive control; that file has another size
        numpy_helper.to_array(model.graph.initializer[0])
    assert honeypot.was_accessed()


def test_files_that_cannot_be_examined_are_refused_with_a_reason(tmp_path: Path) -> None:
    large = tmp_path / "large.onnx"
    with large.open("wb") as file:
        file.truncate(2**31)
    (tmp_path / "text.onnx").write_text("something else")
    plain = model_of(
        [helper.make_node("Relu", ["x"], ["y"])], [value("x", ("batch", 4))], [value("y", ("batch", 4))], {}
    )
    onnx.save(plain, tmp_path / "plain.onnx")
    for name, message in (
        ("large", "large.onnx has 2,147,483,648 bytes, expected at most 2,147,483,647"),
        ("text", "text.onnx .* cannot be examined: it is no ONNX file"),
        ("plain", r"it has nothing recurrent: no LSTM, .* \(its operators: Relu\)"),
    ):
        with pytest.raises(ArtifactError, match=message):
            examine(tmp_path / f"{name}.onnx")
    with pytest.raises(StorageError, match="cannot read"):
        examine(tmp_path / "none.onnx")
