"""Templates of the self-contained pages: the report's and the history's."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

CONTROLS = dict.fromkeys([*range(9), 11, 12, *range(14, 32), *range(127, 160)], "\ufffd")
"""Control characters, which the output of a crashed process may hold."""


def page_template(name: str, filters: Mapping[str, Callable[..., Any]], *folders: Path) -> Template:
    """A template of `folders` or of this folder; every value is escaped, a missing one is an error."""
    environment = Environment(
        loader=FileSystemLoader([*folders, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment.get_template(name)
