"""Labels in any script: drawn with an installed font that has their characters, or named in a warning."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from lmtool.cli import output
from lmtool.model import fonts
from lmtool.model.embedding_map import draw_embedding_map
from lmtool.model.embeddings import Embeddings
from lmtool.model.figures import png
from lmtool.model.fonts import GlyphWarning
from lmtool.runtime import Tokenization, Vocabulary
from matplotlib import font_manager
from matplotlib.figure import Figure

WORDS = ["漢字", "का", "🦊", "पानी", "the"]
CHARACTERS = sorted({character for word in WORDS[:-1] for character in word})


def write_font(path: Path, family: str, characters: list[str]) -> Path:
    """A font whose glyphs are filled squares."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for point in ((0, 700), (700, 700), (700, 0)):
        pen.lineTo(point)
    pen.closePath()
    names = [".notdef", *(f"u{ord(character):x}" for character in characters)]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(character): f"u{ord(character):x}" for character in characters})
    builder.setupGlyf(dict.fromkeys(names, pen.glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (800, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2(usWeightClass=400)
    builder.setupPost()
    builder.save(path)
    return path


@pytest.fixture(autouse=True)
def _own_list_of_fonts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Only matplotlib's own fonts, whatever this machine has."""
    own = [entry for entry in font_manager.fontManager.ttflist if "mpl-data" in entry.fname]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    fonts._fallbacks.cache_clear()
    yield
    fonts._fallbacks.cache_clear()


def figure_of(text: str) -> Figure:
    figure = Figure(figsize=(2, 1))
    figure.text(0.2, 0.4, text)
    return figure


def embeddings() -> Embeddings:
    vectors = np.random.default_rng(1).normal(size=(2 + len(WORDS), 4)).astype(np.float32)
    return Embeddings(Vocabulary(["<eos>", "<unk>", *WORDS], Tokenization()), vectors)


def test_missing_characters_are_named_with_what_to_install(tmp_path: Path) -> None:
    with pytest.warns(GlyphWarning) as warned:
        draw_embedding_map(embeddings(), tmp_path / "map.png")
    (message,) = [str(warning.message) for warning in warned]
    assert message.startswith(f"no installed font has {len(CHARACTERS)} of the labels' characters")
    assert f": {' '.join(CHARACTERS)};" in message
    assert message.endswith("on Debian and Ubuntu fonts-noto-cjk, fonts-noto-core, fonts-symbola")


def test_installed_fonts_with_the_characters_are_used(tmp_path: Path) -> None:
    with pytest.warns(GlyphWarning):
        boxes = png(figure_of("漢 का"))
    font_manager.fontManager.addfont(write_font(tmp_path / "han.ttf", "Test Han", ["漢", "字", "🦊"]))
    font_manager.fontManager.addfont(write_font(tmp_path / "nagari.ttf", "Test Nagari", ["क", "ा", "प", "न", "ी"]))
    fonts._fallbacks.cache_clear()
    assert png(figure_of("漢 का")) != boxes
    figure = figure_of("the 漢 का")
    fonts.choose_fonts(figure)
    assert list(figure.texts[0].get_fontfamily())[1:] == ["Test Han", "Test Nagari"]
    draw_embedding_map(embeddings(), tmp_path / "map.png")  # warnings are errors


def test_a_font_that_is_newer_than_the_list_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_font(tmp_path / "new.ttf", "Test New", ["漢"])
    (tmp_path / "damaged.ttf").write_bytes(b"no font")
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(tmp_path / "damaged.ttf"), str(path)])
    figure = figure_of("漢")
    fonts.choose_fonts(figure)
    assert "Test New" in figure.texts[0].get_fontfamily()


def test_latin_greek_cyrillic_and_invisible_characters_need_no_other_font() -> None:
    figure = figure_of("the café Ω жук e\u0301 a\u200db\ufe0f\n")
    fonts.choose_fonts(figure)
    assert list(figure.texts[0].get_fontfamily()) == ["sans-serif"]


@pytest.mark.filterwarnings("default")
def test_the_command_prints_the_warning_as_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output.with_exit_codes(lambda: draw_embedding_map(embeddings(), tmp_path / "map.png") and None)()
    assert capsys.readouterr().err.startswith("warning: no installed font has 8 of the labels' characters")
