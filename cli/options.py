"""Options that several commands share, and what they stand for."""

import reprlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from .output import print_status

if TYPE_CHECKING:
    from ..runtime import Predictor
    from ..runtime.cache import CacheOptions


def latest_model() -> Path:
    """The latest export in runs/; its path is printed on stderr."""
    from ..runtime import latest_artifact

    path = latest_artifact()
    print_status(f"model: {path}")
    return path


def load_predictor(model: Path | None, threads: int) -> "Predictor":
    """Load the named artifact, or the latest export."""
    from ..runtime import Predictor

    return Predictor.load(model or latest_model(), threads=threads)


def require_utf8(value: str | list[str] | None) -> str | list[str] | None:
    """Callback of text options: return the value.

    Raises:
        typer.BadParameter: The value is not UTF-8. A shell passes any bytes.
    """
    for text in value if isinstance(value, list) else [value or ""]:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise typer.BadParameter(f"{reprlib.repr(text)} is not UTF-8 text") from error
    return value


def parse_path(value: str) -> Path:
    """Parser of path options; the path need not exist.

    Raises:
        typer.BadParameter: The text is empty, which `Path` would read as the current folder.
    """
    if not value:
        raise typer.BadParameter("it is empty, expected a path; the current folder is .")
    return Path(value)


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
RunFolder = Annotated[
    Path | None, typer.Option("--run", help="Run folder (default: the latest in runs/).", parser=parse_path)
]
Model = Annotated[
    Path | None, typer.Option("--model", help="Artifact (default: the latest export in runs/).", parser=parse_path)
]
Provider = Annotated[str, typer.Option("--provider", help="Execution provider: cpu, cuda, ...")]
Threads = Annotated[int, typer.Option("--threads", help="Threads used by one call.")]
Data = Annotated[str | None, typer.Option("--data", help="Corpus: pydocs, or a folder of text files.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace a field of the preset; may be repeated.")
]
Texts = Annotated[
    list[str] | None, typer.Argument(metavar="[TEXT]...", help="Text (default: standard input).", callback=require_utf8)
]
Unknown = Annotated[bool, typer.Option("--allow-unknown", help="Let the unknown token be chosen.")]


def parse_settings(pairs: list[str] | None) -> dict[str, str]:
    """`KEY=VALUE` pairs as a dictionary.

    Raises:
        typer.BadParameter: A pair has another form.
    """
    settings = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals:
            raise typer.BadParameter(f"{reprlib.repr(pair)} is not of the form KEY=VALUE", param_hint="--set")
        settings[key.strip()] = value.strip()
    return settings


def cache_options(size: int | None, theta: float | None, weight: float | None) -> Optional["CacheOptions"]:
    """The cache options; None without `--cache`.

    Raises:
        typer.BadParameter: `theta` or `weight` is given without a size.
        OptionError: A value is out of range.
    """
    given = {name: value for name, value in (("theta", theta), ("weight", weight)) if value is not None}
    if size is None:
        if given:
            raise typer.BadParameter("goes with --cache SIZE", param_hint=" and ".join(f"--cache-{x}" for x in given))
        return None
    from ..runtime.cache import CacheOptions

    return CacheOptions(size, **given)
