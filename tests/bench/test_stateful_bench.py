"""Any recurrent ONNX file in the harness: the sizes of its calls, their inputs, the gate and the report."""

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from lmtool.bench import BenchError, BenchOptions, Results, Scenario, format_table, run_bench
from lmtool.bench.backends.reference import reference_evaluator
from lmtool.bench.backends.source import Source, StatefulCalls
from lmtool.bench.backends.stateful import StatefulBackend
from lmtool.bench.benchmark import identify
from lmtool.bench.regression.earlier_results import require_same
from lmtool.bench.report.html import render_report
from lmtool.bench.report.png import draw_chart
from lmtool.bench.rounds import Schedule
from lmtool.bench.stateful import verification
from lmtool.bench.stateful.feeds import read_feed, write_feeds
from lmtool.bench.stateful.network import StatefulNetwork
from lmtool.bench.stateful.target import StatefulTarget
from lmtool.bench.stateful.verification import verify_stateful
from lmtool.bench.target import reads_tokens
from lmtool.runtime import ArtifactError, LmtoolError, OptionError, StatefulSession
from onnx import TensorProto, helper, numpy_helper
from support.models.node_tests import node_tests
from support.models.recurrent_files import model_of, recurrent_model, value, weights

SCENARIOS = [Scenario.parse(text) for text in ("single-stream", "multi-stream:3", "offline:1x4", "load", "first-step")]


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "network.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def network_of(model: onnx.ModelProto, folder: Path, **given: str) -> StatefulNetwork:
    return StatefulNetwork(saved(model, folder), None, given)


def shapes(arrays: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in arrays.items()}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    path, given = saved(recurrent_model(), tmp_path_factory.mktemp("network")), {"x": "time,batch,4"}
    others = ("reference", "torch", "openvino")
    scenarios = [*SCENARIOS, Scenario("pool", 2, 2)]
    options = BenchOptions(path, against=others, scenarios=scenarios, schedule=Schedule(1, 0.02), inputs=given)
    return run_bench(options, lambda _: None)


def test_runtimes_are_verified_then_measured_in_every_scenario(results: Results) -> None:
    assert results.is_sound
    assert {"reference", "onnxruntime"} <= set(results.runtimes)
    assert results.scenarios == SCENARIOS
    assert "language models only" in results.skipped["torch"]
    assert "language models" in results.skipped["pool:2x2"]
    report = results.parity["onnxruntime"]
    assert report["original"].startswith("onnx.reference")
    assert set(report["tensors"]) == {"y", "h", "c"}
    assert 0 < report["tensors"]["y"]["absolute"] < 1e-5
    assert results.identity.artifacts["onnxruntime"] == results.identity.artifacts["reference"]
    assert all(timing.tokens_per_second for timing in results.timings if timing.scenario.tokens)


def test_the_report_speaks_of_steps_and_not_of_tokens_or_perplexities(results: Results, tmp_path: Path) -> None:
    table, page = format_table(results), render_report(results)
    assert "steps/s" in table
    assert "states h -> hn, c -> cn; a step is x float32 [1, 1, 4]" in table
    for text in (table, page):
        for word in ("token", "erplexity", "invariant", "original"):
            assert word not in text.replace("language models", ""), word
    assert "onnx.reference" in page
    assert "lmtool bench --model network.onnx --input x=time,batch,4 --provider cpu" in page
    draw_chart(results, tmp_path / "bench.png")
    value = json.loads(json.dumps(results.to_json()))
    assert value["unit"] == "step"
    assert value["calls"]["states"] == {"h": "hn", "c": "cn"}


