"""Cores, and the threads of torch for work that reads one stream token by token.

The matrix products of such work are too small to share out, and two threads that spin for each other beside a busy
process are many times slower than one.
"""

import contextlib
import os
from collections.abc import Iterator

import torch


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


@contextlib.contextmanager
def single_thread() -> Iterator[None]:
    """Run the block with one torch thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
