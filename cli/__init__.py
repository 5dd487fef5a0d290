"""The command line: `lmtool COMMAND`, or `python -m lmtool.cli COMMAND`."""

import importlib.util
import signal
import sys
from types import FrameType

__all__ = ["main"]


def main() -> None:
    """Run the command in `sys.argv` and exit with its code."""
    missing = [name for name in ("typer", "rich") if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(f"error: the command line needs {' and '.join(missing)}; pip install 'lmtool[cli]'")
    from .app import app

    signal.signal(signal.SIGTERM, _end)
    app()


def _end(number: int, _: FrameType | None) -> None:
    """End in order, so that temporary files go and child processes are waited for."""
    sys.exit(128 + number)
