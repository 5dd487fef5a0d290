"""The command table. A command parses, calls one function and prints; it imports rooms inside, so that help is fast."""

from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import typer

from .bench import bench, demo
from .export import doctor, export, info, verify
from .options import read_numbers
from .output import print_result, text_width, with_exit_codes
from .paths import PathCommand
from .recipes import presets, settings
from .rescoring.command import rescore
from .serve import ServeCommand, serve
from .text import generate, score, suggest
from .train import embeddings, evaluate, import_, list_data, prepare_data, train

_WIDEST_HELP = 100


def _new_app(**options: Any) -> typer.Typer:
    """Commands with plain help: boxes would cut the names of options on a narrow terminal."""
    return typer.Typer(no_args_is_help=True, rich_markup_mode=None, **options)


def _add(app: typer.Typer, function: Callable[..., None], name: str | None = None) -> None:
    help_text = (function.__doc__ or "").strip().partition("\n")[0]  # whole, where typer would cut it
    command = ServeCommand if function is serve else PathCommand
    read_numbers(get_type_hints(function, include_extras=True).values())
    app.command(name or function.__name__.rstrip("_"), cls=command, short_help=help_text)(with_exit_codes(function))


app = _new_app(
    pretty_exceptions_enable=False,
    context_settings={
        "help_option_names": ["--help", "-h"],
        "terminal_width": min(text_width() or _WIDEST_HELP, _WIDEST_HELP),
    },
)
for function in (
    train,
    import_,
    evaluate,
    export,
    verify,
    doctor,
    info,
    embeddings,
    generate,
    suggest,
    score,
    rescore,
    serve,
    bench,
    demo,
    presets,
    settings,
):
    _add(app, function)
data_app = _new_app(help="List and prepare corpora.", short_help="List and prepare corpora.")
app.add_typer(data_app, name="data")
_add(data_app, list_data, "list")
_add(data_app, prepare_data, "prepare")


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
