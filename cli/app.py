"""The command table. A command parses, calls one function and prints; rooms are imported inside: help is instant."""

from typing import Annotated

import typer

from .bench import bench, demo
from .export import export, info, verify
from .output import command, write
from .serve import serve
from .text import generate, score, suggest
from .train import embeddings, evaluate, list_data, prepare_data, train

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train a small language model, export it to one ONNX file, stream it anywhere, and prove it.",
)
data_app = typer.Typer(no_args_is_help=True, help="Corpora.")
for function in (train, evaluate, export, verify, info, embeddings, generate, suggest, score, serve, bench, demo):
    app.command()(command(function))
app.add_typer(data_app, name="data")
data_app.command("list")(command(list_data))
data_app.command("prepare")(command(prepare_data))


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Train a small language model, export it to one ONNX file, stream it anywhere, and prove it."""
    if show:
        from importlib.metadata import version as installed

        write(f"lmtool {installed('lmtool')}\n")
        raise typer.Exit
