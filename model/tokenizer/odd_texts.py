"""Odd texts for comparing implementations of a tokenization: many scripts, marks, white space, controls, long words."""

import random
from collections.abc import Iterator

SCRIPTS = {
    "Latin": (0x41, 0x24F),
    "Greek": (0x370, 0x3FF),
    "Cyrillic": (0x400, 0x4FF),
    "Hebrew": (0x591, 0x5F4),
    "Arabic": (0x600, 0x6FF),
    "Devanagari": (0x900, 0x97F),
    "Thai": (0xE01, 0xE5B),
    "Georgian": (0x10A0, 0x10FF),
    "Hangul": (0xAC00, 0xD7A3),
    "Kana": (0x3041, 0x30FF),
    "Han": (0x4E00, 0x9FFF),
    "Gothic": (0x10330, 0x1034A),
}
"""Name -> first and last code point."""

_SPACES = (" ", " ", " ", "  ", "\n", "\r\n", "\t", "\u00a0", "\u3000", "\x00", "\x7f")
_BETWEEN = (*_SPACES, "", "'", "\u2019", "-", ". ", ", ")
_FAMILY, _FLAG = "\U0001f469\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea"
_ODD = (
    *("\u0301", "\u200d", "\ufe0f", "\u202e", "\ufeff", "\ufffd", _FAMILY, _FLAG, "\U0010ffff", "\ue000"),
    *("<unk>", "<eos>", "\u0120"),
)
_MOST_PARTS, _LONGEST_WORD, _VERY_LONG = 12, 9, 40


def odd_texts(count: int, seed: int = 1) -> Iterator[str]:
    """`count` texts, the same for the same seed on every machine; valid Unicode, some of them empty."""
    draw = random.Random(seed)
    scripts = list(SCRIPTS.values())
    for number in range(count):
        script = scripts[number % len(scripts)]
        yield "".join(_part(draw, script) for _ in range(draw.randrange(_MOST_PARTS + 1)))


def _part(draw: random.Random, script: tuple[int, int]) -> str:
    """A word of the script or of ASCII, digits, marks or something odd, and what follows it."""
    kind = draw.randrange(8)
    size = draw.randrange(1, _VERY_LONG if draw.randrange(20) == 0 else _LONGEST_WORD)
    if kind == 0:
        part = draw.choice(_ODD)
    elif kind in (1, 2):
        part = "".join(draw.choices(("0123456789", "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")[kind - 1], k=size))
    elif kind == 3:
        part = "".join(draw.choices("etaoin shrdluETAOIN'", k=size))
    else:
        part = "".join(chr(draw.randint(*script)) for _ in range(size))
    return part + draw.choice(_BETWEEN)
