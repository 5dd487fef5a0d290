"""A process on as many cores as it may have threads, so that no runtime uses more than it was given."""

import os


def pin(threads: int) -> None:
    """Keep this process and its later children on the last `threads` of its cores, where the system can do that.

    The first cores take most of a machine's interrupts.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
