"""The browser example in Chromium, served from a thread; errors and requests are recorded."""

import importlib.util
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lmtool.runtime import Autocompletion, Predictor, Suggestion

from support.web.javascript import WEB

PATIENCE_SECONDS = 60.0
WITHIN = 1e-4
NAMED = {" ": "space", "\t": "tab"}
"""Token -> its visible name on the page."""

_spec = importlib.util.spec_from_file_location("web_screenshot", WEB / "screenshot.py")
assert _spec is not None
assert _spec.loader is not None
screenshot = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(screenshot)

# A host that the browser does not treat as this machine, without https.
FOREIGN_HOST = "lmtool.test"
ARGUMENTS = (f"--host-resolver-rules=MAP {FOREIGN_HOST} 127.0.0.1",)


def require_browser() -> None:
    """Skip the test if the browser or a package is missing."""
    problem = screenshot.missing()
    if problem is not None:
        pytest.skip(problem)


class Visit:
    """A page in a separate browser context; records errors, warnings and requests."""

    def __init__(self, chromium: Any, url: str, **settings: Any) -> None:
        self.context = chromium.new_context(**settings)
        self.context.set_default_timeout(PATIENCE_SECONDS * 1000)
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", self._logged)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.context.on("request", lambda request: self.requests.append(request.url))
        self.url = url

    def _logged(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    def open(self, address: str = "") -> "Visit":
        self.page.goto(self.url + address)
        return self.loaded()

    def loaded(self, state: str = "ready") -> "Visit":
        self.page.wait_for_selector(f'body[data-state="{state}"]')
        return self

    def stored(self) -> "Visit":
        self.page.wait_for_selector('#offline[data-state="ready"]')
        return self

    @property
    def text(self) -> str:
        return str(self.page.input_value("#text"))

    def type(self, text: str) -> "Visit":
        """Type text at the caret, key by key."""
        self.page.locator("#text").press_sequentially(text)
        return self

    def fill(self, text: str) -> "Visit":
        """Replace the text at once."""
        self.page.fill("#text", text)
        return self

    def press(self, key: str) -> "Visit":
        self.page.keyboard.press(key)
        return self

    @property
    def shown(self) -> list[tuple[str, float]]:
        """The suggestions: words and probabilities."""
        script = "rows => rows.map((row) => [row.querySelector('.word').textContent, +row.dataset.probability])"
        return [(word, share) for word, share in self.page.eval_on_selector_all("#suggestions li", script)]

    @property
    def chosen(self) -> list[str]:
        script = "rows => rows.map((row) => row.querySelector('.word').textContent)"
        return list(self.page.eval_on_selector_all('#suggestions li[aria-selected="true"]', script))

    def assert_shows(self, expected: list[Suggestion], within: float = WITHIN) -> None:
        """Wait until these suggestions are shown."""
        wanted = [(entry.shown, pytest.approx(entry.probability, abs=within)) for entry in expected]
        self.wait_until(lambda: self.shown == wanted, lambda: f"found {self.shown}, expected {wanted}")

    def wait_until(self, holds: Callable[[], bool], otherwise: Callable[[], str]) -> None:
        end = time.monotonic() + PATIENCE_SECONDS / 4
        while not holds():
            assert time.monotonic() < end, otherwise()
            self.page.wait_for_timeout(20)

    def message(self) -> str:
        """Wait for the page's error message."""
        self.page.wait_for_selector("#message:not([hidden])")
        return str(self.page.inner_text("#message"))

    def close(self) -> None:
        self.context.close()


def served(folder: Path) -> Iterator[Any]:
    site = screenshot.serve(folder)
    yield site
    site.stop()


def suggested(predictor: Predictor, text: str, count: int = 5) -> list[Suggestion]:
    """Python's suggestions, with characters named as on the page."""
    entries = Autocompletion(predictor, count).suggestions(text)
    if predictor.vocabulary.tokenization.unit == "char":
        return [entry._replace(shown=NAMED.get(entry.text, entry.text)) for entry in entries]
    return entries
