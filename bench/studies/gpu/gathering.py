"""Run the parts one after the other, each in a separate process, within the time that is left."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, final

from lmtool.bench.environment import describe_environment
from lmtool.runtime.io.files import make_folder, temporary_folder

import gpu
from gpu.evidence import Evidence, Found
from gpu.part import FAILED, Setup

_STUDIES = Path(__file__).parents[1]
_LEAST_SECONDS = 5.0
"""A part that would have less is left out."""
_LAST_LINES = 30


@final
@dataclass(frozen=True)
class Part:
    """A part: a function of a module, and the longest time that it may take.

    Attributes:
        function: `MODULE.FUNCTION`.
        title: The part in words.
        limit_seconds: Its longest time.
        needs: Precisions of the artifacts that it runs; `exports` writes them.
    """

    function: str
    title: str
    limit_seconds: float
    needs: Sequence[str] = ()

    @property
    def name(self) -> str:
        """Its short name."""
        return self.function.rpartition(".")[2]


PARTS = (
    Part("gpu.checks.smoke", "Smoke test: sessions and placement", 90),
    Part("gpu.checks.tests", "tests/test_cuda.py", 170),
    Part("gpu.figures.training", "Training in fp32", 80),
    Part("gpu.checks.exports", "Exports, verified on the device", 120),
    Part("gpu.figures.streams", "Benchmark of streams", 170, ["fp32"]),
    Part("gpu.figures.prefill", "Benchmark of prefill and scoring", 120, ["fp32"]),
    Part("gpu.checks.differences", "Differences from fp32 on the processor", 60, ["fp32"]),
    Part("gpu.checks.invariance", "Batch invariance", 60, ["fp32"]),
    Part("gpu.figures.pool", "Stream pool", 60, ["fp32"]),
    Part("gpu.figures.half", "Benchmark of fp16", 90, ["fp16"]),
    Part("gpu.figures.faster_trainings", "Trainings in TF32 and bf16", 120),
    Part("gpu.figures.graphs", "CUDA graphs", 60, ["fp32"]),
)
"""The most valuable first."""


def gather(parts: Sequence[Part], setup: Setup, evidence: Evidence, seconds: float) -> None:
    """Run the parts and write the evidence after each.

    Raises:
        StorageError: A file cannot be written.
    """
    end = time.monotonic() + seconds
    with (setup.out / "gpu.log").open("w") as log:
        for part in parts:
            evidence.parts[part.name] = found = _outcome(part, setup, end - time.monotonic(), log)
            evidence.write(setup.out)
            print(f"{part.title}: {found.seconds:.0f} s{', trouble: see gpu.md' * bool(found.trouble)}", flush=True)


def _outcome(part: Part, setup: Setup, left: float, log: IO[str]) -> Found:
    """Findings of a part, or the reason why it did not run."""
    if lacking := [precision for precision in part.needs if precision not in setup.artifacts()]:
        return Found(part.title, trouble=f"not run: exports wrote no artifact in {' and '.join(lacking)}")
    if left < _LEAST_SECONDS:
        return Found(part.title, trouble="not run: no time was left")
    begin = time.monotonic()
    found = _run(part, setup, min(left, part.limit_seconds), log)
    return replace(found, seconds=time.monotonic() - begin)


def _run(part: Part, setup: Setup, limit: float, log: IO[str]) -> Found:
    module, _, function = part.function.rpartition(".")
    report = setup.work / f"{function}.json"
    log.write(f"=== {part.title}\n")
    log.flush()
    start = log.tell()
    command = [sys.executable, "-m", "gpu.part", module, function, setup.to_json(), str(report)]
    with _process(command, log) as process:
        try:
            code = process.wait(limit)
            trouble = f"its process ended with {code}" if code else ""
        except subprocess.TimeoutExpired:
            trouble = f"stopped after {limit:.0f} s"
    facts = json.loads(report.read_text()) if report.exists() else {}
    reasons = [facts.pop(FAILED, ""), trouble, _end_of_log(log, start) if trouble else ""]
    return Found(part.title, facts=facts, trouble="\n".join(filter(None, reasons)))


@contextmanager
def _process(command: Sequence[str], log: IO[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with all that it has started when the block is left."""
    paths = [str(_STUDIES), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
    streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
    process = subprocess.Popen(command, **streams, env=environment, process_group=0)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _end_of_log(log: IO[str], start: int) -> str:
    text = Path(log.name).read_bytes()[start:].decode(errors="replace")
    return "\n".join(text.splitlines()[-_LAST_LINES:])


def _commit() -> str | None:
    """The commit of the source, with `-dirty` where files differ from it; None outside a clone."""
    command = ["git", "-C", str(_STUDIES), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        finished = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return None
    return finished.stdout.strip() or None


def main() -> int:
    """Parse the arguments, gather; 1 if a part is not well."""
    description = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("gpu", description=gpu.__doc__, formatter_class=description)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--seconds", type=float, default=570.0, help="time of all parts together")
    parser.add_argument("--data", default="pydocs", help="corpus of the training")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu rehearses without a GPU")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch and of a session")
    names = [part.name for part in PARTS]
    parser.add_argument("--part", action="append", choices=names, help="only this part; most need exports")
    parser.add_argument("--commit", help="the commit, where the source is no clone")
    parser.add_argument("--small", action="store_true", help="tiny networks and few calls")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    make_folder(chosen.out)
    parts = [part for part in PARTS if chosen.part is None or part.name in chosen.part]
    evidence = Evidence(chosen.device, chosen.commit or _commit(), describe_environment())
    with temporary_folder() as work:
        setup = Setup(chosen.device, chosen.data, chosen.out.resolve(), work, chosen.threads, chosen.small)
        gather(parts, setup, evidence, chosen.seconds)
    return 0 if evidence.is_whole else 1
