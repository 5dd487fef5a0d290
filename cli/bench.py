"""Commands that measure: bench and demo."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Json, Model, Threads, path
from .output import give, require, say


def bench(
    model: Model = None,
    provider: Annotated[
        list[str] | None, typer.Option(help="Execution provider, may be repeated: cpu (default), cuda, tensorrt, ...")
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            help="Another runtime, may be repeated: torch (default), torch-compile, openvino, openvino-default, "
            "reference, onnxruntime-node, onnxruntime-web, or all."
        ),
    ] = None,
    scenario: Annotated[
        list[str] | None,
        typer.Option(
            help="What to time, may be repeated: single-stream, multi-stream, offline, prefill, generation, load, "
            "first-step (default: all of these), server; or with sizes, as multi-stream:64 or prefill:1x2048."
        ),
    ] = None,
    batch: Annotated[
        list[int] | None, typer.Option(help="Streams of a multi-stream call, may be repeated (default: 8, 64, 256).")
    ] = None,
    time: Annotated[
        list[int] | None, typer.Option(help="Tokens of an offline chunk, may be repeated (default: 128).")
    ] = None,
    rate: Annotated[
        list[int] | None, typer.Option(help="Requests a second for the server scenario, may be repeated.")
    ] = None,
    threads: Threads = 1,
    rounds: Annotated[int, typer.Option(help="How often the runtimes take turns.")] = 5,
    latency_bound: Annotated[
        float, typer.Option(metavar="MS", help="What a server must keep for 99 of 100 requests, or it is not valid.")
    ] = 10.0,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Cost over batch, chunk, threads, hidden size and vocabulary too.")
    ] = False,
    save: Annotated[
        Path | None,
        typer.Option(help="Folder for bench.json, bench.html and bench.png (default: beside the model).", parser=path),
    ] = None,
    compare: Annotated[
        Path | None, typer.Option(metavar="OLD.json", help="Put the results beside these earlier ones.", parser=path)
    ] = None,
    fail_if_slower: Annotated[
        str | None, typer.Option(metavar="PERCENT", help="Exit 3 where a call takes longer than before by more: 10%.")
    ] = None,
    compare_anyway: Annotated[
        bool, typer.Option("--compare-anyway", help="Compare with another machine's or artifact's results too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Verify and measure an artifact and other runtimes; exit 3 where one differs, crashes or became slower."""
    require("pytest_benchmark")
    from ..bench.benchmark import BenchOptions, RegressionGate, run_benchmark
    from ..bench.candidates import OTHERS
    from ..bench.comparison import parse_share
    from ..bench.rounds import Schedule
    from ..bench.scenario import chosen_scenarios

    if compare is None and (fail_if_slower is not None or compare_anyway):
        raise typer.BadParameter("goes with --compare OLD.json", param_hint="--fail-if-slower or --compare-anyway")
    allowed = None if fail_if_slower is None else parse_share(fail_if_slower)
    options = BenchOptions(
        model=model,
        providers=provider or ["cpu"],
        against=OTHERS if "all" in (against or []) else against or OTHERS[:1],
        scenarios=chosen_scenarios(scenario, batch, time, rate),
        threads=threads,
        schedule=Schedule(rounds, latency_bound=latency_bound / 1000),
        sweep=sweep,
    )
    gate = None if compare is None else RegressionGate(compare, allowed, compare_anyway)
    benchmark = run_benchmark(options, save, gate, say)
    give(as_json, benchmark.format(), benchmark.to_json())
    if not benchmark.passed:
        raise typer.Exit(3)


def demo(as_json: Json = False) -> None:
    """Train, export, verify, measure and write text in the current folder, in a few minutes."""
    require("pytest_benchmark")
    from ..bench import run_demo
    from .progress import TrainingProgress

    with TrainingProgress() as progress:
        found = run_demo(progress, say)
    give(as_json, found.summary(), found.to_json())
    if not found.results.is_sound:
        raise typer.Exit(3)
