"""The blocks of the documentation's pages, run in order in a folder as after `make demo`.

The commands of a page run first and share its folder; its Python blocks follow and share one process. A comment before
a block is one of:

    <!-- skip: needs a GPU -->          the block does not run, for this reason (see `support.pages.is_reason`)
    <!-- exit code: 3 -->               of its last command
    <!-- output: illustrative -->       words of the output may differ; otherwise only numbers and white space

A page with `<!-- server: http://127.0.0.1:8000 -->` finds `lmtool serve` at that address. The output of a Python block
is the block of text that follows it.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.pages import PAGES, ROOT, Block, blocks, is_reason, same_output
from support.processes.commands import PATIENCE_SECONDS
from support.servers import ServerProcess

RUNNABLE = {"python", "console", "shell"}
_SERVER = re.compile(r"^<!-- server: (\S+) -->$", re.M)


def runnable(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.language in RUNNABLE]


def with_blocks() -> list[Path]:
    return [page for page in PAGES if any(not block.skip for block in runnable(page))]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@contextlib.contextmanager
def served(page: Path, place: Path) -> Iterator[tuple[str, str]]:
    """The address on the page, and the address of the test's server."""
    match = _SERVER.search(page.read_text(encoding="utf-8"))
    if match is None:
        yield "http://127.0.0.1:8000", "http://127.0.0.1:8000"
        return
    with ServerProcess(place / "runs" / "demo" / "model.onnx") as server:
        yield match[1], server.url


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_skipped_block_has_a_reason(page: Path) -> None:
    for block in blocks(page):
        assert not block.skip or is_reason(block.skip), f"{name(page)}:{block.line}: {block.skip!r} is no known reason"


@pytest.mark.skipif(not (shutil.which("bash") and shutil.which("curl")), reason="pages use bash and curl")
@pytest.mark.parametrize("page", with_blocks(), ids=name)
def test_blocks_run_and_print_what_the_page_shows(page: Path, place: Path) -> None:
    with served(page, place) as urls:
        ready = [block for block in runnable(page) if not block.skip]
        for block in ready:
            where = f"{name(page)}:{block.line}"
            if block.language == "shell":
                run_shell(f"set -e\n{block.body.replace(*urls)}", place, block.exit_code, where)
            elif block.language == "console":
                run_session(block, place, urls, where)
        programs = [block for block in ready if block.language == "python"]
        outputs = run_python([block.body.replace(*urls) for block in programs], place) if programs else []
        for block, printed in zip(programs, outputs, strict=True):
            compare(block, block.shows, printed, f"{name(page)}:{block.line}")


def run_session(block: Block, place: Path, urls: tuple[str, str], where: str) -> None:
    commands = block.commands
    for number, (command, shown) in enumerate(commands):
        code = block.exit_code if number == len(commands) - 1 else 0
        printed = run_shell(command.replace(*urls), place, code, f"{where}: {command}")
        compare(block, shown or None, printed, f"{where}: {command}")


def compare(block: Block, shown: str | None, printed: str, where: str) -> None:
    if shown is None:
        return
    if block.illustrative:
        assert printed.strip(), f"{where}: found no output, but the page shows one"
    else:
        assert same_output(shown, printed), f"{where}: the page shows\n{shown}\nbut this was printed:\n{printed}"


def run_python(bodies: list[str], place: Path) -> list[str]:
    """Run the blocks of a page in one new process; returns the output of each block."""
    mark = "---- the next block"
    program = f"\nprint({mark!r})\n".join(bodies)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=place,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    return done.stdout.split(f"{mark}\n")


def run_shell(command: str, place: Path, code: int, where: str) -> str:
    """Run a command; returns its stdout, or its stderr if stdout is empty."""
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=place,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == code, f"{where}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout if done.stdout.strip() else done.stderr


def environment() -> dict[str, str]:
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": programs, "COLUMNS": "120", "OMP_NUM_THREADS": "1"}
