"""Scale of the torture tests: a few tries beside the other tests, all of them under `make torture`."""

import os
from collections.abc import Callable

import pytest

FULL = os.environ.get("LMTOOL_TORTURE") == "1"

Many = Callable[[int, int], int]
"""The fixture `many`: number of tries, beside the other tests and under `make torture`."""

Tally = Callable[..., None]
"""The fixture `tally`: adds figures to the table."""

torture_only = pytest.mark.torture
"""For a test in any folder that only `make torture` runs; see tests/conftest.py."""

scaled = pytest.mark.scaled
"""For a test in any folder that tries more under `make torture`; see `FULL`."""
