"""Checks of argument types at the public edge: errors name the argument, the value found, the type expected, the fix.

Private methods trust their arguments, so that a hot loop pays once. Numbers may be numpy's; Python's are returned.
"""

import operator
import os
import reprlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from .errors import ArgumentError

_Class = TypeVar("_Class")


def wrong_type(name: str, value: object, expected: str, fix: str = "") -> ArgumentError:
    """The error for an argument of a wrong type."""
    found = "None" if value is None else f"{type(value).__name__} {reprlib.repr(value)}"
    return ArgumentError(f"{name} is {found}, expected {expected}{fix and f'; {fix}'}")


def checked_text(name: str, value: object, fix: str = "") -> str:
    """A `str`; otherwise ArgumentError, as from all functions here."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        fix = 'decode it: str(data, "utf-8")'
    elif isinstance(value, list | tuple) and not fix:
        fix = 'join words to one text: " ".join(words)'
    raise wrong_type(name, value, "text (str)", fix)


def checked_integer(name: str, value: object) -> int:
    """A whole number as `int`; `True` and `2.0` are none."""
    try:
        if not isinstance(value, bool | np.bool_ | np.ndarray):
            return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        pass
    raise wrong_type(name, value, "a whole number (int)")


def checked_number(name: str, value: object) -> float:
    """A number as `float` or `int`."""
    if isinstance(value, float | int) and not isinstance(value, bool):
        return value
    if isinstance(value, np.floating | np.integer):
        return float(value)
    raise wrong_type(name, value, "a number (float)")


def checked_flag(name: str, value: object) -> bool:
    """`True` or `False`; 1 and 0 are accepted."""
    if isinstance(value, bool | np.bool_) or (isinstance(value, int) and value in (0, 1)):
        return bool(value)
    raise wrong_type(name, value, "True or False")


def checked_path(name: str, value: object) -> Path:
    """A path, from text or an object of `os.PathLike`."""
    if isinstance(value, str | os.PathLike) and isinstance(os.fspath(value), str):
        return Path(value)
    raise wrong_type(name, value, "a path (str or pathlib.Path)")


def checked_bytes(name: str, value: object) -> bytes:
    """Bytes from `bytes`, `bytearray` or `memoryview`."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise wrong_type(name, value, "bytes, bytearray or memoryview")


def checked_instance(name: str, value: object, kind: type[_Class], fix: str = "") -> _Class:
    """An object of a class."""
    if isinstance(value, kind):
        return value
    raise wrong_type(name, value, f"{'an' if kind.__name__[0] in 'AEIO' else 'a'} {kind.__name__}", fix)


def checked_texts(name: str, value: object) -> list[str]:
    """A list from an iterable of `str` that is no `str` itself."""
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping):
        texts = list(value)
        if all(isinstance(text, str) for text in texts):
            return texts
    raise wrong_type(name, value, "a list of texts (str)")


def checked_array(name: str, value: object, kinds: str, expected: str) -> "np.ndarray[Any, Any]":
    """A numpy array whose `dtype.kind` is one of `kinds`, which `expected` describes."""
    if isinstance(value, np.ndarray) and value.dtype.kind in kinds:
        return value
    if isinstance(value, np.ndarray):
        raise ArgumentError(f"{name} is an array of {value.dtype} {list(value.shape)}, expected {expected}")
    raise wrong_type(name, value, expected)


def freeze_fields(instance: object, **values: object) -> None:
    """Set fields of a frozen dataclass to their checked values."""
    for name, value in values.items():
        object.__setattr__(instance, name, value)