def test_inputs_of_every_size_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    network = network_of(recurrent_model(), tmp_path)
    feeds = {(batch, time): network.feed(batch, time) for batch, time in [(1, 1), (3, 1), (1, 4)]}
    write_feeds(tmp_path / "feeds.safetensors", feeds)
    for (batch, time), feed in feeds.items():
        read = read_feed(tmp_path / "feeds.safetensors", (batch, time))
        assert shapes(read.inputs) == {"x": (64, time, batch, 4)}
        assert shapes(read.states) == {"h": (1, batch, 3), "c": (1, batch, 3)}
        np.testing.assert_array_equal(read.inputs["x"], feed.inputs["x"])
        first, second = (call["x"] for call, _ in zip(read.endless(), range(2), strict=False))
        assert not np.array_equal(first, second)


def test_a_workload_carries_the_states_of_its_calls(tmp_path: Path) -> None:
    network, path = network_of(recurrent_model(), tmp_path), tmp_path / "network.onnx"
    write_feeds(tmp_path / "feeds.safetensors", {(1, 1): network.feed(1, 1)})
    session = StatefulSession.load(path)
    seen: list[np.ndarray] = []

    def run(names: Any, feed: Any) -> Any:
        seen.append(feed["h"])
        return session.session.run(names, feed)

    calls = StatefulCalls(network.states, network.outputs, tmp_path / "feeds.safetensors", network.tolerance)
    call = StatefulBackend(run, calls).workload(Scenario("single-stream"))
    for _ in range(3):
        call()
    state = None
    for inputs, begins in zip(network.feed(1, 1).endless(), seen, strict=False):
        np.testing.assert_array_equal(begins, np.zeros((1, 1, 3)) if state is None else state["h"])
        _, state = session.run(inputs, state)


def test_sizes_that_the_user_gives(tmp_path: Path) -> None:
    free = recurrent_model(axes=("a", "b", 4))
    assert network_of(free, tmp_path, x="5,1,4").feed(2, 1).inputs["x"].shape[1:] == (5, 2, 4)
    assert network_of(free, tmp_path, x="5,1,4").feed(1, 3).inputs["x"].shape[1:] == (15, 1, 4)
    assert network_of(free, tmp_path, x="time,batch,4").feed(2, 3).inputs["x"].shape[1:] == (3, 2, 4)


def test_arrays_that_the_user_gives_are_the_calls_one_after_the_other(tmp_path: Path) -> None:
    numbers = np.arange(6 * 4, dtype=np.float32).reshape(6, 1, 1, 4)
    np.save(tmp_path / "x.npy", numbers)
    np.save(tmp_path / "h.npy", np.full((1, 1, 3), 0.5, np.float32))
    given = {"x": str(tmp_path / "x.npy"), "h": str(tmp_path / "h.npy")}
    network = network_of(recurrent_model(), tmp_path, **given)
    np.testing.assert_array_equal(network.feed(1, 1).inputs["x"], numbers)
    streams = network.feed(2, 1)
    np.testing.assert_array_equal(streams.inputs["x"], np.repeat(numbers, 2, 2))
    np.testing.assert_array_equal(streams.states["h"], np.full((1, 2, 3), 0.5))
    np.testing.assert_array_equal(network.feed(1, 3).inputs["x"], numbers.reshape(2, 3, 1, 4))
    assert network.feed(1, 8).inputs["x"].shape == (1, 8, 1, 4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"z": "1"}, "--input z: expected one of the inputs x, h, c"),
        ({"x": "1,1"}, "1,1 has 2 axes, but the input is float32 [time, batch, 4]"),
        ({"x": "1,one,4"}, "'one' is no axis, expected numbers, batch and time"),
        ({"x": "1,0,4"}, "'0' is no axis"),
        ({"x": "batch,batch,4"}, "names two axes batch or time"),
        ({"x": "1,7,4"}, "a batch of 7, expected 1: the scenario says how many streams"),
        ({"x": "2,1,5"}, "has an axis of 5, expected 4: the input is float32 [time, batch, 4]"),
        ({"x": "2,1,4", "h": "1,1,3"}, None),
        ({"x": "none.npy"}, "none.npy"),
    ],
)
def test_sizes_that_do_not_fit(given: dict[str, str], message: str | None, tmp_path: Path) -> None:
    if message is None:
        network_of(recurrent_model(), tmp_path, **given)
        return
    with pytest.raises(LmtoolError) as raised:
        network_of(recurrent_model(), tmp_path, **given)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((1, 1, 4)), "holds float64, expected float32: array.astype('float32')"),
        (np.zeros((2, 2, 1, 1, 4), np.float32), "expected the 3 axes of float32 [time, batch, 4], or one axis more"),
        (np.zeros((0, 1, 1, 4), np.float32), "or one axis more"),
        (np.array([object()]), "is no .npy file of numbers"),
    ],
)
def test_files_of_inputs_that_do_not_fit(array: np.ndarray, message: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(OptionError) as raised:
        network_of(recurrent_model(), tmp_path, x=str(tmp_path / "x.npy"))
    assert message in str(raised.value)


def test_a_file_of_inputs_that_declares_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "x.npy").open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (10**13, 1, 1, 4)}
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(OptionError, match="no .npy file of numbers"):
        network_of(recurrent_model(), tmp_path, x=str(tmp_path / "x.npy"))


