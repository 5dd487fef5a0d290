"""The command line as a user runs it: each command a process of its own, with its exit code, stdout and stderr."""

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tiny import SETTINGS

TRAIN = ["train", "--preset", "ptb-200", "--threads", "1"]
TRAIN += [argument for key, value in SETTINGS.items() for argument in ("--set", f"{key}={value}")]
PATIENCE_SECONDS = 120

Finished = subprocess.CompletedProcess[str]

# Importing torch takes longer than most commands. Commands are forked from a process that has done it; those of
# `started` begin from nothing, as a user's do.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["lmtool.cli.app", "lmtool.model", "lmtool.export", "lmtool.bench.demo", "onnxruntime"])


def lmtool(*arguments: object, cwd: Path | None = None, stdin: str | bytes = "") -> Finished:
    """The command in a process that is forked, which saves its imports."""
    command = list(map(str, arguments))
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("stdin", "stdout", "stderr")]
        files[0].write_bytes(stdin.encode() if isinstance(stdin, str) else stdin)
        process = CONTEXT.Process(target=_run, args=(command, cwd, files))
        process.start()
        process.join(PATIENCE_SECONDS)
        if process.is_alive():
            process.kill()
            raise TimeoutError(f"{command} ran longer than {PATIENCE_SECONDS} s")
        assert process.exitcode is not None
        stderr = files[2].read_bytes().decode(errors="backslashreplace")  # which may name a file that is not UTF-8
        return Finished(command, process.exitcode, files[1].read_bytes().decode(), stderr)


def _run(command: list[str], cwd: Path | None, files: list[Path]) -> None:
    if cwd is not None:
        os.chdir(cwd)
    for number, (file, flags) in enumerate(zip(files, (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY), strict=True)):
        os.dup2(os.open(file, flags | os.O_CREAT), number)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 (multiprocessing had put another there)
    sys.argv = ["lmtool", *command]
    from lmtool.cli import main

    main()


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
