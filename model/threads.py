"""Threads of torch, for work that reads one stream token by token.

Its matrix products are too small to share out, and two threads that spin for each other beside a busy process are many
times slower than one.
"""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def single_thread() -> Iterator[None]:
    """Run the block with one torch thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
