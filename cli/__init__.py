"""The command line: `lmtool COMMAND`, or `python -m lmtool.cli COMMAND`."""

import importlib.util
import io
import os
import sys

from .signals import Interruptions

__all__ = ["main"]


def main() -> None:
    """Run the command in `sys.argv` and exit with its code."""
    try:
        with Interruptions():
            _run()
    except KeyboardInterrupt:  # while modules are still being loaded, or at the very end; commands handle their own
        print("error: interrupted", file=sys.stderr)
        sys.exit(130)


def _run() -> None:
    missing = [name for name in ("typer", "rich") if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(f"error: the command line needs {' and '.join(missing)}; pip install 'lmtool[cli]'")
    # torch's threads spin for each other, which beside other work on the machine makes them many times slower; a quiet
    # machine needs that for a few microseconds only.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # what its encoding lacks, as on stderr
    from .app import app

    app()
