"""Options that take files and folders, and what to write where a path stands without its option."""

import contextlib
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from typer import BadParameter, Option
from typer.core import TyperCommand

_EXPORT = "model.onnx"


def path_option(
    help_text: str, *names: str, metavar: str | None = None, parser: Callable[[str], Path] | None = None
) -> Any:
    """An option that takes a path, which need not exist."""
    return Option(*names, help=help_text, metavar=metavar, parser=parser or _path)


def artifact_option(help_text: str) -> Any:
    """The option `--model`: an artifact."""
    return path_option(help_text, "--model", parser=_artifact)


def run_option(help_text: str, name: str = "--run") -> Any:
    """An option that takes a run folder."""
    return path_option(help_text, name, parser=_run)


def _path(value: str) -> Path:
    if not value:  # which `Path` would read as the current folder
        raise BadParameter("it is empty, expected a path; the current folder is .")
    return Path(value)


def _artifact(value: str) -> Path:
    path = _path(value)
    if export := _export_in(path):
        raise BadParameter(f"{path} is a folder, expected an ONNX file: {export}")
    return path


def _run(value: str) -> Path:
    path = _path(value)
    if is_file(path):
        folder = f": {path.parent}" if _is_run(path.parent) else ""
        raise BadParameter(f"{path} is a file, expected a run folder{folder}")
    return path


class PathCommand(TyperCommand):
    """A command that names the option which a path without one needs."""

    allow_extra_args = True

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; fail if some are left."""
        given = args.copy()
        left: list[str] = super().parse_args(ctx, args)
        if left and not ctx.resilient_parsing:
            names = [name for param in self.params for name in param.opts]
            ctx.fail(_unexpected(left[0], given[: given.index(left[0])], names))
        return left


def _unexpected(argument: str, before: list[str], options: list[str]) -> str:
    """What is wrong with an argument where options are expected; `options` in the order of the command's help."""
    if before[-2:-1] == ["--set"]:
        return f"a setting is one argument: --set {before[-1]}={argument}"
    paths = _paths_by_option(Path(argument))
    wanted = [_written(option, paths[option]) for option in options if option in paths]
    if not wanted:
        return f"the argument {argument!r} is unexpected; this command takes options only"
    return f"a path stands without its option, expected {' or '.join(wanted)}"


def _paths_by_option(path: Path) -> dict[str, Path]:
    """The options that may be meant by a path, and their values."""
    if path.suffix == ".onnx":
        return {"--model": path}
    if _is_run(path):
        export = _export_in(path)
        return {"--run": path} if export is None else {"--run": path, "--model": export}
    if is_file(path):
        return {"--data": path}
    return {"--data": path, "--run": path}


def _written(option: str, path: Path) -> str:
    return f"{option} {shlex.quote(str(path))}"


def _is_run(folder: Path) -> bool:
    return is_file(folder / "config.json")


def _export_in(folder: Path) -> Path | None:
    """The artifact `model.onnx` in a folder, or another one; None without any."""
    with contextlib.suppress(OSError):
        names = sorted(path.name for path in folder.glob("*.onnx"))
        return folder / (_EXPORT if _EXPORT in names else names[0]) if names else None
    return None


def is_file(path: Path) -> bool:
    """Whether there is a file at a path, which may be no path at all, as a long text is none."""
    try:
        return path.is_file()
    except OSError:
        return False
