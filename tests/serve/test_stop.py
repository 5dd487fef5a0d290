"""Stop strings: their text is never released, and no other text is lost, however it is cut into pieces."""

from hypothesis import given
from hypothesis import strategies as st
from lmtool.runtime.text.stops import StopMatcher
from lmtool.serve.completions.stop_buffer import StopBuffer, Token

PIECES = st.lists(st.text("ab ", max_size=4), max_size=12)
STOPS = st.lists(st.text("ab ", min_size=1, max_size=4), max_size=4)


def text_before_stop(text: str, stops: list[str]) -> str | None:
    """Read a character at a time: the text before the first complete stop, before the longest of several."""
    for end in range(1, len(text) + 1):
        lengths = [len(stop) for stop in stops if text[:end].endswith(stop)]
        if lengths:
            return text[: end - max(lengths)]
    return None


@given(PIECES, STOPS)
def test_text_ends_before_the_first_stop_however_it_is_cut(pieces: list[str], stops: list[str]) -> None:
    matcher, expected = StopMatcher(stops), text_before_stop("".join(pieces), stops)
    released_text = "".join(matcher.push(piece) for piece in pieces)
    assert matcher.stopped == (expected is not None)
    assert released_text + matcher.finish() == ("".join(pieces) if expected is None else expected)


@given(PIECES, STOPS)
def test_only_what_may_become_a_stop_is_held_back(pieces: list[str], stops: list[str]) -> None:
    matcher, text, released_text = StopMatcher(stops), "", ""
    for piece in pieces:
        text += piece
        released_text += matcher.push(piece)
        if matcher.stopped:
            return
        held = text[len(released_text) :]
        assert not held or any(stop.startswith(held) and stop != held for stop in stops)


def test_without_stops_nothing_is_held_back() -> None:
    matcher = StopMatcher([])
    assert [matcher.push(piece) for piece in ("a", "", " b")] == ["a", "", " b"]
    assert matcher.finish() == ""
    assert not matcher.stopped


@given(PIECES, STOPS, st.integers(0, 9))
def test_only_the_token_that_a_stop_cuts_is_incomplete(pieces: list[str], stops: list[str], start: int) -> None:
    buffer, offset, released = StopBuffer(stops, start), start, []
    given_tokens = []
    for number, piece in enumerate(pieces):
        given_tokens.append(Token(piece, offset, number, None))
        offset += len(piece)
        released += buffer.push(given_tokens[-1])
        if buffer.stopped:
            break
    released += buffer.finish()
    text = "".join(token.text for token in released)
    expected = text_before_stop("".join(pieces), stops)
    assert text == ("".join(pieces) if expected is None else expected)
    assert buffer.sure_end == start + len(text)
    whole = released[:-1] if buffer.stopped else released
    assert whole == given_tokens[: len(whole)]
    assert [token.offset for token in released] == [token.offset for token in given_tokens[: len(released)]]
