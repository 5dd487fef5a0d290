"""Parses JSON of untrusted files within limits.

Parsed JSON can take many times the memory of its text: `[[],[],` has 3 bytes for a list, which takes 64. So size,
nesting and the numbers of lists, objects and values are counted in the text before it is parsed.
"""

import json
import math
import re
from itertools import accumulate
from typing import Any, NoReturn

from ..errors import JsonError

MOST_BYTES = 1 << 22
"""Limit for small files: a configuration, a header, the results of a training."""

LARGE_BYTES = 1 << 26
"""Limit for a vocabulary, the records of a training, and benchmark results."""

MOST_DEPTH = 100
_MOST_CONTAINERS = 400_000
_BYTES_OF_A_VALUE = 16  # a number of one byte takes 28 or more in memory
_MOST_DIGITS = 20  # of a 64-bit integer
_STRINGS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_NOT_STRUCTURE = re.compile(r"[^\[\]{},]++")
_STEPS = {"[": 1, "{": 1, "]": -1, "}": -1, ",": 0}


def parse_json(data: str | bytes, most_bytes: int = MOST_BYTES, infinite: bool = False) -> Any:
    """The value of a JSON text.

    Args:
        data: The text, or its UTF-8 bytes.
        most_bytes: Largest size; of a `str`, in characters.
        infinite: Accept `Infinity`, as Python writes it; `NaN` and `-Infinity` are never accepted.

    Raises:
        JsonError: It is not JSON, exceeds a limit, or holds a number that is not finite or does not fit 64 bits. The
            message continues a sentence: `is not JSON: ...`.
    """
    if len(data) > most_bytes:
        raise JsonError(f"is JSON of {len(data):,} bytes, expected {most_bytes:,} at most")
    try:
        text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
        _require_small(text, most_bytes // _BYTES_OF_A_VALUE)
        refuse = _refuse_all_but_infinity if infinite else _refuse
        return json.loads(text, parse_int=_int, parse_float=float if infinite else _float, parse_constant=refuse)
    except JsonError:
        raise
    except (ValueError, RecursionError) as error:
        raise JsonError(f"is not JSON: {error}") from error


def _require_small(text: str, most_values: int) -> None:
    """Count values and nesting. A cheap count that includes the content of strings is enough for most texts."""
    containers = text.count("[") + text.count("{")
    if containers <= MOST_DEPTH and text.count(",") <= most_values:
        return
    structure = _NOT_STRUCTURE.sub("", _STRINGS.sub("", text))
    values = structure.count(",")
    containers = structure.count("[") + structure.count("{")
    if containers > _MOST_CONTAINERS or values > most_values:
        raise JsonError(
            f"is JSON of {containers:,} lists and objects and {values:,} values, "
            f"expected {_MOST_CONTAINERS:,} and {most_values:,} at most"
        )
    depth = max(accumulate(map(_STEPS.__getitem__, structure)), default=0)
    if depth > MOST_DEPTH:
        raise JsonError(f"is JSON that nests {depth:,} levels deep, expected {MOST_DEPTH} at most")


def _int(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise JsonError(f"is JSON with a whole number of {len(digits):,} digits, expected {_MOST_DIGITS} at most")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        _refuse(digits[:_MOST_DIGITS])
    return value


def _refuse(constant: str) -> NoReturn:
    raise JsonError(f"is JSON with {constant}, expected finite numbers")


def _refuse_all_but_infinity(constant: str) -> float:
    return math.inf if constant == "Infinity" else _refuse(constant)
