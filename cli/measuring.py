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
    as_json: Json = False,
) -> None:
    """Verify and measure an artifact and other runtimes: single-stream, batched, chunked; exit 3 where one differs."""
    require("pytest_benchmark")
    from ..bench import OTHERS, BenchOptions, format_table, run_bench, save_results
    from ..runtime.files import make_folder

    if save is not None:
        make_folder(save)
    others = OTHERS if "all" in (against or []) else tuple(against or OTHERS[:1])
    options = BenchOptions(model, provider, others, tuple(batch or [64]), tuple(time or [128]), threads, rounds)
    results = run_bench(options, say)
    files = save_results(results, save or results.model.parent)
    text = "\n".join([format_table(results), *(f"{kind}: {path}" for kind, path in files.items())])
    give(as_json, text, results.to_json())
    if results.failed:
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
