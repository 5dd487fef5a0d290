"""Layout and accessibility of the browser example: widths, names, contrast, motion; and its screenshot."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lmtool.runtime import Predictor
from support.web.browser import Visit, screenshot, suggested
from support.web.javascript import WEB


@pytest.mark.parametrize("width", [320, 480, 839, 840, 1280])
def test_nothing_is_wider_than_the_screen(visits: Callable[..., Visit], width: int) -> None:
    visit = visits(viewport={"width": width, "height": 700}).open()
    visit.fill("the old market saw a house and anextraordinarilylongwordthatnobodyhaseverheardofbefore the ")
    assert visit.page.evaluate("document.documentElement.scrollWidth") == width
    for name in ("#text", "#suggestions", "#write", "#temperature", "#seed", ".file"):
        box = visit.page.locator(name).bounding_box()
        assert 0 <= box["x"] < box["x"] + box["width"] <= width
    rows = [row.bounding_box() for row in visit.page.locator("#suggestions li").all()]
    assert min(row["height"] for row in [*rows, visit.page.locator("#write").bounding_box()]) >= 44


def test_controls_have_names(visit: Visit, predictor: Predictor) -> None:
    visit.fill("the ").assert_shows(suggested(predictor, "the "))
    page = visit.page
    for role, name in [
        *(("textbox", "Your text"), ("textbox", "Seed"), ("button", "Write on"), ("slider", "Temperature")),
        *(("button", "Open a model"), ("listbox", "Next word"), ("heading", "Latency per keystroke")),
    ]:
        assert page.get_by_role(role, name=name, exact=True).count() == 1, name
    word, share = visit.shown[0]
    assert page.get_by_role("option", name=f"{word}, {100 * share:.2f} %").get_attribute("aria-selected") == "true"
    assert page.get_by_role("option").count() == 5
    spoken = page.locator("[aria-live=polite]")
    visit.wait_until(lambda: spoken.inner_text().startswith(f"{word}, "), spoken.inner_text)


CONTRASTS = """
() => {
  const parse = (color) => color.match(/[\\d.]+/g).map(Number);
  const channel = (value) => (value /= 255) <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const luminance = ([red, green, blue]) => 0.2126 * channel(red) + 0.7152 * channel(green) + 0.0722 * channel(blue);
  const background = (element) => {
    for (; element; element = element.parentElement) {
      const color = parse(getComputedStyle(element).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const texts = [...document.querySelectorAll("body *")].filter((element) => element.checkVisibility() &&
    (element.matches("textarea, input[type=text]") ||
      [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim())));
  return texts.map((element) => {
    const colors = [parse(getComputedStyle(element).color), background(element)];
    const [dark, light] = colors.map(luminance).sort((one, other) => one - other);
    return [element.id || element.className || element.tagName, (light + 0.05) / (dark + 0.05)];
  });
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(visits: Callable[..., Visit], tmp_path: Path, scheme: str) -> None:
    visit = visits(color_scheme=scheme).open().type("the ")
    (tmp_path / "notes.onnx").write_text("no model")
    visit.page.set_input_files("#file", tmp_path / "notes.onnx")
    visit.message()
    contrasts = visit.page.evaluate(CONTRASTS)
    assert len(contrasts) > 40
    assert [(name, contrast) for name, contrast in contrasts if contrast < 4.5] == []
    visit.page.eval_on_selector("h1", "(title) => { title.style.color = '#727272'; }")
    assert [name for name, contrast in visit.page.evaluate(CONTRASTS) if contrast < 4.5] == ["H1"]


def test_reduced_motion_turns_animations_off(visits: Callable[..., Visit]) -> None:
    durations = [
        visits(reduced_motion=motion)
        .open()
        .type("the ")
        .page.eval_on_selector(".bar", "(bar) => getComputedStyle(bar).transitionDuration")
        for motion in ("reduce", "no-preference")
    ]
    assert durations == ["0s", "0.18s"]


def test_every_file_of_the_page_is_stored_for_offline_use() -> None:
    listed = (WEB / "service_worker.js").read_text().partition("const FILES = [")[2].partition("]")[0]
    needed = [path.name for path in WEB.iterdir() if path.suffix in (".mjs", ".css", ".html", ".svg")]
    assert len(needed) > 15
    assert [name for name in needed if f'"{name}"' not in listed] == []


def test_the_picture_shows_the_page_on_a_screen_and_on_a_phone(chromium: Any, site: Any, tmp_path: Path) -> None:
    screenshot.take_screenshot(chromium, site.url, tmp_path / "web.png", "the c")
    data = (tmp_path / "web.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    assert width == 2 * (1060 + 350) + 56
    assert height > 1200
    assert 30_000 < len(data) < 150_000
