"""How much of the torture tests runs: a little beside the other tests, everything under `make torture`."""

import os
from collections.abc import Callable

import pytest

FULL = os.environ.get("LMTOOL_TORTURE") == "1"

Many = Callable[[int, int], int]
"""The fixture `many`: how often a test tries, beside the other tests and under `make torture`."""

Tally = Callable[..., None]
"""The fixture `tally`: what a test found, for the table."""

torture_only = pytest.mark.skipif(not FULL, reason="takes long, and smaller tests look at the same: make torture")
