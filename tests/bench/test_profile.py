"""Where the time of a call goes: real profilers on small networks, and the arithmetic by hand."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lmtool.bench import BenchError, BenchOptions, Results, Scenario, format_table
from lmtool.bench.backends.registry import BACKENDS
from lmtool.bench.backends.source import Source
from lmtool.bench.candidates import Candidate
from lmtool.bench.profile import run_profiles as runs
from lmtool.bench.profile.floors import floor_seconds, floors_of
from lmtool.bench.profile.kinds import (
    ACTIVATIONS,
    ARITHMETIC,
    EMBEDDING,
    LAYERS,
    MOVEMENT,
    OTHER,
    OUTSIDE,
    PROJECTION,
    QUANTIZATION,
    kind_of,
)
from lmtool.bench.profile.onnxruntime_profiler import read_runs
from lmtool.bench.profile.operator_profile import OperatorProfile
from lmtool.bench.profile.profiles import Profiles
from lmtool.bench.profile.run_profiles import run_profiles
from lmtool.bench.profile.span import Span, Tallies
from lmtool.bench.report.html import render_report
from lmtool.bench.roofline import Roofline, step_weights
from lmtool.bench.scenario import CALL_KINDS, chosen_scenarios
from lmtool.bench.stateful.target import StatefulTarget
from lmtool.bench.untrained_run import make_untrained_run
from lmtool.bench.workers.job import Job
from lmtool.bench.workers.launch import CrashError
from lmtool.bench.workers.profile import profile_scenario
from lmtool.export import export_run
from lmtool.model import Run
from lmtool.runtime import OptionError
from lmtool.runtime.artifact.architecture import Architecture
from onnx import helper, numpy_helper
from support.models.recurrent_files import recurrent_model
from support.models.results import ONE, make_results
from support.web.pages import Page

OFFLINE = Scenario.parse("offline:2x6")


def profiled(backend: str, source: Source, scenario: Scenario, folder: Path) -> OperatorProfile:
    """Measured up to five times, longer each time, where other work made all time outside operators the profiler's."""
    for seconds in (0.02, 0.06, 0.18, 0.54, 1.62):
        profile = profile_scenario(Job(backend, source, folder / "unused", seconds=seconds), scenario, folder)
        if profile.outside_seconds > 0:
            break
    return profile


def assert_whole(profile: OperatorProfile) -> None:
    """The parts are the call, and none is negative."""
    assert sum(profile.kinds.values()) == pytest.approx(profile.seconds)
    assert min(operator.seconds for operator in profile.operators) >= 0
    assert profile.kinds[OUTSIDE] > 0
    assert sum(operator.reported_seconds for operator in profile.operators) < profile.profiled_seconds


def named(profile: OperatorProfile) -> dict[str, float]:
    """Operator -> how often it runs in a call."""
    events: dict[str, float] = {}
    for operator in profile.operators:
        events[operator.operator] = events.get(operator.operator, 0) + operator.events
    return events


