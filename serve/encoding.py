"""JSON text, made in parts: one call of the encoder keeps every other thread from running until it has ended."""

import json
from collections.abc import Iterator
from typing import Any

_TOGETHER = 256
"""Items of a list that are encoded in one call."""


def json_text(value: Any) -> str:
    """The JSON of a value, without spaces; text outside ASCII is escaped, lonely surrogates too.

    Raises:
        ValueError: It holds NaN or infinity.
    """
    if isinstance(value, dict) and _is_deep(value):
        return "{" + ",".join(f"{_encoded(name)}:{json_text(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list) and value:
        return "[" + ",".join(_items(value)) + "]"
    return _encoded(value)


def _items(values: list[Any]) -> Iterator[str]:
    if any(map(_is_deep, values)):
        yield from map(json_text, values)
        return
    for start in range(0, len(values), _TOGETHER):
        yield _encoded(values[start : start + _TOGETHER])[1:-1]


def _is_deep(value: Any) -> bool:
    """Whether it is an object with lists or objects in it."""
    return isinstance(value, dict) and any(isinstance(item, (dict, list)) for item in value.values())


def _encoded(value: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))
