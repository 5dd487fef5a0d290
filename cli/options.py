"""Options that several commands share, and the values that they select."""

import reprlib
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional, get_args

from typer import Argument, BadParameter, Option
from typer.models import OptionInfo

from .completion import completes
from .output import print_status
from .paths import artifact_option, is_file, run_option

if TYPE_CHECKING:
    from ..runtime import Artifact, Predictor
    from ..runtime.cache import CacheOptions


def latest_model(*, serving: bool = False, provider: str = "cpu") -> Path:
    """The export of the latest run in runs/ that `choose_artifact` takes; printed on stderr with the reason."""
    from ..runtime.artifact.choice import choose_artifact

    path, reason = choose_artifact(serving=serving, provider=provider)
    print_status(f"model: {path} ({reason})")
    return path


def export_of(run: Path | None) -> Path:
    """The most exact export in the folder `run`, or of the latest run; printed on stderr with the reason."""
    if run is None:
        return latest_model()
    from ..runtime.artifact.choice import choose_export

    path, reason = choose_export(run)
    print_status(f"model: {path} ({reason})" if reason else f"model: {path}")
    return path


def print_if_outdated(path: Path, artifact: "Artifact") -> None:
    """Print on stderr why to export an artifact again, and how, if there is a reason."""
    from ..runtime.artifact.original import outdated

    if warning := outdated(path, artifact):
        print_status(f"warning: {warning}")


def run_or_latest(run: Path | None) -> Path:
    """The named run folder, or that of the latest run in runs/, which is printed on stderr with the reason."""
    if run is not None:
        return run
    from ..model.run_choice import latest_run_and_reason

    latest, reason = latest_run_and_reason()
    print_status(f"run: {latest.path} ({reason})")
    return latest.path


def require_one(model: Path | None, run: Path | None) -> None:
    """Raise BadParameter if both are given."""
    if model is not None and run is not None:
        raise BadParameter("name a run or an artifact, not both", param_hint="--model")


def load_predictor(model: Path | None, run: Path | None, threads: int) -> "Predictor":
    """Load the named artifact, or the most exact export of the named or the latest run."""
    from ..runtime import Predictor

    require_one(model, run)
    path = model or export_of(run)
    predictor = Predictor.load(path, threads=threads)
    print_if_outdated(path, predictor.artifact)
    return predictor


def as_utf8(value: str | list[str] | None) -> str | list[str] | None:
    """Callback of text options: return the value.

    Raises:
        BadParameter: The value is not UTF-8. A shell passes any bytes.
    """
    for text in value if isinstance(value, list) else [value or ""]:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise BadParameter(f"{reprlib.repr(text)} is not UTF-8 text") from error
    return value


def _as_texts(texts: list[str] | None) -> Any:
    """Callback of texts: return them; print what to write if the first one is the name of a file."""
    if texts and is_file(Path(texts[0])):
        name = shlex.quote(texts[0])
        instead = f"--model {name}" if texts[0].endswith(".onnx") else f"< {name}"
        print_status(f"warning: {texts[0]} is taken as the text itself, not as a file; to use the file: {instead}")
    return as_utf8(texts)


Json = Annotated[bool, Option("--json", help="Print one JSON object on stdout.")]
JsonLines = Annotated[bool, Option("--json", help="Print one JSON object a line on stdout, for each text.")]
RunFolder = Annotated[Path | None, run_option("Run folder (default: in runs/, the one trained last).")]
ExportedRun = Annotated[Path | None, run_option("Take the most exact export of this run.")]
Model = Annotated[Path | None, artifact_option("Artifact (default: the most exact export of the latest run).")]
ServedModel = Annotated[
    Path | None, artifact_option("Artifact (default: the fastest batch-invariant export of the latest run).")
]
Provider = Annotated[
    str, Option("--provider", help="Execution provider: cpu, cuda, ...", autocompletion=completes("provider"))
]
Threads = Annotated[int, Option("--threads", help="Threads used by one call.")]
Data = Annotated[str | None, Option("--data", help="Corpus: pydocs, a text file, or a folder of text files.")]
Settings = Annotated[
    list[str] | None,
    Option("--set", metavar="KEY=VALUE", help="Replace a setting of the preset (lmtool settings); may be repeated."),
]
Texts = Annotated[
    list[str] | None, Argument(metavar="[TEXT]...", help="Text (default: standard input).", callback=_as_texts)
]
Unknown = Annotated[bool, Option("--allow-unknown", help="Let the unknown token be chosen.")]


_NUMBERS = {int: "a whole number, such as 10", float: "a number, such as 0.5"}


def read_numbers(annotations: Iterable[Any]) -> None:
    """Let the options among these annotations that are numbers say what was found and what is expected."""
    for annotation in annotations:
        kind, *metadata = get_args(annotation) or (annotation,)
        kinds = [number for number in _NUMBERS if number in (get_args(kind) or (kind,))]
        for option in metadata:
            if kinds and isinstance(option, OptionInfo):
                option.parser = _number_parser(kinds[0], option.min)


def _number_parser(kind: type[int] | type[float], least: float | None) -> Callable[[str], float]:
    def parse(value: str) -> float:
        try:
            number = kind(value)
        except ValueError:
            raise BadParameter(f"found {reprlib.repr(value)}, expected {_NUMBERS[kind]}") from None
        if least is not None and number < least:
            raise BadParameter(f"found {number}, expected {least} or more")
        return number

    return parse


def parse_pairs(pairs: list[str] | None, option: str = "--set", form: str = "KEY=VALUE") -> dict[str, str]:
    """`KEY=VALUE` pairs as a dictionary.

    Raises:
        BadParameter: A pair has another form.
    """
    settings = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals:
            raise BadParameter(f"{reprlib.repr(pair)} is not of the form {form}", param_hint=option)
        settings[key.strip()] = value.strip()
    return settings


def cache_options(size: int | None, theta: float | None, weight: float | None) -> Optional["CacheOptions"]:
    """The cache options; None without `--cache`.

    Raises:
        BadParameter: `theta` or `weight` is given without a size.
        OptionError: A value is out of range.
    """
    given = {name: value for name, value in (("theta", theta), ("weight", weight)) if value is not None}
    if size is None:
        if given:
            raise BadParameter("goes with --cache SIZE", param_hint=" and ".join(f"--cache-{x}" for x in given))
        return None
    from ..runtime.cache import CacheOptions

    return CacheOptions(size, **given)
