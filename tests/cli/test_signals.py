"""SIGINT, SIGTERM and SIGHUP during an import, in a finalizer, and during shutdown."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from lmtool.model import Run
from support.processes.terminal import Terminal
from support.runs.settings import SETTINGS

SLOW = """
import os, time
os.kill(os.getpid(), {number})
time.sleep(0.22)  # not a multiple of the time between two tries
whole = True
"""
PROGRAM = """
import contextlib, os, signal, sys, time
from lmtool.cli.signals import SignalHandlers
signal.signal(signal.SIGINT, signal.default_int_handler)
{before}
with {block}:
    try:
        import slow
        time.sleep(1)
        print("went on", flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    finally:  # the signal may come between any two lines after the import
        print("imported", getattr(sys.modules.get("slow"), "whole", False), flush=True)
os.kill(os.getpid(), signal.SIGINT)
time.sleep(0.2)
"""


def run_program(
    folder: Path, number: signal.Signals, block: str = "SignalHandlers()", before: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a program that gets a signal during an import, and SIGINT at its end."""
    (folder / "slow.py").write_text(SLOW.format(number=int(number)))
    program = PROGRAM.format(block=block, before=before)
    return subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=60)


def test_sigint_waits_for_an_import_and_is_ignored_at_the_end(tmp_path: Path) -> None:
    finished = run_program(tmp_path, signal.SIGINT)
    assert finished.stdout.split("\n") == ["interrupted", "imported True", ""]
    assert (finished.returncode, finished.stderr) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_wait_for_an_import(tmp_path: Path, number: signal.Signals) -> None:
    finished = run_program(tmp_path, number)
    assert (finished.returncode, finished.stdout) == (128 + number, "imported True\n")


def test_a_second_block_handles_signals_too(tmp_path: Path) -> None:
    """As where a process calls `main` twice."""
    finished = run_program(tmp_path, signal.SIGTERM, before="with SignalHandlers(): pass")
    assert (finished.returncode, finished.stdout) == (128 + signal.SIGTERM, "imported True\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_ignored_signal_stays_ignored(tmp_path: Path, number: signal.Signals) -> None:
    finished = run_program(tmp_path, number, before=f"signal.signal({int(number)}, signal.SIG_IGN)")
    assert (finished.returncode, finished.stdout) == (0, "went on\nimported True\n")


def test_without_the_handlers_sigint_cuts_the_import(tmp_path: Path) -> None:
    """The positive control."""
    finished = run_program(tmp_path, signal.SIGINT, "contextlib.nullcontext()")
    assert finished.stdout == "interrupted\nimported False\n"
    assert finished.returncode == -signal.SIGINT


def test_a_training_on_a_terminal_that_is_closed_is_saved(tmp_path: Path, corpus_folder: Path) -> None:
    settings = [argument for key, value in SETTINGS.items() for argument in ("--set", f"{key}={value}")]
    command = ["train", "--preset", "ptb-200", "--data", corpus_folder, "--run", tmp_path / "run", *settings]
    with Terminal(*command, "--epochs", 9999, cwd=tmp_path) as terminal:
        terminal.read_until("valid perplexity")
        assert terminal.hang_up() == 129
    checkpoint = Run(tmp_path / "run").read_latest()
    assert checkpoint is not None
    assert checkpoint.facts["position"]["epoch"] >= 1


LAST = """
import os, signal, time
from lmtool import cli
from lmtool.cli.signals import SignalHandlers
signal.signal(signal.SIGINT, signal.default_int_handler)

class Held:
    def __del__(self):
        os.kill(os.getpid(), signal.{name})
        time.sleep(0.01)

def in_a_finalizer():
    held = Held()
    del held
    time.sleep(1)
    print("went on", flush=True)

def after_the_end():
    import atexit
    held = Held()
    atexit.register(lambda held: held, held)

def at_the_end():
    setitimer = signal.setitimer
    signal.setitimer = lambda *times: (os.kill(os.getpid(), signal.{name}), setitimer(*times))

{without}
cli._run = {where}
cli.main()
"""
CODES = {signal.SIGINT: (130, "error: interrupted\n"), signal.SIGTERM: (143, "")}


def ended_by_main(where: str, number: signal.Signals, without: str = "") -> subprocess.CompletedProcess[str]:
    program = LAST.format(where=where, name=number.name, without=without)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize("where", ["in_a_finalizer", "at_the_end"])
def test_a_signal_in_a_finalizer_ends_the_command(where: str, number: signal.Signals) -> None:
    finished = ended_by_main(where, number)
    assert finished.stdout == ""
    assert (finished.returncode, finished.stderr) == CODES[number]


@pytest.mark.parametrize("number", CODES)
def test_a_signal_during_shutdown_is_ignored(number: signal.Signals) -> None:
    finished = ended_by_main("after_the_end", number)
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")


def test_without_the_handlers_a_signal_in_a_finalizer_is_lost() -> None:
    """The positive control."""
    finished = ended_by_main(
        "in_a_finalizer", signal.SIGTERM, "import sys; SignalHandlers._on_unraisable = sys.__unraisablehook__"
    )
    assert (finished.returncode, finished.stdout) == (0, "went on\n")
    assert "Exception ignored in" in finished.stderr


def test_other_unraisable_errors_are_printed() -> None:
    """The positive control of the other kind: only our own exceptions are raised again."""
    other = "Held.__del__ = lambda self: 1 / 0"
    finished = ended_by_main("in_a_finalizer", signal.SIGTERM, other)
    assert (finished.returncode, finished.stdout) == (0, "went on\n")
    assert "ZeroDivisionError" in finished.stderr
