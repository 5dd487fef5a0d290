"""The browser example in headless Chromium: suggestions equal Python's; keys, touch, generation and latency."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lmtool.model import Run
from lmtool.runtime import Predictor
from support.web.browser import WITHIN, Visit, suggested


def test_the_same_suggestions_as_python_at_every_keystroke(visit: Visit, predictor: Predictor) -> None:
    text = "the old market saw a d"
    visit.assert_shows(suggested(predictor, ""))
    for end, key in enumerate(text, start=1):
        visit.type(key).assert_shows(suggested(predictor, text[:end]))
    visit.press("Enter").assert_shows(suggested(predictor, f"{text}\n"))
    for _ in range(4):
        visit.press("Backspace")
    visit.assert_shows(suggested(predictor, text[:-3]))


def test_an_unknown_prefix_suggests_nothing(visit: Visit) -> None:
    visit.fill("the zz").assert_shows([])
    assert visit.page.inner_text("#nothing") == "No word in the vocabulary begins like this."
    visit.press("Tab")  # without suggestions Tab moves the focus
    assert visit.text == "the zz"
    assert visit.page.evaluate("document.activeElement.id") == "write"


def test_an_int8_model(visits: Callable[..., Visit], folder: Path) -> None:
    predictor = Predictor.load(folder / "int8.onnx")
    visit = visits().open("?model=int8.onnx")
    for text in ("the old market saw", "the cat sold t"):
        visit.fill(text).assert_shows(suggested(predictor, text), WITHIN)
    assert visit.page.inner_text("#facts div:has(dt:text-is('precision')) dd") == "int8"


@pytest.mark.parametrize("rule", ["words", "characters", "bpe"])
def test_every_tokenization_rule_suggests_like_python(visits: Callable[..., Visit], folder: Path, rule: str) -> None:
    predictor = Predictor.load(folder / f"{rule}.onnx")
    visit = visits().open(f"?model={rule}.onnx")
    for text in ("THE Fo", "(fo", "the os.", "don\u2019", "foo.", "ab 'a\u6f22"):
        visit.fill(text).assert_shows(suggested(predictor, text))
    titles = {"words": "next word", "characters": "next character", "bpe": "next word"}
    assert visit.page.inner_text("#next-title").lower() == titles[rule]


def test_words_of_parts_are_inserted_and_written_as_text(visits: Callable[..., Visit], folder: Path) -> None:
    predictor = Predictor.load(folder / "bpe.onnx")
    visit = visits().open("?model=bpe.onnx")
    visit.fill("The cat").assert_shows(suggested(predictor, "The cat"))
    visit.press("Tab")
    taken = f"The cat{suggested(predictor, 'The cat')[0].text}"
    visit.wait_until(lambda: visit.text == taken, lambda: f"found {visit.text!r}, expected {taken!r}")
    assert visit.page.inner_text("#scale").startswith("full bar: ")
    visit.fill("é" * 17).assert_shows(suggested(predictor, "é" * 17))
    assert visit.page.inner_text("#scale").startswith("search cut, full bar: ")  # more bytes than are searched
    visit.fill("Ünder ").page.fill("#seed", "3")
    visit.page.click("#write")
    visit.wait_until(lambda: visit.page.inner_text("#write") == "Write on", lambda: "it still writes")
    stream = predictor.stream()
    stream.feed("Ünder ")
    temperature = float(visit.page.input_value("#temperature"))
    expected = "".join(stream.generate(60, temperature=temperature, seed=3))
    assert visit.text == f"Ünder {expected}".replace("\r", "\n")  # a text area has no CR


@pytest.mark.parametrize("temperature", ["0.5", "2"])
def test_the_temperature_changes_the_shown_probabilities(visit: Visit, predictor: Predictor, temperature: str) -> None:
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


def test_at_temperature_0_the_most_probable_word_has_probability_1(visit: Visit, predictor: Predictor) -> None:
    visit.fill("the cat ").page.fill("#temperature", "0")
    first, *others = suggested(predictor, "the cat ")
    visit.assert_shows([first._replace(probability=1), *(entry._replace(probability=0) for entry in others)])
    assert visit.page.get_attribute("#temperature", "aria-valuetext") == "0: always the most probable"


def test_keys_select_and_insert_suggestions(visit: Visit, predictor: Predictor) -> None:
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


def test_an_inserted_mark_gets_the_right_spaces(visits: Callable[..., Visit], folder: Path) -> None:
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


def test_escape_returns_the_keys_to_the_page(visit: Visit) -> None:
    visit.fill("the ").press("Escape").press("Tab")
    assert visit.text == "the "
    assert visit.page.evaluate("document.activeElement.id") == "write"
    visit.page.focus("#text")
    visit.type("c").wait_until(lambda: visit.shown[0][0] == "cat", lambda: str(visit.shown))
    visit.press("Tab")
    assert visit.text == "the cat "


def test_a_tap_inserts_a_word_and_the_keyboard_stays(visits: Callable[..., Visit], predictor: Predictor) -> None:
    visit = visits(has_touch=True, is_mobile=True, viewport={"width": 360, "height": 740}).open()
    visit.fill("the ").assert_shows(suggested(predictor, "the "))
    text, rows = (visit.page.locator(name).bounding_box() for name in ("#text", "#suggestions"))
    assert rows["y"] + rows["height"] - text["y"] < 400, "the phone's keyboard would hide them"
    word = visit.shown[3][0]
    visit.page.tap("#suggestion-4")
    assert visit.text == f"the {word} "
    assert visit.page.evaluate("document.activeElement.id") == "text"
    assert not visit.page.is_visible("#keys")


def test_suggestions_follow_the_caret(visit: Visit, predictor: Predictor) -> None:
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


def test_text_at_temperature_0_is_the_greedy_text_of_python(visit: Visit, predictor: Predictor) -> None:
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
    text = visit.text
    assert ("the old market " + expected).startswith(text)
    visit.page.wait_for_timeout(300)
    assert visit.text == text


def test_typing_stops_the_writing(visit: Visit) -> None:
    visit.fill("the ").page.click("#write")
    visit.wait_until(lambda: len(visit.text) > 10, lambda: visit.text)
    visit.page.focus("#text")
    visit.type("x")
    assert visit.page.inner_text("#write") == "Write on"
    text = visit.text
    visit.page.wait_for_timeout(300)
    assert visit.text == text


def test_latency_and_facts_of_the_model_are_shown(visit: Visit, run: Run, predictor: Predictor) -> None:
    drawn = visit.page.locator("#history i")
    for number, key in enumerate("the ca", start=1):
        visit.type(key)
        visit.wait_until(lambda number=number: drawn.count() == number, lambda: f"{drawn.count()} keystrokes are drawn")
    for name in ("#last", "#median", "#model-time"):
        number, unit = visit.page.inner_text(name).split()
        assert 0 <= float(number) < 10_000
        assert unit == "ms"
    assert visit.page.inner_text("#model-ran") == "model, 0 tokens"
    for key, ran in (("t", "1 token"), (" ", "0 tokens")):  # a whole word runs once: its space runs nothing
        visit.type(key).wait_until(
            lambda ran=ran: visit.page.inner_text("#model-ran") == f"model, {ran}",
            lambda: visit.page.inner_text(".latency"),
        )
    terms, descriptions = (visit.page.locator(f"#facts {name}").all_inner_texts() for name in ("dt", "dd"))
    facts = dict(zip(terms, descriptions, strict=True))
    assert facts["file"] == "model.onnx"
    assert facts["vocabulary"] == f"{len(predictor.vocabulary)} words"
    assert facts["test perplexity"] == f"{predictor.artifact.training['test_perplexity']:.1f}"
    assert (facts["precision"], facts["network"]) == ("fp32", "LSTM 7, 3")
    assert facts["size"] == f"{run.artifact('fp32').stat().st_size / 1e6:.1f} MB"
    assert visit.page.inner_text("#hash") == f"SHA-256 {predictor.artifact.sha256[:16]}\u2026, checked"