@pytest.fixture(scope="module")
def measurable(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose layer and projection take longer than a profiler takes for an event, on fast processors too."""
    architecture = Architecture("lstm", 64, (64,), tied=False)
    run = make_untrained_run(tmp_path_factory.mktemp("runs") / "measurable", architecture, 2000, 1)
    export_run(run)
    return run


@pytest.mark.parametrize("backend", ["onnxruntime", "torch", "reference", "openvino"])
@pytest.mark.parametrize("scenario", [ONE, OFFLINE], ids=str)
def test_the_parts_of_every_runtime_are_its_call(
    backend: str, scenario: Scenario, measurable: Run, tmp_path: Path
) -> None:
    if reason := BACKENDS[backend].reason_missing():
        pytest.skip(reason)
    profile = profiled(backend, Source(measurable.artifact("fp32"), measurable.path), scenario, tmp_path)
    assert_whole(profile)
    assert {LAYERS, PROJECTION} <= set(profile.kinds)
    assert profile.calls >= 10
    assert OperatorProfile.from_json(json.loads(json.dumps(profile.to_json())), profile.runtime) == profile


def test_each_node_of_a_body_counts_once(run: Run, tmp_path: Path) -> None:
    """int8 artifacts hold an If around a Scan: an operator runs as often as its steps."""
    source = Source(run.artifact("int8"), run.path)
    for backend in ("onnxruntime", "reference"):
        profile = profiled(backend, source, OFFLINE, tmp_path)
        assert_whole(profile)
        events = named(profile)
        assert events["If"] == 1
        assert events["Sigmoid"] == OFFLINE.time * events["Scan"] > 0


def test_a_heavy_operator_is_found_in_any_network(tmp_path: Path) -> None:
    model = recurrent_model()
    model.graph.node[-1].output[0] = "light"
    size = 200_000
    model.graph.initializer.append(numpy_helper.from_array(np.full(size, 0.1, np.float32), "many"))
    model.graph.node.extend(
        [
            helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
            helper.make_node("Add", ["many", "largest"], ["shifted"]),
            helper.make_node("Erf", ["shifted"], ["heavy"]),
            helper.make_node("ReduceMin", ["heavy"], ["least"], keepdims=0),
            helper.make_node("Mul", ["least", "zero"], ["nothing"]),
            helper.make_node("Add", ["light", "nothing"], ["y"]),
        ]
    )
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0), "zero"))
    path = tmp_path / "network.onnx"
    path.write_bytes(model.SerializeToString())
    target = StatefulTarget(path, None, {"x": "time,batch,4"}, ["cpu"], ("reference",), 1, tmp_path)
    assert target.possible([ONE]) == ([ONE], {})
    for candidate in target.candidates.values():
        profile = profiled(candidate.backend, candidate.source, ONE, tmp_path)
        assert_whole(profile)
        assert profile.operators[0].operator == "Erf"
        assert profile.kinds[OTHER] > 0.2 * profile.seconds
        assert PROJECTION not in profile.kinds


def event(name: str, start: int, duration: int, category: str = "Node") -> dict[str, Any]:
    facts = {"op_name": name, "input_type_shape": [{"float": [1, 3]}], "output_type_shape": [{"float": [1, 3]}]}
    full = f"{name}_1_kernel_time" if category == "Node" else name
    return {"cat": category, "name": full, "ts": start, "dur": duration, "args": facts}


def lines_of(events: list[dict[str, Any]]) -> str:
    """A file as onnxruntime writes it."""
    return "[\n" + ",\n".join(map(json.dumps, events)) + "\n]\n"


def test_the_time_of_a_body_is_not_that_of_its_node(tmp_path: Path) -> None:
    events = [
        event("Shape", 100, 5),
        event("MatMul", 121, 10),
        event("Tanh", 140, 4),
        event("Tanh", 150, 6),
        event("Scan", 135, 30),
        event("If", 110, 70),
        event("Mul", 190, 1),
        event("model_run", 90, 120, "Session"),
        event("Mul", 300, 2),
        event("model_run", 295, 20, "Session"),
    ]
    path = tmp_path / "profile.json"
    path.write_text(lines_of(events))
    first, second = read_runs(path, 0)
    microseconds = {name: round(1e6 * tally.seconds) for (name, _), tally in first.by_operator.items()}
    assert microseconds == {"Shape": 5, "MatMul": 10, "Tanh": 10, "Scan": 20, "If": 30, "Mul": 1}
    nested = {name: tally.nested for (name, _), tally in first.by_operator.items() if tally.nested}
    assert nested == {"Scan": 2, "If": 2}
    assert list(second.by_operator) == [("Mul", ARITHMETIC)]


def test_a_profile_that_a_full_disk_cut_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    whole = lines_of([event("Shape", 100, 5), event("model_run", 90, 20, "Session")])
    path.write_text(whole)
    assert len(read_runs(path, 0)) == 1
    for file, text in ((path, whole[:-2]), (path, whole[:-40]), (path, ""), (tmp_path / "none.json", None)):
        if text is not None:
            file.write_text(text)
        with pytest.raises(BenchError, match=rf"{file.name} cannot be read .*: is the disk of .* full"):
            read_runs(file, 0)


def test_onnxruntime_has_no_profile_on_other_providers(run: Run, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="profile of cuda counts how long launches take"):
        profiled("onnxruntime", Source(run.artifact("fp32"), provider="cuda"), ONE, tmp_path)


def spans_of(seconds: float, count: int = 8, **operators: float) -> list[Span]:
    tallies = Tallies()
    for name, time in operators.items():
        tallies.add(name, kind_of(name, (), (), 0), time)
    return [Span(seconds, 1, tallies)] * count


def profile_of(plain: float, under: float, **operators: float) -> OperatorProfile:
    return OperatorProfile.of("onnx fp32", ONE, [[plain]] * 8, [[under]] * 8, spans_of(under, **operators))


def test_the_profiler_s_cost_is_taken_out() -> None:
    """Two events of 20 us, 4 inside each: the cheapest operator took 4 us under the profiler."""
    profile = profile_of(100e-6, 140e-6, LSTM=64e-6, Squeeze=4e-6)
    assert profile.event_seconds == pytest.approx(20e-6)
    assert profile.kinds == pytest.approx({LAYERS: 60e-6, OUTSIDE: 40e-6})
    assert profile.scale == pytest.approx(1)
    assert not profile.is_slowed
    assert not profile.is_unsteady
    assert profile_of(100e-6, 250e-6, LSTM=64e-6).is_slowed
    assert profile_of(100e-6, 160e-6, LSTM=150e-6, Tanh=0).is_unsteady
    assert sum(profile_of(100e-6, 900e-6, LSTM=850e-6).kinds.values()) == pytest.approx(100e-6)


def test_a_cost_that_is_not_certain_is_not_taken_out() -> None:
    """Calls with the profiler are longer in half of the blocks only: other work on the machine."""
    spans = spans_of(110e-6, Linear=1e-6, LSTM=60e-6)
    blocks = [[100e-6]] * 8, [[90e-6], [130e-6]] * 4
    profile = OperatorProfile.of("torch", ONE, *blocks, spans)
    assert profile.event_seconds == 0
    assert profile.kinds[LAYERS] == pytest.approx(61e-6 * 100 / 110)


def test_interrupted_calls_do_not_count() -> None:
    spans = [*spans_of(100e-6, LSTM=60e-6), *spans_of(9e-3, 2, LSTM=8e-3)]
    profile = OperatorProfile.of("a", ONE, [[100e-6] * 8, [5e-3] * 2], [[100e-6] * 8, [9e-3] * 2], spans)
    assert profile.kinds == pytest.approx({LAYERS: 60e-6, OUTSIDE: 40e-6})


@pytest.mark.parametrize(
    ("under", "reported", "message"),
    [
        (100e-6, {"LSTM": 130e-6}, "outside the operators took -30.0 us: the clock jumped"),
        (100e-6, {"LSTM": -1e-6}, "LSTM took -1.0 us: the clock jumped"),
        (-100e-6, {}, "a call with the profiler took -100.0 us: the clock jumped"),
    ],
)
def test_a_clock_that_jumps_is_said(under: float, reported: dict[str, float], message: str) -> None:
    with pytest.raises(BenchError, match=message):
        profile_of(100e-6, under, **reported)


@pytest.mark.parametrize(
    ("operator", "inputs", "outputs", "kind"),
    [
        ("LSTM", [[1, 1, 8]], [[1, 1, 1, 8]], LAYERS),
        ("DynamicQuantizeLSTM", [], [], LAYERS),
        ("QuantizeLinear", [[1, 8]], [[1, 8]], QUANTIZATION),
        ("aten::addmm", [[11], [1, 8], [8, 11]], (), PROJECTION),
        ("aten::mkldnn_rnn_layer", [[1, 1, 8]], (), LAYERS),
        ("MatMulInteger", [[1, 8], []], [[1, 11]], PROJECTION),
        ("MatMulInteger", [[11, 8], []], [[11, 32]], LAYERS),
        ("Gather", [[11, 8], [1, 1]], [[1, 1, 8]], EMBEDDING),
        ("Gather", [[3], [2]], [[2]], MOVEMENT),
        ("aten::embedding", [[11, 8], [1, 1]], (), EMBEDDING),
        ("aten::_to_copy", [], (), QUANTIZATION),
        ("Tanh", [], (), ACTIVATIONS),
        ("Convert", [], (), QUANTIZATION),
        ("Convolution", [], (), LAYERS),
        ("FullyConnected", [], [[0, 0, 11]], PROJECTION),
        ("NewOperator", [], (), OTHER),
    ],
)
def test_kinds_of_operators(operator: str, inputs: Any, outputs: Any, kind: str) -> None:
    assert kind_of(operator, inputs, outputs, 11) == kind
    other = {PROJECTION: LAYERS}.get(kind, MOVEMENT if operator == "Gather" else kind)
    assert kind_of(operator, inputs, outputs, 0) == other


def test_floors_of_the_layers_and_of_the_projection_are_those_of_their_weights(run: Run) -> None:
    whole = Roofline(sum(weight.nbytes for weight in step_weights(run.artifact("fp32"))), 1e9, 0, 1e9, 0, 1e9)
    floors = floors_of(run.artifact("fp32"), whole)
    assert sum(part.weight_bytes for part in floors.values()) == whole.weight_bytes
    assert min(part.operations for part in floors.values()) > 0
    prefill = Scenario.parse("prefill:1x512")
    assert floor_seconds(floors, PROJECTION, prefill) == floor_seconds(floors, PROJECTION, ONE)
    assert floor_seconds(floors, LAYERS, prefill) == pytest.approx(512 * floors[LAYERS].operations / 1e9)
    assert floor_seconds(floors, MOVEMENT, ONE) is None


def test_scenarios_without_calls_are_refused_and_others_are_left_out() -> None:
    with pytest.raises(OptionError, match="needs a scenario of calls: single-stream, .*; found load, server:5"):
        BenchOptions(scenarios=[Scenario("load"), Scenario("server", rate=5)], profile=True)
    usual = chosen_scenarios(None, None, None, None, profile=True)
    assert [str(each) for each in usual] == ["single-stream", "multi-stream:64", "offline:1x128", "prefill:1x512"]
    assert {each.kind for each in usual} == set(CALL_KINDS)


def test_one_runtime_without_a_profile_and_one_that_crashes_leave_the_others(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real processes, but for the crash."""
    real = runs.run_profile_job

    def crashes(candidate: Candidate, *rest: Any) -> Any:
        if candidate.backend == "reference":
            raise CrashError("the process was killed by SIGKILL")
        return real(candidate, *rest)

    monkeypatch.setattr(runs, "run_profile_job", crashes)
    source = Source(run.artifact("fp32"), run.path)
    candidates = {name: Candidate(name, source) for name in ("onnxruntime", "onnxruntime-web", "reference")}
    profiles = run_profiles(candidates, [ONE, Scenario("load")], {}, 0.02, lambda _: None)
    assert [(each.runtime, each.scenario) for each in profiles.profiles] == [("onnxruntime", ONE)]
    assert list(profiles.missing) == ["onnxruntime-web"]
    results = make_results({"onnx fp32": [[1e-3]]}, profiles=profiles)
    assert not results.is_sound
    text, page = format_table(results), render_report(results)
    assert "! profile of reference: CRASHED: the process was killed by SIGKILL" in text
    assert "no profile of onnxruntime-web: lmtool reads no profile" in text
    assert "CRASHED while it was profiled: reference" in page


@pytest.fixture
def results() -> Results:
    floor = Roofline(1000, 1e8, 0, 1e9, 0, 1e9)
    first = profile_of(100e-6, 140e-6, LSTM=64e-6, Squeeze=4e-6)
    second = replace(profile_of(200e-6, 450e-6, LSTM=164e-6, Tanh=40e-6), runtime="torch")
    profiles = Profiles([first, second], {"onnx fp32": {LAYERS: floor}})
    return make_results({"torch": [[2e-4]], "onnx fp32": [[1e-4]]}, profiles=profiles)


def test_the_table_shows_shares_and_floors(results: Results) -> None:
    text = format_table(results)
    lines = [line.split() for line in text.splitlines()]
    assert ["recurrent", "layers,", "products", "60.0", "60%", *results_cells(results, "torch", LAYERS)] in lines
    assert ["floor", "10.0", "6.0x"] in lines
    assert ["the", "call", "100", "100%", "200", "100%"] in lines
    assert ["under", "the", "profiler", "140", "450"] in lines
    assert "! calls under the profiler take more than twice as long" in text
    assert "are rough: torch (single-stream) 2.2x" in text
    assert any(line[:4] == ["onnx", "fp32", "LSTM", "recurrent"] for line in lines)


def results_cells(results: Results, runtime: str, kind: str) -> list[str]:
    assert results.profiles is not None
    (profile,) = [each for each in results.profiles.profiles if each.runtime == runtime]
    seconds = profile.kinds[kind]
    micro = f"{1e6 * seconds:.1f}" if seconds < 1e-4 else f"{1e6 * seconds:.0f}"
    return [micro, f"{seconds / profile.seconds:.0%}"]


def test_the_report_draws_a_stacked_bar_for_each_runtime(results: Results) -> None:
    text = render_report(results)
    page = Page(text)
    assert page.outside == []
    assert "Where the time goes" in page.text
    assert text.count("<title>outside operators</title>") == 2
    assert "recurrent layers, products" in page.text
    value = json.loads(json.dumps(results.to_json()))["profiles"]
    assert [each["runtime"] for each in value["profiles"]] == ["onnx fp32", "torch"]
    assert value["profiles"][0]["floors"] == {LAYERS: pytest.approx(1e-5)}
