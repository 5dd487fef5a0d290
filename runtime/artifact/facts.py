"""Facts as text for people: no quotes, braces or long fractions."""

from collections.abc import Mapping
from typing import Any


def fact_text(value: Any) -> str:
    """A JSON value as text: `1,000`, `65.4448`, `yes`, `cell_0 0.32, logits 0.16`."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_inner(item)}" for name, item in value.items())
    return ", ".join(map(_inner, value)) if isinstance(value, list | tuple) else str(value)


def _inner(value: Any) -> str:
    return f"({fact_text(value)})" if isinstance(value, Mapping | list | tuple) else fact_text(value)
