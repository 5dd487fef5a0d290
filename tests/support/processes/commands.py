"""Runs commands in processes, forked or fresh, and returns exit code, stdout and stderr."""

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

# Importing torch takes longer than most commands, so commands are forked from a process that has imported it. Those of
# `run_fresh` start from nothing, as a user's do.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        *("torch._dynamo", "lmtool.cli.app", "lmtool.model.training.train", "lmtool.model.evaluation"),
        *("lmtool.export", "lmtool.bench.demo", "onnxruntime"),
    ]
)


def count_by_exit_code(codes: Mapping[int, int]) -> str:
    """Number of commands with each exit code, as text."""
    return "; ".join(f"{count} x {code}" for code, count in sorted(codes.items()))


def unclear_failure(finished: Finished) -> list[str]:
    """Problems of a failed command, which should have exit code 1 and print one clear line."""
    return _unclear(finished, {1}, {1})


def unclear_stop(finished: Finished, number: int) -> list[str]:
    """Problems of a command that got a signal.

    Its exit code should be 128 + the number, or 0 if the signal came too late, with one line at most on stderr.
    """
    return _unclear(finished, {128 + number, 0}, {0, 1})


def _unclear(finished: Finished, codes: set[int], errors: set[int]) -> list[str]:
    problems = [] if finished.returncode in codes else [f"exit {finished.returncode}"]
    messages = sum(line.startswith("error: ") for line in finished.stderr.splitlines())
    if messages not in errors or "Traceback" in finished.stderr or "Exception ignored" in finished.stderr:
        problems.append(finished.stderr)
    return problems


@final
class Command:
    """A command in a forked process; it waits at its start until `go` is called.

    `prepare`, a module-level function without arguments, runs in that process before the command (see
    `faults.injection`).
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
        """Send a signal; ignored if the process has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def freeze(self) -> bool:
        """Stop it until `thaw`; False if it has ended."""
        self.signal(signal.SIGSTOP)
        while (state := self._status("State")[:1]) not in ("T", "Z", ""):
            time.sleep(0.001)
        return state == "T"

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def listening(self) -> "Command":
        """Wait until it handles SIGTERM or has ended; before that, SIGTERM would kill it."""
        while (caught := self._status("SigCgt")) and not int(caught, 16) >> (signal.SIGTERM - 1) & 1:
            time.sleep(0.001)
        return self

    def _status(self, name: str) -> str:
        """A field of /proc/PID/status; empty if the process has ended."""
        try:
            status = (Path("/proc") / str(self.pid) / "status").read_text()
        except OSError:
            return ""
        return next((line.partition(":")[2].strip() for line in status.splitlines() if line.startswith(f"{name}:")), "")

    def runs_for(self, seconds: float) -> bool:
        """Wait at most this long; whether it still runs."""
        self._process.join(seconds)
        return self._process.is_alive()

    def finished(self, patience_seconds: float = PATIENCE_SECONDS) -> Finished:
        """Wait for the end; the exit code is minus the number of the signal that killed it."""
        if self.runs_for(patience_seconds):
            self._process.kill()
            raise TimeoutError(f"{self._arguments} ran longer than {patience_seconds} s")
        code = self._process.exitcode
        assert code is not None
        # Messages may name files whose names are not UTF-8.
        stdout, stderr = (
            file.read_bytes().decode(errors=errors) if file.exists() else ""
            for file, errors in zip(self._files[1:], ("strict", "backslashreplace"), strict=True)
        )
        self._process.close()
        self._gate.close()
        self._folder.cleanup()
        return Finished(self._arguments, code, stdout, stderr)


def lmtool(*arguments: object, patience_seconds: float = PATIENCE_SECONDS, **options: Any) -> Finished:
    """Run a command; `options` as of `Command`."""
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
    """Block signals outside the command itself."""

    def begin() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        run()

    return begin


def run_fresh(*arguments: object, cwd: Path | None = None, without: str = "", **options: Any) -> Finished:
    """Run a command in a fresh process, `options` as of `subprocess.run`; package `without` is missing."""
    command = fresh_command(*arguments, without=without)
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.run(command, cwd=cwd, text=True, timeout=PATIENCE_SECONDS, check=False, **options)


def fresh_command(*arguments: object, without: str = "") -> list[str]:
    """The arguments that start a command in a fresh process; package `without` is missing."""
    hidden = f"sys.modules[{without!r}] = None; " if without else ""
    return [sys.executable, "-c", f"import sys; {hidden}from lmtool.cli import main; main()", *map(str, arguments)]


def output_of(*arguments: object, **options: Any) -> str:
    """The stdout of a command that succeeds."""
    finished = lmtool(*arguments, **options)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def json_output_of(*arguments: object, **options: Any) -> Any:
    """The result of a command with `--json`."""
    return json.loads(output_of(*arguments, "--json", **options))


def json_lines_of(*arguments: object, **options: Any) -> list[Any]:
    """The results of a command whose `--json` prints JSON lines."""
    return [json.loads(line) for line in output_of(*arguments, "--json", **options).splitlines()]
