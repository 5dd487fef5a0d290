"""Signals that reach a server after it listens, and before its event loop runs."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.processes.commands import PATIENCE_SECONDS

# A client may stop the server as soon as it can connect. The event loop calls `socketpair` as it starts.
PROGRAM = """
import _socket, signal, sys
from lmtool.cli import main
from lmtool.serve import server

place, number, model = sys.argv[1], int(sys.argv[2]), sys.argv[3]
listen = server._listen

def listen_then_signal(options):
    listener = listen(options)
    patch(*{"listening": (server, "_url"), "loop": (_socket, "socketpair")}[place])
    return listener

def patch(module, name):
    function = getattr(module, name)

    def signal_first(*arguments):
        setattr(module, name, function)
        print("signal")
        signal.raise_signal(number)
        return function(*arguments)

    setattr(module, name, signal_first)

server._listen = listen_then_signal
sys.argv = ["lmtool", "serve", "--port", "0", "--model", model]
main()
"""


@pytest.mark.parametrize("place", ["listening", "loop"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_before_the_loop_runs_ends_the_server(artifact_path: Path, place: str, number: int, code: int) -> None:
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM, place, str(int(number)), str(artifact_path)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert "Traceback" not in finished.stderr
    assert finished.returncode == code
    assert finished.stdout.count("signal\n") == 1
    assert "serving" in finished.stdout
