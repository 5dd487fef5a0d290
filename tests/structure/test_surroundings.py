"""Tests do not depend on the shell that runs them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from support import surroundings

PROGRAM = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
if len(sys.argv) > 2:
    from support import surroundings
    surroundings.reset()
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, signal.getsignal(signal.SIGHUP) == signal.SIG_DFL)
print(oct(os.umask(0)), os.environ.get("LC_ALL"))
sys.stdout.flush()
os.execvp("sh", ["sh", "-c", "echo $COLUMNS $NO_COLOR $LANG"])
"""


def spoil() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.umask(0o077)


def surrounded(*arguments: str) -> str:
    """What a process has that starts as a background job under nohup, with another umask and locale."""
    spoiled = {"PATH": os.environ["PATH"], "COLUMNS": "40", "NO_COLOR": "1", "LC_ALL": "C", "LANG": "C"}
    command = [sys.executable, "-c", PROGRAM, str(Path(__file__).parents[1]), *arguments]
    return subprocess.run(
        command, env=spoiled, preexec_fn=spoil, capture_output=True, text=True, timeout=60, check=True
    ).stdout


def test_signals_variables_and_umask_are_reset() -> None:
    assert surrounded("reset").splitlines() == ["True True", "0o22 None", "C.UTF-8"]
    assert surrounded().splitlines() == ["False False", "0o77 C", "40 1 C"]  # the positive control


def test_this_process_is_reset() -> None:
    assert not set(surroundings.VARIABLES) & os.environ.keys()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
