"""Runs by MLPerf's rules: LoadGen's four scenarios over a tiny artifact, their audits, and runtimes that cheat."""

import importlib.util
import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from lmtool.bench import BenchError, BenchOptions, benchmark, benchmark_run
from lmtool.bench.backends.source import Source
from lmtool.bench.candidates import Candidate
from lmtool.bench.load.loadgen import missing
from lmtool.bench.load.loadgen_logs import SUMMARY, read_outputs, read_verdict
from lmtool.bench.mlperf import batched_run, check_outputs, measure, runs, server_run
from lmtool.bench.mlperf.audits import audit_outputs, audit_repetition
from lmtool.bench.mlperf.max_rate import Probe, RateSearch
from lmtool.bench.mlperf.report import PERCENTS, report_of, run_test
from lmtool.bench.mlperf.results import Audit, MlperfResults, MlperfRun
from lmtool.bench.mlperf.samples import SampleLibrary, write_text
from lmtool.bench.mlperf.settings import LOADGEN_NAMES, OFFICIAL_SECONDS, LoadgenTest
from lmtool.bench.report.html import render_report
from lmtool.bench.report.mlperf import format_mlperf
from lmtool.bench.rounds import Schedule
from lmtool.bench.workers.job import Job, MlperfTask
from lmtool.bench.workers.launch import CrashError
from lmtool.export.reference import PredictorReference
from lmtool.model import Run
from lmtool.runtime import OptionError, Predictor, StorageError
from support.models.results import make_results

needs_loadgen = pytest.mark.skipif(missing() is not None, reason=str(missing()))

SECONDS = 0.1
RUN = MlperfRun("onnx fp32", "single-stream", True, (), 1e-3, 700, 1, 5e-4, dict.fromkeys(PERCENTS, 2e-3))


@pytest.fixture(scope="module")
def library(predictor: Predictor) -> SampleLibrary:
    return SampleLibrary.read(predictor, np.arange(5000) % len(predictor.vocabulary))


def task(scenario: str, folder: Path) -> MlperfTask:
    return MlperfTask(scenario, folder / "text", folder)


def audited(predictor: Predictor, library: SampleLibrary, folder: Path) -> Audit:
    """TEST01 of the logs in a folder."""
    outputs = read_outputs(task("", folder).logs)
    return audit_outputs(PredictorReference(predictor, "itself"), library, "fp32", *outputs)


def tamper(predictor: Predictor, monkeypatch: pytest.MonkeyPatch, change: Callable[..., Any]) -> None:
    """Let `change` make each call; it gets the honest function first."""
    honest = predictor.network.run
    monkeypatch.setattr(predictor.network, "run", lambda *call: change(honest, *call))


def slowly(honest: Callable[..., Any], *call: Any) -> Any:
    """An honest runtime that takes a millisecond."""
    time.sleep(1e-3)
    return honest(*call)


def test_each_sample_is_a_state_and_a_token_with_one_right_output(predictor: Predictor, library: SampleLibrary) -> None:
    assert len(library) == 1024
    assert library.token_ids.shape == (1024, 1)
    state = predictor.initial_state(1)
    for token in range(8):  # the first stream begins with the text
        _, state = predictor.step([[token]], state)
    assert library.token_ids[0, 0] == 8
    for ours, theirs in zip(library.states, state.tensors, strict=True):
        np.testing.assert_allclose(ours[:1], theirs, atol=1e-6)
    others = library.with_other_tokens(np.random.default_rng(0), len(predictor.vocabulary))
    assert not np.array_equal(others.states[0], library.states[0])
    np.testing.assert_array_equal(np.sort(others.states[0][:, 0]), np.sort(library.states[0][:, 0]))


@needs_loadgen
def test_the_rules_are_those_of_loadgen() -> None:
    settings = {name: LoadgenTest(name, OFFICIAL_SECONDS, 50.0, 1024, 0.02).settings() for name in LOADGEN_NAMES}
    assert all(each.min_duration_ms == 600_000 and each.qsl_rng_seed > 2**32 for each in settings.values())
    assert settings["single-stream"].single_stream_target_latency_percentile == 0.9
    multi, server = settings["multi-stream"], settings["server"]
    assert (multi.multi_stream_target_latency_percentile, multi.multi_stream_samples_per_query) == (0.99, 8)
    assert multi.min_query_count == 662
    assert (server.server_target_latency_percentile, server.server_target_latency_ns) == (0.99, 20_000_000)
    assert settings["offline"].min_query_count == 1024


def test_queries_that_do_not_fit_into_memory_are_refused(library: SampleLibrary, tmp_path: Path) -> None:
    test = LoadgenTest("offline", OFFICIAL_SECONDS, 1e12, 1024)
    with pytest.raises(BenchError, match="run shorter: --loadgen-seconds"):
        run_test(test, library, lambda samples, answer: pytest.fail("ran"), task("offline", tmp_path))


