"""Commands that measure: bench and demo."""

from pathlib import Path
from typing import Annotated

from typer import BadParameter, Exit, Option

from .completion import completes
from .options import Json, Model, Threads, parse_pairs
from .output import print_result, print_status, require_module, text_width
from .paths import path_option


def bench(
    model: Model = None,
    provider: Annotated[
        list[str] | None,
        Option(
            help="Execution provider; may be repeated: cpu (default), cuda, tensorrt, ...",
            autocompletion=completes("provider"),
        ),
    ] = None,
    against: Annotated[
        list[str] | None,
        Option(
            help="Another runtime; may be repeated: torch (default for a language model), torch-compile, "
            "executorch, openvino, openvino-default, reference, tract, opencv, iree, onnxruntime-node, "
            "onnxruntime-web, onnxruntime-webgpu, onnxruntime-webgpu-software, or all."
        ),
    ] = None,
    scenario: Annotated[
        list[str] | None,
        Option(
            help="Scenario to time; may be repeated: single-stream, multi-stream, offline, prefill, generation, "
            "suggest, pool, load, first-step (default: all of these), server; or with sizes, as multi-stream:64 or "
            "pool:64x32."
        ),
    ] = None,
    batch: Annotated[
        list[int] | None, Option(help="Streams of a multi-stream call; may be repeated (default: 8, 64, 256).")
    ] = None,
    time: Annotated[
        list[int] | None, Option(help="Tokens or steps of an offline chunk; may be repeated (default: 128).")
    ] = None,
    rate: Annotated[
        list[int] | None, Option(help="Requests per second of the server scenario; may be repeated.")
    ] = None,
    state: Annotated[
        list[str] | None,
        Option(metavar="IN=OUT", help="State of a file from elsewhere, and the output that holds it; may be repeated."),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        Option(
            "--input",
            metavar="NAME=SHAPE",
            help="Input of a file from elsewhere: sizes of a call, batch and time, as x=batch,time,80, or a .npy file; "
            "may be repeated.",
        ),
    ] = None,
    threads: Threads = 1,
    rounds: Annotated[int, Option(help="Rounds in which each runtime is measured once.")] = 5,
    max_rounds: Annotated[
        int | None,
        Option(
            help="Go on, up to this number of rounds, while a comparison is too close to call (default: as --rounds; "
            "where --fail-if-slower goes with --before or --compare 8 times as many)."
        ),
    ] = None,
    latency_bound: Annotated[
        float, Option(metavar="MS", help="99th percentile of latency that a valid server scenario stays under.")
    ] = 10.0,
    mlperf: Annotated[
        bool, Option("--mlperf", help="Run MLPerf's LoadGen by its rules: four scenarios, 10 minutes each, audited.")
    ] = False,
    max_rate: Annotated[
        bool, Option("--max-rate", help="Search the highest valid rate of a server; --mlperf includes it.")
    ] = False,
    loadgen_seconds: Annotated[
        float | None, Option(help="Seconds of LoadGen's runs (default: 10; with --mlperf 600, as its rules ask).")
    ] = None,
    sweep: Annotated[
        bool, Option("--sweep", help="Measure over batch, chunk, threads, hidden size and vocabulary too.")
    ] = False,
    profile: Annotated[
        bool,
        Option(
            "--profile",
            help="Show where the time of a call goes, operator by operator (default scenarios: single-stream, "
            "multi-stream:64, offline, prefill).",
        ),
    ] = False,
    save: Annotated[
        Path | None, path_option("Folder for bench.json, .html, .txt and .png (default: beside the model).")
    ] = None,
    compare: Annotated[Path | None, path_option("Compare with these earlier results.", metavar="OLD.json")] = None,
    before: Annotated[
        Path | None,
        path_option("Compare with the versions in this virtual environment, measured in turns.", metavar="PYTHON"),
    ] = None,
    history: Annotated[
        Path | None,
        path_option("Add the results to the history in this folder, and name what became slower or faster, and when."),
    ] = None,
    fail_if_slower: Annotated[
        str | None, Option(metavar="PERCENT", help="Exit 3 if a call became slower by more than this, as 10%.")
    ] = None,
    compare_anyway: Annotated[
        bool, Option("--compare-anyway", help="Compare even with results of another machine or artifact.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Verify and measure an artifact or a recurrent ONNX file; exit 3 if a runtime differs, crashes or is slower."""
    require_module("pytest_benchmark")
    from ..bench.benchmark import BenchOptions
    from ..bench.benchmark_run import run_benchmark
    from ..bench.candidates import OTHERS
    from ..bench.history.history import History
    from ..bench.mlperf.settings import OFFICIAL_SECONDS
    from ..bench.regression.gate import RegressionGate, parse_share
    from ..bench.rounds import Schedule
    from ..bench.scenario import chosen_scenarios

    if compare is not None and before is not None:
        raise BadParameter("one of them, not both", param_hint="--compare and --before")
    if compare is None and compare_anyway:
        raise BadParameter("goes with --compare OLD.json", param_hint="--compare-anyway")
    if compare is None and before is None and history is None and fail_if_slower is not None:
        raise BadParameter(
            "goes with --before PYTHON, --compare OLD.json or --history DIR", param_hint="--fail-if-slower"
        )
    if loadgen_seconds is None:
        loadgen_seconds = OFFICIAL_SECONDS if mlperf else 10.0
    alone = (mlperf or max_rate) and not (scenario or batch or time or rate or profile)
    allowed = None if fail_if_slower is None else parse_share(fail_if_slower)
    options = BenchOptions(
        model=model,
        providers=provider or ["cpu"],
        against=OTHERS if "all" in (against or []) else against or None,
        scenarios=[] if alone else chosen_scenarios(scenario, batch, time, rate, profile=profile),
        threads=threads,
        schedule=Schedule(
            rounds, loadgen_seconds=loadgen_seconds, latency_bound=latency_bound / 1000, max_rounds=max_rounds
        ),
        mlperf=mlperf,
        max_rate=max_rate,
        sweep=sweep,
        profile=profile,
        states=parse_pairs(state, "--state", "IN=OUT") if state else None,
        inputs=parse_pairs(inputs, "--input", "NAME=SHAPE"),
        before=before,
    )
    gate = None if before is None else RegressionGate(allowed=allowed)
    if compare is not None:
        gate = RegressionGate.from_file(compare, allowed, compare_anyway)
    kept = None if history is None else History(history, allowed)
    benchmark = run_benchmark(options, save, gate, print_status, kept)
    print_result(as_json, benchmark.format(text_width()), benchmark.to_json())
    if not benchmark.passed:
        raise Exit(3)


def demo(as_json: Json = False) -> None:
    """Train, export, verify, measure and write text in the current folder, in a few minutes."""
    require_module("pytest_benchmark")
    from ..bench import run_demo
    from .demo_progress import DemoProgress

    with DemoProgress() as progress:
        result = run_demo(progress, progress)
    print_result(as_json, result.summary(), result.to_json())
    if not result.results.is_sound:
        raise Exit(3)
