"""Take a screenshot of the running page: on a screen, and on a phone in dark mode.

    python examples/web/screenshot.py --model FILE --out docs/images/web.png

Requires `npm ci --ignore-scripts` in this folder, the Python packages playwright and pillow, and Chromium or Chrome on
the path.
"""

import argparse
import contextlib
import functools
import http.server
import io
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, final

HERE = Path(__file__).resolve().parent
PACKAGE = HERE / "node_modules" / "onnxruntime-web"
BROWSERS = ("chromium", "google-chrome", "chromium-browser")
TEXT = "return a list of the names of the file.\nreturn the number of st"

_KEYSTROKE_MS = 120
_SETTLED_MS = 1500  # animations and loading are finished
_SCALE = 2
_GAP = 56  # pixels
_COLOURS = 96
_TOUCH = {"is_mobile": True, "has_touch": True}


@final
class Site(NamedTuple):
    """The page, served on this machine.

    Attributes:
        url: Its address, with a slash at the end.
        server: The HTTP server.
    """

    url: str
    server: http.server.ThreadingHTTPServer

    def stop(self) -> None:
        """Stop the server."""
        self.server.shutdown()
        self.server.server_close()


def copy_page(folder: Path, model: Path | None = None) -> Path:
    """Copy the page into `folder`, with a model beside it; npm's packages are linked."""
    ignored = shutil.ignore_patterns("node_modules", "*.onnx", "*.py", "__pycache__")
    shutil.copytree(HERE, folder, ignore=ignored, dirs_exist_ok=True)
    (folder / "node_modules").symlink_to(HERE / "node_modules")
    if model is not None:
        shutil.copy(model, folder / "model.onnx")
    return folder


def serve(folder: Path) -> Site:
    """Serve a folder from a thread, on a free port of this machine only."""
    handler = functools.partial(_Handler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return Site(f"http://127.0.0.1:{server.server_port}/", server)


@final
class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        """Log nothing."""


def missing() -> str | None:
    """What is missing for a screenshot, and the fix; None if nothing is."""
    if not PACKAGE.is_dir():
        return "onnxruntime-web is missing: npm ci --ignore-scripts in examples/web"
    if _browser_program() is None:
        return f"there is no browser on the path, expected one of {', '.join(BROWSERS)}"
    try:
        import playwright  # noqa: F401
    except ImportError:
        return "playwright is missing: pip install playwright"
    return None


def _browser_program() -> str | None:
    return next(filter(None, map(shutil.which, BROWSERS)), None)


@contextlib.contextmanager
def browser(*arguments: str) -> Iterator[Any]:
    """Headless Chromium from the path, with these arguments."""
    from playwright.sync_api import sync_playwright

    sandbox = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=_browser_program(), args=[*sandbox, *arguments])
        yield opened
        opened.close()


def take_screenshot(chromium: Any, url: str, out: Path, text: str = TEXT) -> None:
    """Type a text into the page at `url`, on a screen and on a phone, and write one picture of both.

    It is a PNG with two pixels per point and a small palette.
    """
    from PIL import Image

    screen = _picture(chromium, url, text, {"viewport": {"width": 1060, "height": 600}, "color_scheme": "light"}, True)
    height = Image.open(io.BytesIO(screen)).height // _SCALE
    phone_size = {"width": 350, "height": height}
    phone = _picture(chromium, url, text, {"viewport": phone_size, "color_scheme": "dark", **_TOUCH}, False)
    pictures = [Image.open(io.BytesIO(data)) for data in (screen, phone)]
    sheet = Image.new("RGB", (sum(picture.width for picture in pictures) + _GAP, height * _SCALE), "white")
    sheet.paste(pictures[0], (0, 0))
    sheet.paste(pictures[1], (pictures[0].width + _GAP, 0))
    sheet.quantize(_COLOURS, dither=Image.Dither.NONE).save(out, optimize=True)


def _picture(chromium: Any, url: str, text: str, settings: dict[str, Any], full: bool) -> bytes:
    """PNG of the page after typing: the whole page (`full`) or the screen."""
    context = chromium.new_context(device_scale_factor=_SCALE, **settings)
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector('#offline[data-state="ready"]')
    page.wait_for_timeout(_SETTLED_MS)
    page.locator("#text").press_sequentially(text, delay=_KEYSTROKE_MS)
    page.wait_for_timeout(_SETTLED_MS)
    data: bytes = page.screenshot(full_page=full, caret="initial")
    context.close()
    return data


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Take a screenshot of the page.")
    parser.add_argument("--model", type=Path, required=True, help="The artifact to show.")
    parser.add_argument("--out", type=Path, required=True, help="The PNG to write.")
    options = parser.parse_args()
    problem = missing()
    if problem is None and not options.model.is_file():
        problem = f"there is no file {options.model}, expected an artifact of lmtool export"
    if problem is not None:
        sys.exit(problem)
    with tempfile.TemporaryDirectory() as folder, browser() as chromium:
        site = serve(copy_page(Path(folder), options.model))
        take_screenshot(chromium, site.url, options.out)
        site.stop()


if __name__ == "__main__":
    main()
