"""Runs commands one after another in a fresh process: python sequence.py FOLDER, which has commands.json.

commands.json maps names to arguments. Exit codes, messages and the new files under HOME go to outcomes.json. `touch`
and `connect` are no commands of lmtool: they do to their arguments what no command may do.
"""

import contextlib
import functools
import io
import json
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

from support.runs.settings import SETTINGS


def _end_when_listening(port: str) -> None:
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(port))):
            return os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.02)


def _shorten_the_demo(data: str) -> None:
    """Train on a small corpus, and measure nothing: `bench` does."""
    from lmtool.bench import demo
    from lmtool.model import TrainOptions

    from support.models.results import make_results

    training = TrainOptions("ptb-200", data, settings=SETTINGS, threads=1)
    demo.run_demo = functools.partial(demo.run_demo, training=training)
    demo.run_bench = lambda *_: make_results({"onnx fp32": [[1e-3]]})


def _run(arguments: list[str]) -> dict[str, Any]:
    from lmtool.cli import main

    before = set(Path.home().rglob("*"))
    sys.argv = ["lmtool", *arguments]
    with contextlib.redirect_stderr(io.StringIO()) as errors:
        try:
            main()
            code: Any = 0
        except SystemExit as end:
            code = end.code
    new = sorted(str(path) for path in set(Path.home().rglob("*")) - before)
    return {"code": code, "errors": errors.getvalue()[-2000:], "new": new}


def _offend(name: str, arguments: list[str]) -> int:
    if name == "touch":
        for path in arguments:
            Path(path).touch()
        return 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams, contextlib.suppress(OSError):
        datagrams.connect((arguments[0], 9))  # sends nothing
    with contextlib.suppress(OSError):
        socket.getaddrinfo(arguments[1], 9)
    return 0


def run_all(folder: Path) -> None:
    """Run the commands of commands.json."""
    outcomes = {}
    for name, arguments in json.loads((folder / "commands.json").read_text()).items():
        if name == "serve":
            threading.Thread(target=_end_when_listening, args=[arguments[-1]], daemon=True).start()
        if name in ("touch", "connect"):
            outcomes[name] = {"code": _offend(name, arguments)}
            continue
        if name == "demo":
            _shorten_the_demo(arguments.pop())
        outcomes[name] = _run(arguments)
    (folder / "outcomes.json").write_text(json.dumps(outcomes))


if __name__ == "__main__":
    run_all(Path(sys.argv[1]))
