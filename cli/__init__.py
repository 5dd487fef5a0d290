"""The command line: `lmtool COMMAND`, or `python -m lmtool.cli COMMAND`."""

import importlib.util
import io
import os
import sys

from .signals import SignalHandlers

__all__ = ["main"]


def main() -> None:
    """Run the command in `sys.argv` and exit with its code."""
    try:
        with SignalHandlers():
            _run()
    except KeyboardInterrupt:  # while modules load, or at the very end; commands handle their own
        print("error: interrupted", file=sys.stderr)
        sys.exit(130)


def _run() -> None:
    missing = [name for name in ("typer", "rich") if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(f"error: the command line needs {' and '.join(missing)}; pip install 'lmtool[cli]'")
    # torch's threads spin while they wait for each other. Spin briefly: on a busy machine long spinning is many times
    # slower.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    from .app import app
    from .output import Stderr, Stdout

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = Stdout(sys.stdout.detach(), sys.stdout.encoding, "backslashreplace")  # escapes, as stderr does
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = Stderr(sys.stderr.detach(), sys.stderr.encoding, "backslashreplace", line_buffering=True)
    app(prog_name="lmtool")
