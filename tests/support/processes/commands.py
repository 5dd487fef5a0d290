"""The command line as a user runs it: each command a process of its own, with its exit code, stdout and stderr."""

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, final

from support.runs.settings import SETTINGS

TRAIN = ["train", "--preset", "ptb-200", "--threads", "1"]
TRAIN += [argument for key, value in SETTINGS.items() for argument in ("--set", f"{key}={value}")]
PATIENCE_SECONDS = 120

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

Finished = subprocess.CompletedProcess[str]

# Importing torch takes longer than most commands. Commands are forked from a process that has done it; those of
# `started` begin from nothing, as a user's do.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["torch._dynamo", "lmtool.cli.app", "lmtool.model", "lmtool.export", "lmtool.bench.demo", "onnxruntime"]
)


def counted(codes: Mapping[int, int]) -> str:
    """How many commands ended with each exit code."""
    return "; ".join(f"{count} x {code}" for code, count in sorted(codes.items()))


def unclear_failure(finished: Finished) -> list[str]:
    """What is wrong with how a command failed: it should be with exit code 1 and one clear line."""
    return _unclear(finished, {1}, {1})


def unclear_stop(finished: Finished, number: int) -> list[str]:
    """What is wrong with how a command ended that a signal was sent to.

    The exit code is 128 + its number, or 0 where it came too late; whether it did is for the test to say. One line at
    most says so.
    """
    return _unclear(finished, {128 + number, 0}, {0, 1})


def _unclear(finished: Finished, codes: set[int], errors: set[int]) -> list[str]:
    found = [] if finished.returncode in codes else [f"exit {finished.returncode}"]
    said = sum(line.startswith("error: ") for line in finished.stderr.splitlines())
    if said not in errors or "Traceback" in finished.stderr or "Exception ignored" in finished.stderr:
        found.append(finished.stderr)
    return found


@final
class Command:
    """The command in a process that is forked, which saves its imports; it waits at its start until `go` is called.

    `prepare` runs in that process before the command does: a module's own function without arguments, which may change
    what the command will find there.
    """

    def __init__(
        self,
        *arguments: object,
        cwd: Path | None = None,
        stdin: str | bytes = "",
        prepare: Callable[[], None] | None = None,
    ) -> None:
        self._arguments = list(map(str, arguments))
        self._folder = tempfile.TemporaryDirectory()
        self._files = [Path(self._folder.name) / name for name in ("stdin", "stdout", "stderr")]
        self._files[0].write_bytes(stdin.encode() if isinstance(stdin, str) else stdin)
        self._gate, theirs = CONTEXT.Pipe()
        self._process = CONTEXT.Process(target=_run, args=(self._arguments, cwd, self._files, theirs, prepare))
        self._process.start()
        theirs.close()
        self._gate.recv()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def go(self) -> "Command":
        self._gate.send(None)
        return self

    def signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def freeze(self) -> bool:
        """Hold it in the middle of what it does, until `thaw`; False where it had ended. Linux's `/proc` tells."""
        self.signal(signal.SIGSTOP)
        while (state := self._told("State")[:1]) not in ("T", "Z", ""):
            time.sleep(0.001)
        return state == "T"

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def listening(self) -> "Command":
        """Wait until it has said what SIGTERM does to it, or has ended; before that it would be killed, as all are."""
        while (caught := self._told("SigCgt")) and not int(caught, 16) >> (signal.SIGTERM - 1) & 1:
            time.sleep(0.001)
        return self

    def _told(self, name: str) -> str:
        """A line of the process's status; nothing where it has ended."""
        try:
            status = (Path("/proc") / str(self.pid) / "status").read_text()
        except OSError:
            return ""
        return next((line.partition(":")[2].strip() for line in status.splitlines() if line.startswith(f"{name}:")), "")

    def runs_for(self, seconds: float) -> bool:
        """Wait so long at most; whether it still runs."""
        self._process.join(seconds)
        return self._process.is_alive()

    def finished(self, patience_seconds: float = PATIENCE_SECONDS) -> Finished:
        """Wait for the end: exit code (minus the number of the signal that killed it), stdout, stderr."""
        if self.runs_for(patience_seconds):
            self._process.kill()
            raise TimeoutError(f"{self._arguments} ran longer than {patience_seconds} s")
        code = self._process.exitcode
        assert code is not None
        # Messages may name a file whose name is not UTF-8.
        stdout, stderr = (
            file.read_bytes().decode(errors=errors) if file.exists() else ""
            for file, errors in zip(self._files[1:], ("strict", "backslashreplace"), strict=True)
        )
        self._process.close()
        self._gate.close()
        self._folder.cleanup()
        return Finished(self._arguments, code, stdout, stderr)


def lmtool(*arguments: object, patience_seconds: float = PATIENCE_SECONDS, **options: Any) -> Finished:
    """The command from its start to its end; `options` as of `Command`."""
    return Command(*arguments, **options).go().finished(patience_seconds)


def _run(
    command: list[str], cwd: Path | None, files: list[Path], gate: Connection, prepare: Callable[[], None] | None
) -> None:
    if cwd is not None:
        os.chdir(cwd)
    for number, (file, flags) in enumerate(zip(files, (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY), strict=True)):
        os.dup2(os.open(file, flags | os.O_CREAT), number)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 (multiprocessing had put another there)
    sys.argv = ["lmtool", *command]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    from lmtool import cli

    if prepare is not None:
        prepare()
    cli._run = _unblocked(cli._run)
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    gate.send(None)
    gate.recv()
    try:
        cli.main()
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def _unblocked(run: Callable[[], None]) -> Callable[[], None]:
    """Let signals meet the command, and not what starts it and ends it here."""

    def begin() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        run()

    return begin


def started(*arguments: object, cwd: Path | None = None, without: str = "", **options: Any) -> Finished:
    """The command in a new process, `options` as of `subprocess.run`; `without` names a package to be missing."""
    command = fresh_command(*arguments, without=without)
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.run(command, cwd=cwd, text=True, timeout=PATIENCE_SECONDS, check=False, **options)


def fresh_command(*arguments: object, without: str = "") -> list[str]:
    """What starts the command in a new process; `without` names a package to be missing."""
    hidden = f"sys.modules[{without!r}] = None; " if without else ""
    return [sys.executable, "-c", f"import sys; {hidden}from lmtool.cli import main; main()", *map(str, arguments)]


def done(*arguments: object, **options: Any) -> str:
    """The stdout of a command that ends well."""
    finished = lmtool(*arguments, **options)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def as_json(*arguments: object, **options: Any) -> Any:
    """What the command prints with `--json`."""
    return json.loads(done(*arguments, "--json", **options))