def test_a_given_size_is_tried_where_the_file_leaves_it_open(tmp_path: Path) -> None:
    node = helper.make_node("GRU", ["x", "W", "R", "B", "", "h"], ["y", "hn"], hidden_size=3)
    inputs = [value("x", ("time", "batch", "width")), value("h", (1, "batch", 3))]
    outputs = [value("y", ("time", 1, "batch", 3)), value("hn", (1, "batch", 3))]
    model = model_of([node], inputs, outputs, weights("GRU", 77))
    assert network_of(model, tmp_path, x="time,batch,77").feed(2, 3).inputs["x"].shape[1:] == (3, 2, 77)
    with pytest.raises(BenchError, match="runs at no size that was tried"):
        network_of(model, tmp_path)


def test_a_state_that_is_left_out_is_named(results: Results, tmp_path: Path) -> None:
    path = saved(recurrent_model(), tmp_path)
    assert StatefulNetwork(path, None, {}).describe()["uncarried"] == []
    calls = StatefulNetwork(path, {"h": "hn"}, {}).describe()
    assert calls["uncarried"] == ["c"]
    assert "NOT carried" not in format_table(results)
    table = format_table(replace(results, identity=replace(results.identity, calls=calls)))
    assert "states h -> hn; NOT carried, though named or used as states: c" in table


def test_results_of_other_sizes_or_states_are_not_compared(tmp_path: Path) -> None:
    path = saved(recurrent_model(), tmp_path)
    before = asdict(identify(BenchOptions(path, inputs={"x": "1,1,4"})))
    require_same(before, identify(BenchOptions(path)))
    with pytest.raises(BenchError, match=r"calls' inputs was .*\[1, 1, 4\].*, is .*\[2, 1, 4\]"):
        require_same(before, identify(BenchOptions(path, inputs={"x": "2,1,4"})))
    with pytest.raises(BenchError, match="calls' states was"):
        require_same(before, identify(BenchOptions(path, states={"h": "hn"})))


def test_activations_in_8_bits_may_differ_by_a_rounding(tmp_path: Path) -> None:
    model = recurrent_model()
    assert network_of(model, tmp_path).tolerance == 1e-4
    model.graph.node[0].input[0] = "rounded"
    scales = [numpy_helper.from_array(np.array(0.02, np.float32), "scale"), numpy_helper.from_array(np.int8(0), "zero")]
    model.graph.initializer.extend(scales)
    model.graph.node.insert(0, helper.make_node("DequantizeLinear", ["bytes", "scale", "zero"], ["rounded"]))
    model.graph.node.insert(0, helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["bytes"]))
    assert network_of(model, tmp_path).tolerance == 0.1


