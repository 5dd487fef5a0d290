"""The server's log on stderr: one line a request if asked, and replaced models."""

import contextlib
import logging
import re
import time
from collections.abc import Iterator
from urllib.parse import quote

LOG = logging.getLogger("lmtool.serve")
ACCESS_LOG = LOG.getChild("access")
_NOT_PRINTABLE = re.compile(r"[^!-~]", re.ASCII)
_MAX_CHARS = 128


@contextlib.contextmanager
def log_to_stderr() -> Iterator[None]:
    """Write the log to stderr within a `with` block; each line begins with the time in UTC."""
    formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    try:
        yield
    finally:
        LOG.removeHandler(handler)


def log_request(
    method: str, path: str, status: int, seconds: float, tokens: tuple[int, int] | None, request_id: str | None
) -> None:
    """Log a request.

    Args:
        method: The HTTP method.
        path: The path without query; of a session or model without its id.
        status: The HTTP status.
        seconds: From its headers to the last byte of its response.
        tokens: Tokens of its prompts, and tokens written; None if it has none.
        request_id: Its header `X-Request-Id`.
    """
    parts = [f"{_word(method)} {quote(path[:_MAX_CHARS], safe='/{}')} {status} {seconds * 1000:.1f} ms"]
    if tokens is not None:
        parts.append("prompt_tokens={} completion_tokens={}".format(*tokens))
    if request_id is not None:
        parts.append(f"request_id={_word(request_id)}")
    ACCESS_LOG.info("%s", " ".join(parts))


def _word(text: str) -> str:
    """Text from a client as one word, so that it can neither begin a line nor look like another field."""
    return _NOT_PRINTABLE.sub("?", text[:_MAX_CHARS])
