"""Sessions of any stateful file: states paired by name, carried as values, checked before a call."""

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from lmtool.runtime import (
    ArgumentError,
    ArtifactError,
    OptionError,
    Predictor,
    ProviderError,
    StateError,
    StatefulSession,
    StateTensors,
)
from lmtool.runtime.session.contract import TensorType
from lmtool.runtime.stateful.state_pairs import StatePair, state_pairs
from onnx import TensorProto, helper
from support.models.recurrent_files import model_of, recurrent_model, value
from support.models.seeded_faults import SEEDS

STATE = TensorType("float32", (1, "batch", 3))


def session_of(model: onnx.ModelProto, states: dict[str, str] | None = None) -> StatefulSession:
    return StatefulSession.load(model.SerializeToString(), states)


def paired(inputs: Sequence[str], outputs: Sequence[str]) -> dict[str, str]:
    pairs = state_pairs(dict.fromkeys(inputs, STATE), dict.fromkeys(outputs, STATE))
    return {pair.input: pair.output for pair in pairs}


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ("h c", "hn cn"),
        ("state", "stateN"),
        ("h0 c0", "next_h0 next_c0"),
        ("h_0 c_0", "h_n c_n"),
        ("hidden_in cell_in", "hidden_out cell_out"),
        ("past_key past_value", "present_key present_value"),
        ("initial_h initial_c", "Y_h Y_c"),
        ("hx cx", "hy cy"),
        ("cell_0 cell_1 hidden_0 hidden_1", "next_cell_0 next_cell_1 next_hidden_0 next_hidden_1"),
        ("lstm1_h_in lstm2_h_in", "lstm1_h_out lstm2_h_out"),
        ("encoder.cached_len_0 cached_len_1", "encoder.new_cached_len_0 new_cached_len_1"),
        ("prevState", "newState"),
    ],
)
def test_names_that_exporters_write_pair(inputs: str, outputs: str) -> None:
    expected = dict(zip(inputs.split(), outputs.split(), strict=True))
    for more in ((), ("probability", "output")):
        assert paired(["input", "audio_in", *inputs.split()], [*more, *outputs.split()]) == expected
        assert paired(inputs.split(), [*reversed(outputs.split()), *more]) == expected


def test_data_are_no_states() -> None:
    assert paired(["input", "x", "audio_in"], ["output", "y", "audio_out"]) == {}


def test_an_output_of_another_type_or_shape_does_not_follow() -> None:
    for dtype, shape in (("float16", (1, "batch", 3)), ("float32", ("batch", 3)), ("float32", (1, "batch", 4))):
        kind = TensorType(dtype, shape)
        assert state_pairs({"h": STATE}, {"hn": kind}) == ()
    assert state_pairs({"h": STATE}, {"hn": TensorType("float32", None)}) == (StatePair("h", "hn"),)


def test_what_names_leave_open_is_an_error_that_an_explicit_pair_ends() -> None:
    with pytest.raises(ArtifactError, match="'next_h', 'hn' may follow the input 'h'; say which|'next_h', 'new_h'"):
        paired(["h"], ["next_h", "new_h"])
    model = recurrent_model(states=[("h", "first"), ("c", "second")])
    with pytest.raises(ArtifactError, match="no name says which output follows the state 'h'; 'first' or 'second' fit"):
        session_of(model)
    session = session_of(model, {"h": "first", "c": "second"})
    assert list(session.outputs) == ["y"]
    for states, message in (
        ({"h": "y"}, r"states pairs 'h', float32 \[1, batch, 3\], with 'y', float32 \[time, batch, 2\]"),
        ({"hidden": "first"}, "states names the input 'hidden', expected one of x, h, c"),
        ({"h": "none"}, "states names the output 'none', expected one of y, first, second"),
        ({"h": "first", "c": "first"}, "names 2 inputs, but one output twice"),
    ):
        with pytest.raises(OptionError, match=message):
            session_of(model, states)
    with pytest.raises(ArgumentError, match="states is list"):
        session_of(model, [("h", "first")])  # type: ignore[arg-type]


