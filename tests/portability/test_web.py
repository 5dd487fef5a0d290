"""The browser example in headless Chromium: the same suggestions as Python, by keys, by hand, offline, on a phone."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from browser import ARGUMENTS, FOREIGN_HOST, WITHIN, Visit, require_browser, screenshot, served
from javascript import WEB
from lmtool.export import export_run
from lmtool.model import Run
from lmtool.runtime import Autocompletion, Predictor, Suggestion
from networks import artifact_of, network_of

WORDS = ["<eos>", "<unk>", "the", "(", ")", ".", "foo", "for", "os.path", "don't", "don"]
CHARACTERS = ["\n", "\ufffd", "a", "b", " ", "'", "\t"]
MARKS = ["<eos>", "<unk>", "foo", "(", ")", "."]
UNTRAINED = {"words": ("words", WORDS), "marks": ("words", MARKS), "characters": ("characters", CHARACTERS)}
NAMED = {"\n": "end of sentence \u21b5", " ": "space", "\t": "tab"}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    require_browser()
    with screenshot.browser(*ARGUMENTS) as opened:
        yield opened


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, run: Run) -> Path:
    """The page with the trained model beside it, and others: in other precisions, and of other rules."""
    require_browser()
    place: Path = screenshot.copy_page(tmp_path_factory.mktemp("site"), run.artifact("fp32"))
    copied = Run(Path(shutil.copytree(run.path, tmp_path_factory.mktemp("runs") / "run")))
    export_run(copied, "w8")
    for precision in ("int8", "w8"):
        shutil.copy(copied.artifact(precision), place / f"{precision}.onnx")
    for name, (rule, tokens) in UNTRAINED.items():
        network = network_of((7, 3), vocabulary=len(tokens))
        (place / f"{name}.onnx").write_bytes(artifact_of(network, tokens, rule))
    return place


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[Any]:
    yield from served(folder)


@pytest.fixture
def visits(chromium: Any, site: Any) -> Iterator[Callable[..., Visit]]:
    """Opens the page; at the end nothing was complained of, and no other host was asked for anything."""
    opened: list[Visit] = []

    def visit(**settings: Any) -> Visit:
        opened.append(Visit(chromium, site.url, **settings))
        return opened[-1]

    yield visit
    for each in opened:
        each.close()
    assert [complaint for each in opened for complaint in each.complaints] == []
    asked = [url for each in opened for url in each.requests]
    assert asked
    assert [url for url in asked if not url.startswith((site.url, "blob:"))] == []


@pytest.fixture
def visit(visits: Callable[..., Visit]) -> Visit:
    return visits().open()


def suggested(predictor: Predictor, text: str, count: int = 5) -> list[Suggestion]:
    """What Python suggests, shown as the page does it."""
    ends = predictor.vocabulary.tokenization.end_of_sentence
    found = Autocompletion(predictor, count).suggestions(text)
    if predictor.vocabulary.tokenization.unit == "char":
        return [entry._replace(shown=NAMED.get(entry.text or "\n", entry.text)) for entry in found]
    return [entry._replace(shown=NAMED["\n"]) if entry.shown == ends else entry for entry in found]


def test_the_same_suggestions_as_python_at_every_keystroke(visit: Visit, predictor: Predictor) -> None:
    text = "the old market saw a d"
    visit.assert_shows(suggested(predictor, ""))
    for end, key in enumerate(text, start=1):
        visit.type(key).assert_shows(suggested(predictor, text[:end]))
    visit.press("Enter").assert_shows(suggested(predictor, f"{text}\n"))
    for _ in range(4):
        visit.press("Backspace")
    visit.assert_shows(suggested(predictor, text[:-3]))


def test_letters_that_begin_no_word_suggest_nothing(visit: Visit) -> None:
    visit.fill("the zz").assert_shows([])
    assert visit.page.inner_text("#nothing") == "No word of the vocabulary begins so."
    visit.press("Tab")  # nothing to take: Tab goes on through the page
    assert visit.text == "the zz"
    assert visit.page.evaluate("document.activeElement.id") == "write"


@pytest.mark.parametrize(("name", "within"), [("int8", WITHIN), ("w8", 2e-3)])
def test_quantized_models_too(visits: Callable[..., Visit], folder: Path, name: str, within: float) -> None:
    predictor = Predictor.load(folder / f"{name}.onnx")
    visit = visits().open(f"?model={name}.onnx")
    for text in ("the old market saw", "the cat sold t"):
        # WebAssembly does not round activations where weights have 8 bits; see README.md there.
        visit.fill(text).assert_shows(suggested(predictor, text), within)
    assert visit.page.inner_text("#facts div:has(dt:text-is('precision')) dd") == name


@pytest.mark.parametrize("rule", ["words", "characters"])
def test_every_rule(visits: Callable[..., Visit], folder: Path, rule: str) -> None:
    predictor = Predictor.load(folder / f"{rule}.onnx")
    visit = visits().open(f"?model={rule}.onnx")
    for text in ("THE Fo", "(fo", "the os.", "don\u2019", "foo.", "ab 'a\u6f22"):
        visit.fill(text).assert_shows(suggested(predictor, text))
    assert visit.page.inner_text("#next-title").lower() == {"words": "next word", "characters": "next character"}[rule]


@pytest.mark.parametrize("temperature", ["0.5", "2"])
def test_the_temperature_acts_on_what_is_shown(visit: Visit, predictor: Predictor, temperature: str) -> None:
    stream = predictor.stream()
    stream.feed("the cat")
    weights = np.exp(stream.logits().astype(float) / float(temperature))
    shares = [
        weights[predictor.vocabulary.id(entry.shown)] / weights.sum() for entry in suggested(predictor, "the cat ")
    ]
    visit.fill("the cat ").assert_shows(suggested(predictor, "the cat "))
    visit.page.fill("#temperature", temperature)
    expected = suggested(predictor, "the cat ")
    visit.assert_shows([entry._replace(probability=share) for entry, share in zip(expected, shares, strict=True)])
    assert visit.page.inner_text("#temperature-shown") == f"{float(temperature):.2f}"


def test_at_temperature_0_the_likeliest_has_it_all(visit: Visit, predictor: Predictor) -> None:
    visit.fill("the cat ").page.fill("#temperature", "0")
    first, *others = suggested(predictor, "the cat ")
    visit.assert_shows([first._replace(probability=1), *(entry._replace(probability=0) for entry in others)])
    assert visit.page.get_attribute("#temperature", "aria-valuetext") == "0: always the likeliest"


def test_keys_take_what_is_suggested(visit: Visit, predictor: Predictor) -> None:
    words = [entry.shown for entry in suggested(predictor, "the cat ")]
    visit.fill("the cat ").assert_shows(suggested(predictor, "the cat "))
    assert visit.chosen == words[:1]
    visit.press("ArrowDown").press("ArrowDown").press("ArrowUp")
    assert visit.chosen == words[1:2]
    assert visit.page.get_attribute("#text", "aria-activedescendant") == "suggestion-2"
    visit.press("Tab")
    assert visit.text == f"the cat {words[1]} "
    visit.assert_shows(suggested(predictor, visit.text))
    third = visit.shown[2][0]
    before = visit.text
    visit.press("Alt+3")
    assert visit.text == f"{before}{third} "
    assert visit.page.evaluate("document.activeElement.id") == "text"


def test_a_begun_word_is_completed_and_keeps_its_letters(visits: Callable[..., Visit]) -> None:
    visit = visits().open("?model=words.onnx").fill("The Do")
    visit.wait_until(lambda: sorted(word for word, _ in visit.shown) == ["don", "don't"], lambda: str(visit.shown))
    word = visit.shown[0][0]
    visit.press("Tab")
    assert visit.text == f"The Do{word[2:]} "


def test_a_mark_that_is_taken_stands_where_it_belongs(visits: Callable[..., Visit], folder: Path) -> None:
    visit = visits().open("?model=marks.onnx")
    for word, text in [
        ("foo", "foo "),
        ("(", "foo ("),
        ("foo", "foo (foo "),
        (")", "foo (foo) "),
        (".", "foo (foo). "),
    ]:
        visit.wait_until(lambda word=word: word in dict(visit.shown), lambda: str(visit.shown))
        visit.page.click(f'#suggestions li:has(.word:text-is("{word}"))')
        assert visit.text == text
        visit.assert_shows(suggested(Predictor.load(folder / "marks.onnx"), text))
    visit.page.click(f'#suggestions li:has(.word:text-is("{NAMED[chr(10)]}"))')
    assert visit.text == "foo (foo).\n"


def test_escape_gives_the_keys_back(visit: Visit) -> None:
    visit.fill("the ").press("Escape").press("Tab")
    assert visit.text == "the "
    assert visit.page.evaluate("document.activeElement.id") == "write"
    visit.page.focus("#text")
    visit.type("c").wait_until(lambda: visit.shown[0][0] == "cat", lambda: str(visit.shown))
    visit.press("Tab")
    assert visit.text == "the cat "


def test_a_tap_takes_a_word_and_the_keyboard_stays(visits: Callable[..., Visit], predictor: Predictor) -> None:
    visit = visits(has_touch=True, is_mobile=True, viewport={"width": 360, "height": 740}).open()
    visit.fill("the ").assert_shows(suggested(predictor, "the "))
    text, rows = (visit.page.locator(name).bounding_box() for name in ("#text", "#suggestions"))
    assert rows["y"] + rows["height"] - text["y"] < 400, "the phone's keyboard would hide them"
    word = visit.shown[3][0]
    visit.page.tap("#suggestion-4")
    assert visit.text == f"the {word} "
    assert visit.page.evaluate("document.activeElement.id") == "text"
    assert not visit.page.is_visible("#keys")


def test_suggestions_are_for_the_place_of_the_caret(visit: Visit, predictor: Predictor) -> None:
    visit.fill("the cat saw").press("Home").assert_shows(suggested(predictor, ""))
    for _ in range(4):
        visit.press("ArrowRight")
    visit.assert_shows(suggested(predictor, "the "))
    word = visit.shown[0][0]
    visit.press("Tab")
    assert visit.text == f"the {word} cat saw"


def written(predictor: Predictor, prompt: str, **options: Any) -> str:
    stream = predictor.stream()
    stream.feed(prompt)
    return "".join(stream.generate(60, **options))


def test_writing_on_at_temperature_0_is_pythons_greedy_text(visit: Visit, predictor: Predictor) -> None:
    visit.fill("the old market").page.fill("#temperature", "0")
    visit.page.click("#write")
    visit.page.wait_for_selector("#write:text-is('Stop')")
    visit.page.wait_for_selector("#write:text-is('Write on')")
    assert visit.text == "the old market" + written(predictor, "the old market", temperature=0)


def test_a_seed_writes_the_same_text_until_it_is_stopped(visit: Visit, predictor: Predictor) -> None:
    expected = written(predictor, "the old market ", temperature=0.8, seed=7).lstrip()
    visit.fill("the old market ").page.fill("#seed", "7")
    visit.page.fill("#temperature", "0.8")
    visit.page.focus("#write")
    visit.press("Enter")
    visit.wait_until(lambda: len(visit.text) > 40, lambda: visit.text)
    visit.press("Enter")
    assert visit.page.inner_text("#write") == "Write on"
    found = visit.text
    assert ("the old market " + expected).startswith(found)
    visit.page.wait_for_timeout(300)
    assert visit.text == found


def test_typing_stops_the_writing(visit: Visit) -> None:
    visit.fill("the ").page.click("#write")
    visit.wait_until(lambda: len(visit.text) > 10, lambda: visit.text)
    visit.page.focus("#text")
    visit.type("x")
    assert visit.page.inner_text("#write") == "Write on"
    found = visit.text
    visit.page.wait_for_timeout(300)
    assert visit.text == found


def test_latency_and_the_models_facts_are_shown(visit: Visit, run: Run, predictor: Predictor) -> None:
    drawn = visit.page.locator("#history i")
    for number, key in enumerate("the cat", start=1):
        visit.type(key)
        visit.wait_until(lambda number=number: drawn.count() == number, lambda: f"{drawn.count()} keystrokes are drawn")
    for name in ("#last", "#median", "#model-time"):
        number, unit = visit.page.inner_text(name).split()
        assert 0 <= float(number) < 10_000
        assert unit == "ms"
    assert visit.page.inner_text("#model-ran") == "model, 0 tokens"
    visit.type(" ").wait_until(
        lambda: visit.page.inner_text("#model-ran") == "model, 1 token", lambda: visit.page.inner_text(".latency")
    )
    terms, descriptions = (visit.page.locator(f"#facts {name}").all_inner_texts() for name in ("dt", "dd"))
    facts = dict(zip(terms, descriptions, strict=True))
    assert facts["file"] == "model.onnx"
    assert facts["vocabulary"] == f"{len(predictor.vocabulary)} words"
    assert facts["test perplexity"] == f"{predictor.artifact.training['test_perplexity']:.1f}"
    assert (facts["precision"], facts["network"]) == ("fp32", "LSTM 7, 3")
    assert facts["size"] == f"{run.artifact('fp32').stat().st_size / 1e6:.1f} MB"
    assert visit.page.inner_text("#hash") == f"SHA-256 {predictor.artifact.sha256[:16]}\u2026, checked"


@pytest.mark.parametrize("address", ["", "?model=words.onnx"])
def test_it_works_offline_once_it_was_loaded(chromium: Any, folder: Path, address: str) -> None:
    predictor = Predictor.load(folder / (address.partition("=")[2] or "model.onnx"))
    site = screenshot.serve(folder)
    visit = Visit(chromium, site.url).open(address).kept()
    site.stop()
    visit.page.reload()
    visit.loaded().fill("the old ").assert_shows(suggested(predictor, "the old "))
    assert visit.complaints == []
    visit.close()


def test_of_models_the_one_that_was_opened_last_is_kept(visits: Callable[..., Visit]) -> None:
    kept = """async () => {
      const cache = await caches.open((await caches.keys()).find((name) => name.startsWith("lmtool-web-")));
      return (await cache.keys()).map(({ url }) => url.split("/").at(-1)).filter((name) => name.endsWith(".onnx"));
    }"""
    visit = visits().open().kept()
    assert visit.page.evaluate(kept) == ["model.onnx"]
    visit.open("?model=words.onnx").kept()
    assert visit.page.evaluate(kept) == ["words.onnx"]


def test_without_a_visit_before_there_is_nothing_offline(chromium: Any, folder: Path) -> None:
    site = screenshot.serve(folder)
    site.stop()
    visit = Visit(chromium, site.url)
    with pytest.raises(Exception, match="ERR_CONNECTION_REFUSED"):
        visit.open()
    visit.close()


def test_a_damaged_file_is_refused_and_the_model_before_stays(
    visit: Visit, tmp_path: Path, artifact_path: Path, predictor: Predictor
) -> None:
    damaged = bytearray(artifact_path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "damaged.onnx").write_bytes(damaged)
    visit.page.set_input_files("#file", tmp_path / "damaged.onnx")
    assert "damaged.onnx" in visit.message()
    assert "it is damaged: its bytes hash to" in visit.message()
    visit.fill("the ").assert_shows(suggested(predictor, "the "))
    (tmp_path / "notes.onnx").write_text("no model")
    visit.page.set_input_files("#file", tmp_path / "notes.onnx")
    visit.wait_until(lambda: "it is no ONNX file" in visit.message(), visit.message)


def test_a_file_is_opened_by_dropping_it(visit: Visit, folder: Path) -> None:
    visit.page.evaluate(
        """async () => {
          const data = await (await fetch("words.onnx")).arrayBuffer();
          const dataTransfer = new DataTransfer();
          dataTransfer.items.add(new File([data], "dropped.onnx"));
          for (const kind of ["dragover", "drop"]) {
            document.body.dispatchEvent(new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer }));
          }
        }"""
    )
    visit.page.wait_for_selector("#facts dd:text-is('dropped.onnx')")
    visit.fill("the fo").assert_shows(suggested(Predictor.load(folder / "words.onnx"), "the fo"))
    visit.page.wait_for_selector("#offline:text('open the file again after a reload')")


def test_a_model_of_another_site_is_not_asked_for(visits: Callable[..., Visit]) -> None:
    visit = visits()
    visit.page.goto(f"{visit.url}?model=https://example.org/model.onnx")
    assert "lies on another site; expected a path on this site" in visit.message()


@pytest.mark.parametrize("path", ["http://[", "//here:99999/model.onnx"])
def test_a_model_whose_address_is_none_is_named(visits: Callable[..., Visit], path: str) -> None:
    visit = visits()
    visit.page.goto(f"{visit.url}?model={quote(path)}")
    assert f"The model {path} is no address; expected a path on this site, such as ?model=" in visit.message()


def test_the_page_may_not_ask_another_host(chromium: Any, site: Any) -> None:
    visit = Visit(chromium, site.url).open()
    elsewhere = site.url.replace("127.0.0.1", FOREIGN_HOST)
    for address, expected in ((site.url, "answered"), (elsewhere, "refused")):
        script = "(address) => fetch(address).then(() => 'answered', () => 'refused')"
        assert visit.page.evaluate(script, address) == expected
    assert ["Content Security Policy" in complaint for complaint in visit.complaints][:1] == [True]
    visit.close()


def test_where_npm_did_not_run_the_page_says_what_to_do(chromium: Any, tmp_path: Path, artifact_path: Path) -> None:
    folder = screenshot.copy_page(tmp_path / "bare", artifact_path)
    (folder / "node_modules").unlink()
    site = screenshot.serve(folder)
    visit = Visit(chromium, site.url)
    visit.page.goto(site.url)
    assert "npm ci --ignore-scripts" in visit.message()
    visit.close()
    site.stop()


def test_a_model_that_is_not_there_is_named(chromium: Any, site: Any) -> None:
    visit = Visit(chromium, site.url)
    visit.page.goto(f"{site.url}?model=none.onnx")
    assert visit.message() == "none.onnx could not be loaded: the server answered 404; expected a model there"
    visit.close()


def test_without_a_model_the_page_asks_for_one(chromium: Any, tmp_path: Path, artifact_path: Path) -> None:
    site = screenshot.serve(screenshot.copy_page(tmp_path / "empty"))
    visit = Visit(chromium, site.url)
    visit.page.goto(site.url)
    visit.loaded("empty")
    assert "open a model, or drop one here" in visit.page.inner_text("#offline")
    assert visit.page.is_disabled("#text")
    visit.page.set_input_files("#file", artifact_path)
    visit.loaded().type("the ")
    assert visit.text == "the "
    visit.close()
    site.stop()


def test_where_the_browser_cannot_hash_the_page_says_so_and_goes_on(
    chromium: Any, site: Any, predictor: Predictor
) -> None:
    visit = Visit(chromium, site.url.replace("127.0.0.1", FOREIGN_HOST)).open()
    assert not visit.page.evaluate("isSecureContext")
    visit.fill("the ").assert_shows(suggested(predictor, "the "))
    assert "not checked" in visit.page.inner_text("#hash")
    assert "Needs the network at each visit" in visit.page.inner_text("#offline")
    assert visit.complaints == []
    visit.close()


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
def test_text_stands_out(visits: Callable[..., Visit], tmp_path: Path, scheme: str) -> None:
    visit = visits(color_scheme=scheme).open().type("the ")
    (tmp_path / "notes.onnx").write_text("no model")
    visit.page.set_input_files("#file", tmp_path / "notes.onnx")
    visit.message()
    contrasts = visit.page.evaluate(CONTRASTS)
    assert len(contrasts) > 40
    assert [(name, contrast) for name, contrast in contrasts if contrast < 4.5] == []
    visit.page.eval_on_selector("h1", "(title) => { title.style.color = '#727272'; }")
    assert [name for name, contrast in visit.page.evaluate(CONTRASTS) if contrast < 4.5] == ["H1"]


def test_bars_stand_still_for_who_wants_that(visits: Callable[..., Visit]) -> None:
    durations = [
        visits(reduced_motion=motion)
        .open()
        .type("the ")
        .page.eval_on_selector(".bar", "(bar) => getComputedStyle(bar).transitionDuration")
        for motion in ("reduce", "no-preference")
    ]
    assert durations == ["0s", "0.18s"]


def test_every_file_of_the_page_is_kept_for_offline_use() -> None:
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
