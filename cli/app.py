"""The command table. A command parses, calls one function and prints; it imports rooms inside, so that help is fast."""

from typing import Annotated

import typer

from .bench import bench, demo
from .export import export, info, verify
from .output import print_result, with_exit_codes
from .serve import ServeCommand, serve
from .text import generate, score, suggest
from .train import embeddings, evaluate, list_data, prepare_data, train

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)
data_app = typer.Typer(no_args_is_help=True, help="Corpora.")
for function in (train, evaluate, export, verify, info, embeddings, generate, suggest, score, serve, bench, demo):
    app.command(cls=ServeCommand if function is serve else None)(with_exit_codes(function))
app.add_typer(data_app, name="data")
data_app.command("list")(with_exit_codes(list_data))
data_app.command("prepare")(with_exit_codes(prepare_data))


def _print_version(requested: bool) -> None:
    if requested:
        from .. import __version__

        print_result(False, f"lmtool {__version__}", None)
        raise typer.Exit


@app.callback()
def lmtool(
    version: Annotated[
        bool, typer.Option("--version", "-V", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Train a small language model, export it to one ONNX file, stream it anywhere, and prove it."""