def test_steps_with_a_carried_state_compute_what_the_whole_sequence_computes() -> None:
    for operator in ("LSTM", "GRU", "RNN"):
        session = session_of(recurrent_model(operator))
        x = np.random.default_rng(0).normal(size=(5, 2, 4)).astype(np.float32)
        whole, end = session.run({"x": x})
        state, parts = session.initial_state({"x": x}), []
        for step in x:
            part, state = session.run({"x": step[None]}, state)
            parts.append(part["y"])
        np.testing.assert_allclose(np.concatenate(parts), whole["y"], atol=1e-6)
        for name in end:
            np.testing.assert_allclose(state[name], end[name], atol=1e-6)


def test_constants_are_computed_at_loading_only_for_files_that_are_trusted() -> None:
    seed = next(seed for seed in SEEDS if seed.name == "gates reordered in the graph")
    data, x = seed.make().SerializeToString(), np.ones((3, 2, 4), np.float32)
    plain, folded = (StatefulSession.load(data, fold_constants=fold) for fold in (False, True))
    np.testing.assert_allclose(plain.run({"x": x})[0]["y"], folded.run({"x": x})[0]["y"], atol=1e-6)
    assert plain.placement["cpu"]["Slice"] == 8
    assert "Slice" not in folded.placement["cpu"]


def test_an_artifact_gives_the_bits_of_its_predictor(artifact_path: Path, predictor: Predictor) -> None:
    session, tokens = StatefulSession.load(artifact_path), np.array([[1, 2, 3], [3, 2, 1]])
    logits, after = predictor.step(tokens, predictor.initial_state(2), logits_to_keep=1)
    outputs, state = session.run({"token_ids": tokens, "logits_to_keep": [1]})
    np.testing.assert_array_equal(outputs["logits"], logits)
    for own, other in zip(state.values(), after.tensors, strict=True):
        np.testing.assert_array_equal(own, other)
    assert "LSTM" in session.placement["cpu"]


def test_a_state_is_a_value() -> None:
    session = session_of(recurrent_model())
    x = np.ones((1, 2, 4), np.float32)
    _, state = session.run({"x": x})
    before = {name: array.copy() for name, array in state.items()}
    first, second = session.run({"x": x}, state), session.run({"x": x}, state)
    for name, array in state.items():
        np.testing.assert_array_equal(array, before[name])
        np.testing.assert_array_equal(first[1][name], second[1][name])
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 0
    for other in (copy.deepcopy(state), StateTensors(before)):
        assert not other["h"].flags.writeable
        np.testing.assert_array_equal(session.run({"x": x}, other)[0]["y"], first[0]["y"])
    own = {"h": np.zeros((1, 2, 3), np.float32), "c": np.zeros((1, 2, 3), np.float32)}
    kept = StateTensors(own)
    own["h"][:] = 1
    assert not kept["h"].any()


def test_initial_states_have_any_rank_and_type_and_the_sizes_of_the_inputs() -> None:
    kinds = {"count": (TensorProto.INT64, ()), "seen": (TensorProto.BOOL, ("rows",))}
    kinds["sum"] = (TensorProto.DOUBLE, (2, "rows", "", 3))
    nodes = [helper.make_node("Identity", [name], [f"next_{name}"]) for name in (*kinds, "x")]
    shapes = {name: value(name, shape, kind) for name, (kind, shape) in kinds.items()}
    after = [value(f"next_{name}", shape, kind) for name, (kind, shape) in kinds.items()]
    x = value("x", ("streams", "rows"))
    nodes[-1].output[0] = "y"
    session = session_of(model_of(nodes, [x, *shapes.values()], [value("y", ("streams", "rows")), *after], {}))
    state = session.initial_state({"x": np.zeros((5, 7), np.float32)})
    assert {name: (array.dtype.name, array.shape) for name, array in state.items()} == {
        "count": ("int64", ()),
        "seen": ("bool", (7,)),
        "sum": ("float64", (2, 7, 5, 3)),
    }
    assert session.initial_state()["sum"].shape == (2, 1, 1, 3)
    assert session.run({"x": np.zeros((5, 7), np.float32)}, state)[1]["sum"].shape == (2, 7, 5, 3)