@needs_loadgen
@pytest.mark.parametrize("scenario", ["single-stream", "multi-stream", "offline"])
def test_an_honest_runtime_is_valid_and_passes_its_audits(
    predictor: Predictor, library: SampleLibrary, scenario: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = measure.measure(predictor, library, task(scenario, tmp_path), SECONDS, 5.0)
    assert run.valid, run.invalid_reasons
    assert run.invalid_reasons == []
    assert run.metric is not None
    assert run.queries >= {"single-stream": 100, "multi-stream": 662, "offline": 1024}[scenario]
    assert run.batch == {"single-stream": 1, "multi-stream": 8}.get(scenario, run.batch)
    value = json.loads(json.dumps(asdict(run)))
    assert json.loads(json.dumps(asdict(MlperfRun.from_json(value)))) == value
    audit = audited(predictor, library, tmp_path)
    assert audit.passed, audit.found
    assert len(read_outputs(task(scenario, tmp_path).logs)[0]) > 0
    assert capfd.readouterr() == ("", "")
    log = tmp_path / "performance" / "run_1" / SUMMARY
    assert f"Scenario : {LOADGEN_NAMES[scenario]}" in log.read_text()
    if scenario == "single-stream":
        estimate = read_verdict(log.parent).figures["early_stopping_latency_ss"] / 1e9
        assert run.metric == pytest.approx(estimate)
        assert run.percentiles["50.00"] <= run.metric


@pytest.fixture
def no_repetition(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave TEST04 out, which takes most of a short run's time."""
    monkeypatch.setattr(batched_run, "audit_repetition", lambda *_: Audit("TEST04", True, ""))


@needs_loadgen
def test_too_short_a_run_is_not_valid_and_says_why(library: SampleLibrary, tmp_path: Path) -> None:
    work = task("single-stream", tmp_path)
    work.logs.mkdir(parents=True)
    slow = LoadgenTest("single-stream", 5.0, 1.0, len(library))  # LoadGen prepares 100 queries, which take no time
    verdict = run_test(slow, library, lambda samples, answer: answer(0, None), work)
    run = report_of(work, verdict, 1)
    assert not run.valid
    assert run.invalid_reasons[0] == "Min duration satisfied: NO"
    assert run.queries == 100


def once(rate: float) -> Callable[..., RateSearch]:
    """Instead of a search, one rate."""

    def find(probing: Callable[[float, float], Any], start: float, seconds: float) -> RateSearch:
        search = RateSearch()
        search.add(probing(rate, seconds))
        return search

    return find


@needs_loadgen
def test_a_server_runs_the_rate_that_was_found_once_more(
    predictor: Predictor, library: SampleLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_run, "find_max_rate", once(1500.0))
    run = measure.measure(predictor, library, task("server", tmp_path), 0.5, 5.0)
    assert run.valid, run.invalid_reasons
    assert (run.rate, run.highest_valid_rate, run.lowest_invalid_rate) == (1500, 1500, None)
    assert [probe["valid"] for probe in run.probes] == [True, True]
    assert run.queries > 600
    audit = audited(predictor, library, tmp_path)
    assert audit.passed, audit.found


@needs_loadgen
def test_a_rate_that_cannot_be_reached_is_said(
    own_predictor: Predictor, library: SampleLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tamper(own_predictor, monkeypatch, slowly)
    run = measure.measure(own_predictor, library, task("server", tmp_path), 0.3, 1e-4)
    assert not run.valid
    assert run.invalid_reasons[0] == "no rate was confirmed: 2,000 requests a second are not valid either"
    assert (run.highest_valid_rate, run.lowest_invalid_rate) == (None, 2000)


def test_a_rate_that_fails_in_full_length_is_followed_by_lower_ones() -> None:
    tried: list[float] = []

    def probing(rate: float, seconds: float) -> Probe:
        tried.append(round(rate))
        return Probe(rate, seconds, [] if rate < 750 or seconds < 60 else ["Performance constraints satisfied: NO"])

    search = RateSearch()
    search.add(probing(1000, 10))
    server_run._confirm(search, probing, 60)
    assert tried == [1000, 1000, 900, 700]
    assert (search.highest_valid, search.lowest_invalid) == (700, 900)


def test_a_generator_that_is_late_is_said() -> None:
    assert server_run._lateness(0.24, 1.0) == []
    (warning,) = server_run._lateness(0.26, 1.0)
    assert "260.00 ms late" in warning
    assert "the generator is the limit" in warning


@needs_loadgen
@pytest.mark.usefixtures("no_repetition")
def test_a_runtime_that_does_not_compute_fails_test01(
    predictor: Predictor,
    own_predictor: Predictor,
    library: SampleLibrary,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stored: dict[int, Any] = {}

    def stored_answer(honest: Callable[..., Any], *call: Any) -> Any:
        return stored.setdefault(len(call[0]), None) or stored.setdefault(-len(call[0]), honest(*call))

    tamper(own_predictor, monkeypatch, stored_answer)
    run = measure.measure(own_predictor, library, task("single-stream", tmp_path), SECONDS, 5.0)
    assert run.valid  # by LoadGen, which looks at times alone
    audit = audited(predictor, library, tmp_path)
    assert not audit.passed
    assert "outputs differ by" in audit.found


def test_int8_may_differ_as_in_its_verification_and_a_stored_answer_still_fails(
    int8_predictor: Predictor, predictor: Predictor, library: SampleLibrary
) -> None:
    numbers, reference = np.arange(64), PredictorReference(predictor, "fp32")
    state = int8_predictor.initial_state(64)
    rows = tuple(tensor[numbers] for tensor in library.states)
    outputs = int8_predictor.step(library.token_ids[numbers], replace(state, tensors=rows))[0][:, -1]
    assert audit_outputs(reference, library, "int8", numbers, outputs).passed
    assert not audit_outputs(reference, library, "fp32", numbers, outputs).passed
    stored = np.repeat(10 * outputs[:1], 64, axis=0)
    assert not audit_outputs(reference, library, "int8", numbers, stored).passed


def test_outputs_that_are_missing_or_have_another_size_fail_test01(
    predictor: Predictor, library: SampleLibrary
) -> None:
    reference = PredictorReference(predictor, "itself")
    none = audit_outputs(reference, library, "fp32", np.zeros(0, np.int64), np.zeros(0, np.float32))
    assert not none.passed
    short = audit_outputs(reference, library, "fp32", np.arange(3), np.zeros((3, 2), np.float32))
    assert "2 numbers each" in short.found
    assert not short.passed


@pytest.mark.parametrize("size", [1, 8])
def test_a_runtime_that_remembers_samples_fails_test04_and_an_honest_one_passes(
    own_predictor: Predictor, library: SampleLibrary, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tamper(own_predictor, monkeypatch, slowly)
    honest = audit_repetition(own_predictor, library, size)
    assert honest.passed, honest.found
    seen: dict[Any, Any] = {}

    def remembered(compute: Callable[..., Any], tokens: Any, state: Any, kept: int) -> Any:
        key = (tokens.tobytes(), *(tensor.tobytes() for tensor in state.tensors))
        return seen.get(key) or seen.setdefault(key, compute(tokens, state, kept))

    tamper(own_predictor, monkeypatch, remembered)
    for _ in range(2):  # what it remembers of one audit does not help it in the next
        cheat = audit_repetition(own_predictor, library, size)
        assert not cheat.passed
        assert "the same sample is +" in cheat.found


@needs_loadgen
@pytest.mark.usefixtures("no_repetition")
def test_the_workers_measure_and_audit_a_runtime(artifact_path: Path, run: Run, tmp_path: Path) -> None:
    write_text(tmp_path / "text", np.arange(500) % 7)
    work = Job("onnxruntime", Source(artifact_path, run.path), tmp_path / "out", seconds=SECONDS)
    job = Job.from_json(replace(work, mlperf=task("single-stream", tmp_path)).to_json())
    report = dict(measure._measure(job))
    assert report.pop("precision") == "fp32"
    assert MlperfRun.from_json(report).valid
    assert job.mlperf is not None
    audit = check_outputs._check(replace(job, mlperf=replace(job.mlperf, precision="fp32")))
    assert audit["passed"], audit["found"]


@pytest.fixture
def fake_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs that write logs at once; multi-stream crashes."""

    def run_job(candidate: Candidate, task: MlperfTask, seconds: float, bound: float) -> dict[str, Any]:
        if task.scenario == "multi-stream":
            raise CrashError("the process was killed by SIGKILL")
        task.logs.mkdir(parents=True)
        for name in ("summary.txt", "detail.txt", "accuracy.json"):
            (task.logs / f"mlperf_log_{name}").write_text(f"{task.scenario} {name}")
        return {**asdict(replace(RUN, scenario=task.scenario)), "precision": "fp32"}

    def audit_job(candidate: Candidate, task: MlperfTask) -> dict[str, Any]:
        return asdict(Audit("TEST01", task.scenario != "server", f"of {task.precision}"))

    monkeypatch.setattr(runs, "run_mlperf_job", run_job)
    monkeypatch.setattr(runs, "run_output_audit_job", audit_job)


def run_fakes(run: Run, folder: Path, kept: Path, told: list[str]) -> MlperfResults:
    folder.mkdir()
    candidates = {"onnx fp32": Candidate("onnxruntime", Source(run.artifact("fp32"), run.path))}
    return runs.run_mlperf(candidates, list(LOADGEN_NAMES), 1.0, 0.01, folder, kept, told.append)


@needs_loadgen
@pytest.mark.usefixtures("fake_jobs")
def test_each_run_is_told_and_its_logs_are_kept(run: Run, tmp_path: Path) -> None:
    told: list[str] = []
    results = run_fakes(run, tmp_path / "work", tmp_path / "kept", told)
    assert [each.scenario for each in results.runs] == ["single-stream", "offline", "server"]
    assert results.failed == {"onnx fp32, multi-stream": "the process was killed by SIGKILL"}
    assert results.text.startswith("the test split of ")
    assert told[1] == "onnx fp32, single-stream: VALID, 1.00 ms 90th percentile; TEST01 passed"
    logs = tmp_path / "kept" / "onnx-fp32" / "SingleStream" / "performance" / "run_1"
    assert sorted(path.name for path in logs.iterdir()) == [
        f"mlperf_log_{name}" for name in ("accuracy.json", "detail.txt", "summary.txt")
    ]
    assert not results.is_sound  # a crash, and an audit that failed
    assert not results.keeps_rules


@needs_loadgen
@pytest.mark.usefixtures("fake_jobs")
def test_logs_that_cannot_be_kept_lose_nothing_that_was_measured(run: Run, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("a file, where the folder should be")
    results = run_fakes(run, tmp_path / "work", tmp_path / "kept", [])
    assert len(results.runs) == len(results.unsaved) == len(results.summaries) == 3
    assert "LoadGen's logs are not kept" in format_mlperf(results)


def made_results() -> MlperfResults:
    passed, failed = Audit("TEST01", True, "64 outputs differ by 1e-07"), Audit("TEST04", False, "it is faster")
    late = replace(RUN, scenario="server", valid=False, invalid_reasons=["Too late."], rate=500.0, metric=480.0)
    return MlperfResults(
        seconds=600.0,
        latency_bound=0.01,
        loadgen="6.0",
        text="a text",
        runs=[replace(RUN, audits=[passed, failed]), replace(late, lowest_invalid_rate=500.0)],
        summaries={"onnx fp32, server": "MLPerf Results Summary"},
    )


def test_table_page_and_json_say_what_was_found() -> None:
    results = make_results({}, mlperf=made_results())
    text = format_mlperf(made_results())
    assert text.startswith("by MLPerf's rules: 600 s or longer a run")
    assert "! onnx fp32, server: not valid: Too late\n" in f"{text}\n"
    assert "! onnx fp32, single-stream: TEST04 FAILED: it is faster" in text
    assert "valid none, not 500" in text
    page = render_report(results)
    assert "Nothing was timed" not in page
    assert page.count("INVALID") == page.count(">FAILED<") == 1
    value = json.loads(json.dumps(results.to_json()))["mlperf"]
    assert value["keeps_rules"] is True
    assert value["runs"][0]["audits"][1] == {"name": "TEST04", "passed": False, "found": "it is faster"}
    assert not results.is_sound
    short = replace(made_results(), seconds=10.0)
    assert format_mlperf(short).startswith("NOT by MLPerf's rules: 10 s a run, they ask for 600 s")


def test_results_that_cannot_be_saved_are_printed_with_loadgens_summaries(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise StorageError("no space left on device")

    monkeypatch.setattr(benchmark_run, "run_bench", lambda *_: make_results({}, mlperf=made_results()))
    monkeypatch.setattr(benchmark_run, "save_results", full)
    told: list[str] = []
    with pytest.raises(StorageError, match="no space left"):
        benchmark_run.run_benchmark(BenchOptions(run.artifact("fp32"), mlperf=True), tmp_path, None, told.append)
    assert "by MLPerf's rules" in told[0]
    assert told[1].endswith("MLPerf Results Summary")


def test_another_network_and_a_missing_loadgen_are_refused_before_anything_is_measured(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    other: Any = SimpleNamespace(unit="step", model=Path("vad.onnx"))
    with pytest.raises(OptionError, match=r"vad\.onnx is none"):
        benchmark._require_mlperf(other)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    options = BenchOptions(run.artifact("fp32"), scenarios=[], max_rate=True, schedule=Schedule(loadgen_seconds=1.0))
    with pytest.raises(BenchError, match=r"pip install 'lmtool\[loadgen\]'"):
        benchmark.run_bench(options, lambda line: pytest.fail(line))