def possible(model: onnx.ModelProto, folder: Path, **given: str) -> tuple[list[str], dict[str, str]]:
    target = StatefulTarget(saved(model, folder), None, given, ["cpu"], None, 1, folder)
    chosen, skipped = target.possible(SCENARIOS)
    return [str(scenario) for scenario in chosen], skipped


def test_what_the_file_fixes_is_not_measured_at_other_sizes(tmp_path: Path) -> None:
    chosen, skipped = possible(recurrent_model(axes=("time", 1, 4)), tmp_path)
    assert chosen == ["single-stream", "offline:1x4", "load", "first-step"]
    assert "float32 [1, 3, 4], expected float32 [time, 1, 4]" in skipped["multi-stream:3"]
    chosen, skipped = possible(recurrent_model(axes=("time", 2, 4)), tmp_path)
    assert chosen == ["load", "first-step", "multi-stream:2"]
    assert "fixes the batch at 2: --scenario multi-stream:2" in skipped["single-stream"]
    assert "fixes the batch at 2: --scenario offline:2x4" in skipped["offline:1x4"]
    chosen, skipped = possible(recurrent_model(axes=(1, "batch", 4)), tmp_path)
    assert chosen == ["single-stream", "multi-stream:3", "load", "first-step"]
    assert skipped["offline:1x4"] == "the file fixes the time at 1"
    assert network_of(recurrent_model(axes=(7, "batch", 4)), tmp_path).feed(2, 1).inputs["x"].shape[1:] == (7, 2, 4)


def test_a_file_without_a_time_or_a_batch_says_how_to_name_them(tmp_path: Path) -> None:
    nodes = [helper.make_node("Add", ["x", "state"], ["y"]), helper.make_node("Tanh", ["state"], ["next_state"])]
    inputs = [value("x", ["a", 2]), value("state", [1, 2])]
    model = model_of(nodes, inputs, [value("y", ["a", 2]), value("next_state", [1, 2])], {})
    chosen, skipped = possible(model, tmp_path)
    assert "single-stream" in chosen
    assert "say which, as --input NAME=time" in skipped["offline:1x4"]
    with pytest.raises(BenchError, match="there is nothing to measure: offline:1x4: no axis"):
        run_bench(BenchOptions(tmp_path / "network.onnx", scenarios=[SCENARIOS[2]]), lambda _: None)


def test_a_sweep_needs_a_language_model(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="name --batch and --time"):
        run_bench(BenchOptions(saved(recurrent_model(), tmp_path), sweep=True), lambda _: None)


def verified(path: Path, backend: str, folder: Path) -> dict[str, Any]:
    target = StatefulTarget(path, None, {}, ["cpu"], ["reference"], 1, folder)
    scenarios, _ = target.possible(SCENARIOS)
    source = target.candidates[backend].source
    assert source.calls is not None
    return verify_stateful(backend, source, source.calls, scenarios)


