"""Fill pages of the documentation site from the code: commands, settings, presets, and files of the repository's root.

MkDocs calls `on_page_markdown`. A page holds a comment where something generated belongs:

    <!-- generated: commands -->          one of `GENERATED`
    <!-- include: CHANGELOG.md -->        a file of the repository's root, without its title

So the site cannot contradict the code.
"""

import posixpath
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer

ROOT = Path(__file__).parents[1]
ROOMS = ("bench", "cli", "export", "model", "runtime", "serve")
PAGES_OF_FILES = {
    "CHANGELOG.md": "changelog.md",
    "RELIABILITY.md": "explanation/reliability.md",
    "SECURITY.md": "explanation/security.md",
    "docs/results.md": "results.md",
}
"""File of the repository -> the page that shows it."""

_MARK = re.compile(r"^<!-- (generated|include): (\S+) -->$", re.MULTILINE)
_EXTERNAL = re.compile(
    r'<(?:script|img|iframe|source|link(?! rel="canonical"))\b[^>]*(?:src|href)="(?:https?:)?//[^>]*'
)
_PAPER = re.compile(r"arXiv (\d{4}\.\d{5}|\d{4}\.\d{4})")
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?://|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_startup(**_: Any) -> None:
    """Lay the rooms out as the package that they are installed as: mkdocstrings reads source files."""
    package = ROOT / "build" / "docs" / "lmtool"
    shutil.rmtree(package, ignore_errors=True)
    only_python = shutil.ignore_patterns("__pycache__", "*.mjs", "*.html", "*.css")
    shutil.copytree(ROOT / "package", package, ignore=only_python)
    for room in ROOMS:
        shutil.copytree(ROOT / room, package / room, ignore=only_python)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Replace the page's comments by generated or included text."""
    return filled(markdown, page.file.src_uri)


def on_post_build(config: Any, **_: Any) -> None:
    """Check that no page of the site loads anything from elsewhere.

    Raises:
        PluginError: One does.
    """
    from mkdocs.exceptions import PluginError

    for page in sorted(Path(config["site_dir"]).rglob("*.html")):
        if match := _EXTERNAL.search(page.read_text(encoding="utf-8")):
            raise PluginError(f"{page} loads from elsewhere: {match[0][:200]}")


def filled(markdown: str, page: str) -> str:
    """The page's Markdown with everything generated in place; `page` is its path below docs/."""

    def replace(match: re.Match[str]) -> str:
        kind, name = match.groups()
        return GENERATED[name]() if kind == "generated" else included(name, page)

    return _MARK.sub(replace, markdown)


def included(name: str, page: str) -> str:
    """A file of the repository's root, its links turned into links within the site, or into plain names."""
    text = (ROOT / name).read_text(encoding="utf-8").partition("\n")[2]

    def link(match: re.Match[str]) -> str:
        text, target, anchor = match.groups()
        if target not in PAGES_OF_FILES:
            return text if text.startswith("`") else f"`{text}`"
        return f"[{text}]({posixpath.relpath(PAGES_OF_FILES[target], posixpath.dirname(page))}{anchor or ''})"

    return _LINK.sub(link, text)


def commands() -> dict[str, Any]:
    """Name -> command, those of groups under their whole name: `data list`."""
    from lmtool.cli.app import app

    return dict(_walk(typer.main.get_command(app), ""))


def options(command: Any) -> dict[str, Any]:
    """`--name` -> parameter of a command, with every spelling of it."""
    return {name: parameter for parameter in command.params for name in parameter.opts if name.startswith("-")}


def commands_page() -> str:
    """A section for each command: its usage, what it does, its arguments and options."""
    return "\n".join(_command_section(name, command) for name, command in commands().items())


def settings_page() -> str:
    """What `lmtool settings` prints, as a table."""
    from lmtool.model.training.settings import settings

    rows = [f"| `{name}` | {kind} | `{default}` | {_cell(meaning)} |" for name, kind, default, meaning in settings()]
    return "\n".join(["| setting | value | default | meaning |", "|---|---|---|---|", *rows, ""])


def presets_page() -> str:
    """Each preset with the settings in which it differs from the defaults."""
    from lmtool.model import PRESETS
    from lmtool.model.training.settings import changed_settings

    rows = []
    for name, config in PRESETS.items():
        shown = ", ".join(f"`{setting}={value}`" for setting, value in changed_settings(config).items())
        rows.append(f"| `{name}` | {shown or 'the defaults'} |")
    return "\n".join(["| preset | settings |", "|---|---|", *rows, ""])


def recipes_page() -> str:
    """What `lmtool presets` prints, as a table."""
    from lmtool.model.training.preset_facts import COLUMNS, preset_rows

    rows = [f"| `{name}` | {' | '.join(cells)} |" for name, *cells in preset_rows()]
    table = "\n".join([f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|", *rows, ""])
    return _PAPER.sub(r"[arXiv \1](https://arxiv.org/abs/\1)", table)


def bounds_page() -> str:
    """What each precision allows at export."""
    from lmtool.export import BOUNDS
    from lmtool.runtime import PRECISIONS

    rows = [f"| `{name}` | {BOUNDS[name].difference:g} | {BOUNDS[name].perplexity:.2%} |" for name in PRECISIONS]
    return "\n".join(["| precision | logits and states, of their scale | perplexity |", "|---|---|---|", *rows, ""])


def versions_page() -> str:
    """The version that the site describes."""
    import lmtool

    return f"This site describes lmtool {lmtool.__version__}.\n"


GENERATED: dict[str, Callable[[], str]] = {
    "commands": commands_page,
    "settings": settings_page,
    "presets": presets_page,
    "recipes": recipes_page,
    "bounds": bounds_page,
    "version": versions_page,
}


def _walk(command: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, inner in command.commands.items():
        if hasattr(inner, "commands"):
            yield from _walk(inner, f"{prefix}{name} ")
        else:
            inner.make_context(name, [], resilient_parsing=True)  # `serve` gets its options here
            yield f"{prefix}{name}", inner


def _command_section(name: str, command: Any) -> str:
    arguments = [parameter for parameter in command.params if not _is_option(parameter)]
    usage = " ".join(["lmtool", name, "[OPTIONS]", *(_placeholder(argument) for argument in arguments)])
    title = f"## lmtool {name} {{ #{name.replace(' ', '-')} }}"
    lines = [title, "", command.help or "", "", "```text", usage, "```", ""]
    named = [f"| `{_placeholder(argument)}` | {_cell(argument.help or '')} | |" for argument in arguments]
    named += [_option_row(option) for option in command.params if _is_option(option)]
    if named:
        lines += ["| option | meaning | default |", "|---|---|---|", *named, ""]
    return "\n".join(lines)


def _is_option(parameter: Any) -> bool:
    return bool(parameter.opts[0].startswith("-"))


def _option_row(option: Any) -> str:
    from lmtool.model.training.config import setting_text

    names = ", ".join(option.opts)
    shown = names if option.is_flag else f"{names} {_placeholder(option)}"
    default = "" if option.is_flag or option.default in (None, ()) else f"`{setting_text(option.default)}`"
    return f"| `{shown}` | {_cell(option.help or '')} | {default} |"


def _placeholder(parameter: Any) -> str:
    if parameter.metavar:
        return str(parameter.metavar)
    if not _is_option(parameter):
        return str(parameter.name).upper()
    kinds = {str: "TEXT", int: "N", float: "NUMBER", Path: "PATH"}
    return kinds.get(parameter.type_descriptor.annotation, "TEXT")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
