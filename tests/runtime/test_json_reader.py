"""JSON of untrusted files: values are as Python reads them, and JSON beyond the limits is refused."""

import json
import math
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lmtool.runtime.errors import JsonError
from lmtool.runtime.io.json_reader import LARGE_BYTES, MOST_BYTES, parse_json

ODD = st.sampled_from(['[{,"', '\\"]', "\\", '"', "[[[[", "\u2028", "\U0001f600"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | ODD,
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | ODD, inner),
)


@given(VALUES)
def test_json_round_trip(value: object) -> None:
    padded = [[]] * 101  # over 100 brackets: strings are removed before brackets are counted
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False), json.dumps([value, padded])):
        assert parse_json(text) == json.loads(text)
        assert parse_json(f"\ufeff{text}".encode()) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON: Expecting value"),
        ("{", "is not JSON: "),
        (b'"\xff"', "is not JSON: 'utf-8' codec"),
        (" " * (MOST_BYTES + 1), "is JSON of 4,194,305 bytes, expected 4,194,304 at most"),
        ("[" * 101 + "]" * 101, "nests 101 levels deep, expected 100 at most"),
        ('{"a":' * 900 + "1" + "}" * 900, "nests 900 levels deep"),
        ("[" * 100_000, "nests 100,000 levels deep"),
        ("[" + "[]," * 400_000 + "1]", "of 400,001 lists and objects and 400,000 values, expected 400,000 and 262,144"),
        ("[" + "1," * 262_145 + "1]", "of 1 lists and objects and 262,145 values"),
        ("[NaN]", "is JSON with NaN, expected finite numbers"),
        ("-Infinity", "is JSON with -Infinity"),
        ("[1e999]", "is JSON with 1e999"),
        ("9" * 5000, "a whole number of 5,000 digits, expected 20 at most"),
    ],
)
def test_json_beyond_the_limits_is_refused(text: str | bytes, message: str) -> None:
    with pytest.raises(JsonError, match=message):
        parse_json(text)


def test_json_just_within_the_limits_is_read() -> None:
    """The positive control: limits count structure, not the content of strings."""
    assert parse_json("[" * 100 + "]" * 100)
    assert len(parse_json("[" + "1," * 262_144 + "1]")) == 262_145
    assert len(parse_json("[" + "[]," * 262_144 + "1]")) == 262_145
    assert parse_json(json.dumps(["[{," * 300_000, '\\"' * 300_000])) == ["[{," * 300_000, '\\"' * 300_000]
    assert parse_json(" " * MOST_BYTES + "1", LARGE_BYTES) == 1


def test_infinity_is_read_where_it_is_written() -> None:
    assert parse_json(json.dumps({"perplexity": math.inf}), infinite=True) == {"perplexity": math.inf}
    for text, infinite in (("Infinity", False), ("NaN", True), ("-Infinity", True)):
        with pytest.raises(JsonError, match=f"is JSON with {text}"):
            parse_json(text, infinite=infinite)


def peak_bytes(text: str) -> int:
    tracemalloc.start()
    try:
        parse_json(text, LARGE_BYTES)
    except JsonError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return peak


def test_a_flood_of_empty_lists_takes_no_more_than_copies_of_its_text() -> None:
    flood = "[" + "[]," * 2_000_000 + "1]"
    assert peak_bytes(flood) < 3 * len(flood)
    assert peak_bytes("[" + "[]," * 300_000 + "1]") > 60 * 300_000  # the positive control: lists that are made
