"""Fonts for the labels of pictures: installed fonts draw the characters that the default font lacks."""

import functools
import unicodedata
import warnings
from collections.abc import Iterator
from typing import Any, final

_INVISIBLE = ("Cc", "Cf", "Zl", "Zp", "Zs")
_NO_GLYPHS = ("Last Resort", "LastResort", "Adobe Blank", "AdobeBlank")
"""Fonts that draw every character as a placeholder, or as nothing."""

_PACKAGES = dict.fromkeys(("CJK", "HIRAGANA", "KATAKANA", "HANGUL"), "fonts-noto-cjk")
"""First word of a character's name -> Debian's package of fonts."""

_SHOWN = 12


@final
class GlyphWarning(UserWarning):
    """Labels of a picture hold characters that no installed font has; they are drawn as boxes."""


def choose_fonts(figure: Any) -> None:
    """Let every text of a matplotlib figure fall back to fonts that have its characters; warn where there are none.

    Warns:
        GlyphWarning: No installed font has some of the characters.
    """
    from matplotlib.text import Text

    missing: set[str] = set()
    for text in figure.findobj(Text):
        families = tuple(text.get_fontfamily())
        found, lacking = _fallbacks(families, frozenset(_visible(text.get_text())))
        if found:
            text.set_fontfamily([*families, *found])
        missing |= lacking
    if missing:
        warnings.warn(_message(missing), GlyphWarning, stacklevel=2)


@functools.lru_cache(maxsize=4096)
def _fallbacks(families: tuple[str, ...], characters: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Further families that have the characters which the first ones lack, and the characters that none has."""
    if all(map(str.isascii, characters)):
        return (), frozenset()
    from matplotlib import font_manager

    left = characters - _covered(font_manager.findfont(font_manager.FontProperties(family=list(families))), characters)
    found = []
    for entry in _installed() if left else ():
        if covered := _covered(entry.fname, left):
            found.append(entry.name)
            left -= covered
        if not left:
            break
    return tuple(found), frozenset(left)


def _installed() -> Iterator[Any]:
    """Upright fonts of normal weight, those of sans-serif families first; then those newer than matplotlib's list."""
    from matplotlib import font_manager

    known = list(font_manager.fontManager.ttflist)
    yield from sorted(filter(_is_regular, known), key=lambda entry: ("Sans" not in entry.name, entry.name))
    files = {entry.fname for entry in known}
    for path in sorted(set(font_manager.findSystemFonts()) - files):
        try:
            font_manager.fontManager.addfont(path)
        except (OSError, RuntimeError):  # a damaged font
            continue
        entry = font_manager.fontManager.ttflist[-1]
        if _is_regular(entry):
            yield entry


def _is_regular(entry: Any) -> bool:
    plain = entry.style == "normal" and entry.weight in (400, "normal", "regular", "book")
    return plain and not entry.name.startswith(_NO_GLYPHS)


def _covered(path: str, characters: frozenset[str]) -> frozenset[str]:
    """The characters that a font has; none if it cannot be drawn with, as coloured bitmaps cannot."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(path)
        font.set_size(8, 100)
        return frozenset(character for character in characters if font.get_char_index(ord(character)))
    except (OSError, RuntimeError):
        return frozenset()


def _visible(text: str) -> set[str]:
    return {character for character in text if not _is_invisible(character)}


def _is_invisible(character: str) -> bool:
    selects_a_variant = "\ufe00" <= character <= "\ufe0f"
    return selects_a_variant or unicodedata.category(character) in _INVISIBLE


def _message(missing: set[str]) -> str:
    ordered = sorted(missing)
    shown = " ".join(ordered[:_SHOWN]) + (" ..." if len(ordered) > _SHOWN else "")
    packages = sorted({_package(character) for character in missing})
    return (
        f"no installed font has {len(missing):,} of the labels' characters, which are drawn as boxes: {shown}; install "
        f"fonts that have them, on Debian and Ubuntu {', '.join(packages)}"
    )


def _package(character: str) -> str:
    if unicodedata.category(character) == "So":
        return "fonts-symbola"
    return _PACKAGES.get(unicodedata.name(character, "").partition(" ")[0], "fonts-noto-core")
