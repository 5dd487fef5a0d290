"""Every test in this folder needs what a machine may lack, and skips where that is missing."""

from pathlib import Path

import pytest

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark them, so that `pytest -m portability` finds them wherever they stand."""
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.portability)
