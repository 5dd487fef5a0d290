"""What becomes of requests and generations: their errors, and who is told."""

from collections.abc import Callable, Sequence

from ..errors import PoolError
from .generation import NEVER, Generation, Inbox
from .request_queue import Entry, Request

MakeError = Callable[[], Exception]
"""Makes an error; every request has a separate object."""


def error_maker(kind: type[PoolError], message: str, cause: Exception | None = None) -> MakeError:
    """A maker of errors of this kind."""

    def make() -> Exception:
        error = kind(message)
        error.__cause__ = cause
        return error

    return make


def fail(entries: Sequence[Entry], make_error: MakeError) -> None:
    """Set the errors of requests, and tell about generations, which have theirs."""
    for entry in entries:
        if isinstance(entry, Request):
            entry.set_exception(make_error())
    tell(entries)


def tell(entries: Sequence[Entry]) -> None:
    """Tell inboxes about generations that have the wanted number of tokens, or have ended."""
    news: dict[Inbox, list[Generation]] = {}
    for entry in entries:
        if isinstance(entry, Generation) and entry.has(entry.wanted):
            entry.wanted = NEVER
            if entry.inbox is not None:
                news.setdefault(entry.inbox, []).append(entry)
    for inbox, generations in news.items():
        inbox.put(generations)
