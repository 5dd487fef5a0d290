"""The command-line options that several commands share."""

import reprlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from .output import say

if TYPE_CHECKING:
    from ..runtime import Predictor
    from ..runtime.cache import CacheOptions


def latest_model() -> Path:
    """The youngest export, named on stderr so that nobody is left to guess."""
    from ..runtime import latest_artifact

    path = latest_artifact()
    say(f"model: {path}")
    return path


def load_predictor(model: Path | None, threads: int) -> "Predictor":
    """The predictor of the artifact that was named, else of the youngest export."""
    from ..runtime import Predictor

    return Predictor.load(model or latest_model(), threads=threads)


def as_text(value: str | list[str] | None) -> str | list[str] | None:
    """What was given, if it is text: an argument may hold any bytes.

    Raises:
        typer.BadParameter: It is not UTF-8.
    """
    for text in value if isinstance(value, list) else [value or ""]:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise typer.BadParameter(f"{reprlib.repr(text)} is not UTF-8 text") from error
    return value


def path(value: str) -> Path:
    """A path, of a file or folder that need not be there.

    Raises:
        typer.BadParameter: It is empty, which would be the current folder.
    """
    if not value:
        raise typer.BadParameter("it is empty, expected a path; the current folder is .")
    return Path(value)


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
RunFolder = Annotated[
    Path | None, typer.Option("--run", help="Run folder (default: the latest in runs/).", parser=path)
]
Model = Annotated[
    Path | None, typer.Option("--model", help="Artifact (default: the latest export in runs/).", parser=path)
]
Provider = Annotated[str, typer.Option("--provider", help="Execution provider: cpu, cuda, ...")]
Threads = Annotated[int, typer.Option("--threads", help="Threads of one call.")]
Data = Annotated[str | None, typer.Option("--data", help="Corpus: pydocs, or a folder of text files.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace a field of the preset; may be repeated.")
]
Texts = Annotated[
    list[str] | None, typer.Argument(metavar="[TEXT]...", help="Text (default: standard input).", callback=as_text)
]
Unknown = Annotated[bool, typer.Option("--allow-unknown", help="Let the unknown token be chosen.")]


def parse_settings(pairs: list[str] | None) -> dict[str, str]:
    """`KEY=VALUE` pairs as a dictionary.

    Raises:
        typer.BadParameter: One is of another form.
    """
    settings = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals:
            raise typer.BadParameter(f"{reprlib.repr(pair)} is not of the form KEY=VALUE", param_hint="--set")
        settings[key.strip()] = value.strip()
    return settings


def cache_options(size: int | None, theta: float | None, weight: float | None) -> Optional["CacheOptions"]:
    """The cache that the options ask for; None without `--cache`.

    Raises:
        typer.BadParameter: There is a theta or a weight, but no size.
        OptionError: One is outside its range.
    """
    given = {name: value for name, value in (("theta", theta), ("weight", weight)) if value is not None}
    if size is None:
        if given:
            raise typer.BadParameter("goes with --cache SIZE", param_hint=" and ".join(f"--cache-{x}" for x in given))
        return None
    from ..runtime.cache import CacheOptions

    return CacheOptions(size, **given)
