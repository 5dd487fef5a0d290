"""The command-line options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
RunFolder = Annotated[Path | None, typer.Option("--run", help="Run folder (default: the latest in runs/).")]
Model = Annotated[Path | None, typer.Option("--model", help="Artifact (default: the latest export in runs/).")]
Provider = Annotated[str, typer.Option("--provider", help="Execution provider: cpu, cuda, ...")]
Threads = Annotated[int, typer.Option("--threads", help="Threads of one call.")]
Data = Annotated[str | None, typer.Option("--data", help="Corpus: pydocs, or a folder of text files.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace a field of the preset.")
]
Texts = Annotated[list[str] | None, typer.Argument(metavar="[TEXT]...", help="Text (default: standard input).")]
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
            raise typer.BadParameter(f"{pair!r} is not of the form KEY=VALUE", param_hint="--set")
        settings[key.strip()] = value.strip()
    return settings
