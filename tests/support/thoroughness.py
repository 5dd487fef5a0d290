"""How much of the torture tests runs: a little beside the other tests, everything under `make torture`."""

import os

import pytest

FULL = os.environ.get("LMTOOL_TORTURE") == "1"

torture_only = pytest.mark.skipif(not FULL, reason="takes long, and smaller tests look at the same: make torture")