@pytest.mark.parametrize("lost", ["output", "state", "nan", "shape"])
def test_a_runtime_that_computes_something_else_fails(
    lost: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = saved(recurrent_model("GRU"), tmp_path)
    assert verified(path, "onnxruntime", tmp_path)["passed"]
    step, runners = StatefulBackend.step, list[StatefulBackend]()

    def wrong(self: StatefulBackend, inputs: Any, states: Any) -> Any:
        runners.append(self)
        if self is not runners[0]:  # the reference is loaded, and called, first
            return step(self, inputs, states)
        outputs, after = step(self, inputs, states)
        changed = {
            "output": lambda: ({"y": outputs["y"] + 1e-3}, after),
            "state": lambda: (outputs, dict(states)),
            "nan": lambda: ({"y": np.where(outputs["y"] > 0, np.nan, outputs["y"])}, after),
            "shape": lambda: ({"y": outputs["y"][..., :1]}, after),
        }
        return changed[lost]()

    monkeypatch.setattr(StatefulBackend, "step", wrong)
    report = verified(path, "onnxruntime", tmp_path)
    assert not report["passed"]
    assert ("h" if lost == "state" else "y") in report["failures"][0]
    assert len(report["failures"]) <= 4


def test_the_evaluator_itself_is_compared_with_onnxruntime(tmp_path: Path) -> None:
    report = verified(saved(recurrent_model(), tmp_path), "reference", tmp_path)
    assert report["passed"]
    assert "without graph optimizations" in report["original"]


def test_an_evaluator_that_fails_at_one_size_is_no_reference(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def evaluator(path: Path) -> Any:
        made = reference_evaluator(path)

        def run(names: Any, feed: Any) -> Any:
            if feed["x"].shape[1] == 3:
                raise ValueError("a batch of 3")
            return made.run(names, feed)

        return SimpleNamespace(run=run)

    monkeypatch.setattr(verification, "reference_evaluator", evaluator)
    report = verified(saved(recurrent_model(), tmp_path), "onnxruntime", tmp_path)
    assert report["passed"]
    assert "without graph optimizations; onnx.reference cannot run the file: a batch of 3" in report["original"]


def test_whole_numbers_must_be_the_same(tmp_path: Path) -> None:
    add = helper.make_node("Add", ["x", "state"], ["next_state"])
    nodes = [add, helper.make_node("Cast", ["next_state"], ["n"], to=TensorProto.INT64)]
    inputs = [value("x", ["batch", 2]), value("state", ["batch", 2])]
    outputs = [value("n", ["batch", 2], TensorProto.INT64), value("next_state", ["batch", 2])]
    path = saved(model_of(nodes, inputs, outputs, {}), tmp_path)
    report = verified(path, "onnxruntime", tmp_path)
    assert report["passed"]
    assert report["tensors"]["n"]["absolute"] == 0


def test_the_tests_of_onnx_are_measured_or_refused_by_name(tmp_path: Path) -> None:
    measured = 0
    for case in node_tests():
        if "batchwise" in case.name:
            with pytest.raises(LmtoolError, match="layout"):
                possible(case.model, tmp_path)
        else:
            measured += "load" in possible(case.model, tmp_path)[0]
    assert measured == len(node_tests()) - 2


def test_what_has_the_input_of_a_language_model_keeps_the_contract_of_one(tmp_path: Path) -> None:
    assert not reads_tokens(saved(recurrent_model(), tmp_path))
    node = helper.make_node("Identity", ["token_ids"], ["y"])
    like = model_of([node], [value("token_ids", [1])], [value("y", [1])], {})
    assert reads_tokens(saved(like, tmp_path))
    (tmp_path / "network.onnx").write_bytes(b"no ONNX file")
    assert reads_tokens(tmp_path / "network.onnx")
    options = BenchOptions(tmp_path / "network.onnx")
    with pytest.raises(ArtifactError, match="cannot be used"):
        run_bench(options, lambda _: None)
    with pytest.raises(ArtifactError, match="cannot be examined"):
        run_bench(BenchOptions(tmp_path / "network.onnx", inputs={"x": "1"}), lambda _: None)


@pytest.mark.parametrize("name", ["silero_vad", "silero_vad_half", "silero_vad_16k_sequence"])
def test_models_of_silero_vad(name: str, tmp_path: Path) -> None:
    spec = importlib.util.find_spec("silero_vad")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("needs the package silero-vad")
    path = Path(spec.submodule_search_locations[0]) / "data" / f"{name}.onnx"
    sizes = "time,576" if "sequence" in name else "1,576"
    target = StatefulTarget(path, None, {"input": sizes}, ["cpu"], ["reference"], 1, tmp_path)
    scenarios, skipped = target.possible(SCENARIOS)
    assert set(skipped) == ({"multi-stream:3"} if "sequence" in name else {"offline:1x4"})
    for backend, candidate in target.candidates.items():
        source: Source = candidate.source
        assert source.calls is not None
        report = verify_stateful(backend, source, source.calls, scenarios)
        assert report["passed"], report
