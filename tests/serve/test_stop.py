"""Stop strings: nothing of them comes through, nothing else is lost, however a text is cut."""

from hypothesis import given
from hypothesis import strategies as st
from lmtool.serve.completions.stop import HeldTokens, StopFilter, Token

PIECES = st.lists(st.text("ab ", max_size=4), max_size=12)
STOPS = st.lists(st.text("ab ", min_size=1, max_size=4), max_size=4)


def text_before_stop(text: str, stops: list[str]) -> str | None:
    """Read a character at a time: the text before the first stop that is complete, the longest one of several."""
    for end in range(1, len(text) + 1):
        found = [len(stop) for stop in stops if text[:end].endswith(stop)]
        if found:
            return text[: end - max(found)]
    return None


@given(PIECES, STOPS)
def test_text_ends_before_the_first_stop_however_it_is_cut(pieces: list[str], stops: list[str]) -> None:
    found, expected = StopFilter(stops), text_before_stop("".join(pieces), stops)
    through = "".join(found.push(piece) for piece in pieces)
    assert found.stopped == (expected is not None)
    assert through + found.finish() == ("".join(pieces) if expected is None else expected)


@given(PIECES, STOPS)
def test_only_what_may_become_a_stop_is_held_back(pieces: list[str], stops: list[str]) -> None:
    found, text, through = StopFilter(stops), "", ""
    for piece in pieces:
        text += piece
        through += found.push(piece)
        if found.stopped:
            return
        held = text[len(through) :]
        assert not held or any(stop.startswith(held) and stop != held for stop in stops)


def test_without_stops_nothing_waits() -> None:
    found = StopFilter([])
    assert [found.push(piece) for piece in ("a", "", " b")] == ["a", "", " b"]
    assert found.finish() == ""
    assert not found.stopped


@given(PIECES, STOPS, st.integers(0, 9))
def test_tokens_come_whole_but_for_the_one_that_a_stop_cuts(pieces: list[str], stops: list[str], start: int) -> None:
    held, offset, released = HeldTokens(stops, start), start, []
    given_tokens = []
    for number, piece in enumerate(pieces):
        given_tokens.append(Token(piece, offset, number, None))
        offset += len(piece)
        released += held.push(given_tokens[-1])
        if held.stopped:
            break
    released += held.finish()
    text = "".join(token.text for token in released)
    expected = text_before_stop("".join(pieces), stops)
    assert text == ("".join(pieces) if expected is None else expected)
    assert held.kept_end == start + len(text)
    whole = released[:-1] if held.stopped else released
    assert whole == given_tokens[: len(whole)]
    assert [token.offset for token in released] == [token.offset for token in given_tokens[: len(released)]]
