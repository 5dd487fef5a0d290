"""Files of the browser example: offline use, drag and drop, other sites, damaged and missing files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from lmtool.runtime import Predictor
from support.web.browser import FOREIGN_HOST, Visit, screenshot, suggested


@pytest.mark.parametrize("address", ["", "?model=words.onnx"])
def test_the_page_works_offline_after_a_first_visit(chromium: Any, folder: Path, address: str) -> None:
    predictor = Predictor.load(folder / (address.partition("=")[2] or "model.onnx"))
    site = screenshot.serve(folder)
    visit = Visit(chromium, site.url).open(address).stored()
    site.stop()
    visit.page.reload()
    visit.loaded().fill("the old ").assert_shows(suggested(predictor, "the old "))
    assert visit.errors == []
    visit.close()


def test_the_last_opened_model_is_stored(visits: Callable[..., Visit]) -> None:
    kept = """async () => {
      const cache = await caches.open((await caches.keys()).find((name) => name.startsWith("lmtool-web-")));
      return (await cache.keys()).map(({ url }) => url.split("/").at(-1)).filter((name) => name.endsWith(".onnx"));
    }"""
    visit = visits().open().stored()
    assert visit.page.evaluate(kept) == ["model.onnx"]
    visit.open("?model=words.onnx").stored()
    assert visit.page.evaluate(kept) == ["words.onnx"]


def test_the_page_does_not_load_offline_before_a_first_visit(chromium: Any, folder: Path) -> None:
    site = screenshot.serve(folder)
    site.stop()
    visit = Visit(chromium, site.url)
    with pytest.raises(Exception, match="ERR_CONNECTION_REFUSED"):
        visit.open()
    visit.close()


def test_a_damaged_file_is_refused_and_the_previous_model_stays(
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


def test_a_model_on_another_site_is_not_requested(visits: Callable[..., Visit]) -> None:
    visit = visits()
    visit.page.goto(f"{visit.url}?model=https://example.org/model.onnx")
    assert "is on another site; expected a path on this site" in visit.message()


@pytest.mark.parametrize("path", ["http://[", "//here:99999/model.onnx"])
def test_an_invalid_address_of_a_model_is_shown(visits: Callable[..., Visit], path: str) -> None:
    visit = visits()
    visit.page.goto(f"{visit.url}?model={quote(path)}")
    assert f"The model {path} is not a valid address; expected a path on this site, such as ?model=" in visit.message()


def test_the_page_cannot_send_requests_to_another_host(chromium: Any, site: Any) -> None:
    visit = Visit(chromium, site.url).open()
    elsewhere = site.url.replace("127.0.0.1", FOREIGN_HOST)
    for address, expected in ((site.url, "answered"), (elsewhere, "refused")):
        script = "(address) => fetch(address).then(() => 'answered', () => 'refused')"
        assert visit.page.evaluate(script, address) == expected
    assert ["Content Security Policy" in complaint for complaint in visit.errors][:1] == [True]
    visit.close()


def test_without_npm_packages_the_page_shows_the_fix(chromium: Any, tmp_path: Path, artifact_path: Path) -> None:
    folder = screenshot.copy_page(tmp_path / "bare", artifact_path)
    (folder / "node_modules").unlink()
    site = screenshot.serve(folder)
    visit = Visit(chromium, site.url)
    visit.page.goto(site.url)
    assert "npm ci --ignore-scripts" in visit.message()
    visit.close()
    site.stop()


def test_a_missing_model_is_named(chromium: Any, site: Any) -> None:
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


def test_without_hashing_in_the_browser_the_page_warns_and_works(
    chromium: Any, site: Any, predictor: Predictor
) -> None:
    visit = Visit(chromium, site.url.replace("127.0.0.1", FOREIGN_HOST)).open()
    assert not visit.page.evaluate("isSecureContext")
    visit.fill("the ").assert_shows(suggested(predictor, "the "))
    assert "not checked" in visit.page.inner_text("#hash")
    assert "Needs the network at each visit" in visit.page.inner_text("#offline")
    assert visit.errors == []
    visit.close()
