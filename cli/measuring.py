"""Commands that measure: bench and demo."""

from pathlib import Path
from typing import Annotated

import typer

from .options import (
    Json,
    Model,
    Provider,
    Threads,
)
from .output import give, require, say


def bench(
    model: Model = None,
    provider: Provider = "cpu",
    against: Annotated[
        list[str] | None,
        typer.Option(
            help="Another runtime, may be repeated: torch (default), torch-compile, openvino, openvino-default, "
            "reference, or all."
        ),
    ] = None,
    batch: Annotated[
        list[int] | None, typer.Option(help="Streams side by side, may be repeated (default: 64).")
    ] = None,
    time: Annotated[list[int] | None, typer.Option(help="Tokens a call, may be repeated (default: 128).")] = None,
    threads: Threads = 1,
    rounds: Annotated[int, typer.Option(help="How often the runtimes take turns.")] = 5,
    save: Annotated[
        Path | None, typer.Option(help="Folder for bench.json and bench.png (default: beside the model).")
    ] = None,
    compare: Annotated[
        Path | None, typer.Option(metavar="OLD.json", help="Put the results beside these earlier ones.")
    ] = None,
    fail_if_slower: Annotated[
        str | None, typer.Option(metavar="PERCENT", help="Exit 3 where a call takes longer than before by more: 10%.")
    ] = None,
    compare_anyway: Annotated[
        bool, typer.Option("--compare-anyway", help="Compare with another machine's or artifact's results too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Verify and measure an artifact and other runtimes: single-stream, batched, chunked; exit 3 where one differs."""
    require("pytest_benchmark")
    from ..bench import OTHERS, BenchOptions, format_table, run_bench, save_results
    from ..bench.comparing import compare as compare_results
    from ..bench.comparing import parse_share, read_results, require_same
    from ..bench.harness import identify
    from ..runtime.files import make_folder

    if compare is None and (fail_if_slower is not None or compare_anyway):
        raise typer.BadParameter("goes with --compare OLD.json", param_hint="--fail-if-slower or --compare-anyway")
    allowed = None if fail_if_slower is None else parse_share(fail_if_slower)
    before = None if compare is None else read_results(compare)  # now: the results may be saved to the same file
    if save is not None:
        make_folder(save)
    others = OTHERS if "all" in (against or []) else tuple(against or OTHERS[:1])
    options = BenchOptions(model, provider, others, tuple(batch or [64]), tuple(time or [128]), threads, rounds)
    if before is not None and not compare_anyway:
        require_same(before, identify(options))
    results = run_bench(options, say)
    value, text, failures = results.to_json(), format_table(results), bool(results.failed)
    if before is not None:
        comparison = compare_results(before, results, allowed)
        value["comparison"], text = comparison.to_json(), f"{text}\n\n{comparison.format()}"
        failures |= bool(comparison.failures)
    folder = save or results.model.parent
    if failures and compare is not None and (folder / "bench.json").resolve() == compare.resolve():
        text = f"{text}\n{compare} stays as it was: what is compared with is not replaced by what failed"
    else:
        text = "\n".join([text, *(f"{kind}: {path}" for kind, path in save_results(results, folder).items())])
    give(as_json, text, value)
    if failures:
        raise typer.Exit(3)


def demo(as_json: Json = False) -> None:
    """Train, export, verify, measure and write text in the current folder, in a few minutes."""
    require("pytest_benchmark")
    from ..bench import run_demo
    from .progress import TrainingProgress

    with TrainingProgress() as progress:
        found = run_demo(progress, say)
    give(as_json, found.summary(), found.to_json())
    if found.results.failed:
        raise typer.Exit(3)
