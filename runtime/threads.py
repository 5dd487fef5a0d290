"""How many threads one call may have."""

from .errors import OptionError

MAX_THREADS = 1024
"""More than any machine has cores; libraries would start as many as they are told to, and hang over it."""


def check_threads(threads: int) -> None:
    """Check a number of threads.

    Raises:
        OptionError: It is outside its range.
    """
    if not 1 <= threads <= MAX_THREADS:
        raise OptionError(f"threads is {threads}, expected 1 to {MAX_THREADS:,}")