def test_foreign_inputs_and_states_are_refused_before_the_session_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_of(recurrent_model())
    monkeypatch.setattr(session, "session", None)
    x, (h, c) = np.zeros((1, 2, 4), np.float32), np.zeros((2, 1, 2, 3), np.float32)
    for inputs, message in (
        ({}, "the inputs lack 'x', expected x"),
        ({"x": x, "h": h}, "the inputs have 'h', expected x"),
        ({"x": x.astype(np.float64)}, r"input 'x' is float64 \[1, 2, 4\], expected float32 \[time, batch, 4\]"),
        ({"x": x[0]}, r"input 'x' is float32 \[2, 4\]"),
        ({"x": x[:, :, :3]}, r"input 'x' is float32 \[1, 2, 3\]"),
        ({"x": [["a"]]}, "input 'x' is "),
        ({"x": [[1], [2, 3]]}, "input 'x' is no array of"),
        ([x], "inputs is list"),
    ):
        with pytest.raises(ArgumentError, match=message):
            session.run(inputs)  # type: ignore[arg-type]
    for state, message in (
        ({"h": h}, "the state holds 'h', expected h, c"),
        ({"h": h, "c": c[:, :1]}, r"state 'c' is float32 \[1, 1, 3\], expected float32 \[1, 2, 3\]"),
        ({"h": h, "c": c.astype(np.float16)}, r"state 'c' is float16 \[1, 2, 3\]"),
        ({"h": h, "c": [[0.0]]}, "state 'c' is list"),
        ((h, c), "the state is tuple"),
    ):
        with pytest.raises(StateError, match=message):
            session.run({"x": x}, state)  # type: ignore[arg-type]


def test_a_session_is_not_copied_and_says_so() -> None:
    with pytest.raises(ArgumentError, match="cannot be pickled; send the path"):
        copy.deepcopy(session_of(recurrent_model()))


def test_states_that_are_not_finite_are_found() -> None:
    state = StateTensors({"h": np.array([np.nan], np.float32), "n": np.array([1])})
    with pytest.raises(StateError, match="the state 'h' holds numbers that are not finite"):
        state.require_finite()
    StateTensors({"n": np.array([1])}).require_finite()
    with pytest.raises(ArgumentError, match="the state 'h' is list"):
        StateTensors({"h": [1.0]})  # type: ignore[dict-item]


def test_files_are_refused_as_a_predictor_refuses_them(tmp_path: Path) -> None:
    outside = tmp_path / "outside.onnx"
    onnx.save(recurrent_model(), outside, save_as_external_data=True, location="weights.bin", size_threshold=0)
    with pytest.raises(ArtifactError, match=r"outside.onnx \(.* cannot be used: a weight lies outside the file"):
        StatefulSession.load(outside)
    with pytest.raises(ArtifactError, match="no ONNX file"):
        StatefulSession.load(b"something else")
    stateless = recurrent_model("GRU")
    del stateless.graph.input[1]
    stateless.graph.node[0].input[5] = ""
    with pytest.raises(ArtifactError, match=r"no output is named .*\(inputs: x; outputs: y, hn\)"):
        session_of(stateless)
    assert session_of(stateless, {}).run({"x": np.zeros((2, 1, 4), np.float32)})[1] == {}
    large = tmp_path / "large.onnx"
    with large.open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(ArtifactError, match="large.onnx has 2,147,483,648 bytes, expected at most 2,147,483,647"):
        StatefulSession.load(large)
    with pytest.raises(ProviderError, match="provider 'cuda' is not available"):
        StatefulSession.load(outside, provider="cuda")
