"""Conformance: an artifact's test vectors in every runtime that is there, each in a process of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

from ..export.build import STANDARD
from ..export.parity import Case
from ..export.test_vectors.files import read_vectors
from ..runtime.artifact.artifact import Artifact
from .backends.registry import BACKENDS, ONNXRUNTIME, TORCH, Source
from .candidates import Candidate, Skipped, run_beside
from .verification import Progress
from .workers.launch import CrashError, RefusedError, run_vectors_job

RUNTIMES = tuple(name for name in BACKENDS if name not in ("torch-compile", "openvino-default"))
"""What vectors can be fed to: not what is the original once more, nor what computes in another precision on its own."""


@final
@dataclass(frozen=True)
class Conformance:
    """What one runtime gave for the vectors.

    Attributes:
        runtime: Its name.
        version: Of the package that it comes in.
        bound: Largest difference that is allowed, relative to the largest magnitude in a tensor where that exceeds 1.
        calls: How many sets were run.
        loop_steps: Steps of the closed loop, which was also run on the runtime's own states.
        loop_differences: Steps whose most probable token is another one beyond rounding.
        cases: Of each output, the call that differs most.
    """

    runtime: str
    version: str
    bound: float
    calls: int
    loop_steps: int
    loop_differences: int
    cases: Sequence[Case]

    @property
    def worst(self) -> Case:
        """The case with the largest difference."""
        return max(self.cases, key=lambda case: case.difference)

    @property
    def passed(self) -> bool:
        """Whether every output is within the bound and no token of the closed loop is another one."""
        return self.worst.difference <= self.bound and self.loop_differences == 0

    def to_json(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return {**asdict(self), "worst_difference": self.worst.difference, "passed": self.passed}


@final
@dataclass(frozen=True)
class ConformanceReport:
    """What became of every runtime.

    Attributes:
        artifact: The file.
        expected_from: What computed the expected outputs.
        bound: What is allowed.
        found: What ran.
        failed: What is there and cannot run the file, or died over it: runtime -> how.
        skipped: What is not there, or lacks the operators of a quantized file, which are onnxruntime's own: runtime ->
            why.
    """

    artifact: Path
    expected_from: str
    bound: float
    found: Sequence[Conformance]
    failed: Mapping[str, str]
    skipped: Skipped

    @property
    def passed(self) -> bool:
        """Whether something ran, nothing failed, and every runtime passed."""
        return bool(self.found) and not self.failed and all(each.passed for each in self.found)

    def format(self) -> str:
        """A table."""
        rows: list[tuple[str, ...]] = [("runtime", "version", "worst error", "where", "other tokens", "")]
        rows += [_row(each) for each in self.found]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        calls = (
            f"{self.found[0].calls} calls, {self.found[0].loop_steps} of them a closed loop"
            if self.found
            else "no call"
        )
        lines = [
            f"{self.artifact}: test vectors by {self.expected_from}, {calls}; allowed {self.bound:.0e}",
            *(f"  {line}" for line in table),
            *(f"  {name}: FAILED: {reason}" for name, reason in self.failed.items()),
            *(f"  {name}: not run: {reason}" for name, reason in self.skipped.items()),
        ]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return {
            "artifact": str(self.artifact),
            "expected_from": self.expected_from,
            "bound": self.bound,
            "runtimes": [each.to_json() for each in self.found],
            "failed": dict(self.failed),
            "skipped": self.skipped,
            "passed": self.passed,
        }


def check_conformance(artifact: Path, runtimes: Sequence[str], provider: str, progress: Progress) -> ConformanceReport:
    """Feed the vectors that lie beside an artifact to runtimes.

    Args:
        artifact: The file.
        runtimes: Which, of `RUNTIMES`.
        provider: The execution provider of onnxruntime; every other runtime computes on the processor.
        progress: Is told each step.

    Raises:
        StorageError: A file cannot be read.
        ArtifactError: It is no artifact.
        ExportError: There are no vectors beside it, they are another file's, or they are damaged.
    """
    known = Artifact.read(artifact)
    vectors = read_vectors(artifact, known)
    found: list[Conformance] = []
    failed: dict[str, str] = {}
    skipped: Skipped = {}
    for name in dict.fromkeys(runtimes):
        if reason := _reason_to_skip(name, artifact, known.precision):
            skipped[name] = reason
            continue
        progress(f"test vectors in {name}")
        source = Source(artifact, run_beside(artifact), provider if name == ONNXRUNTIME else "cpu")
        try:
            found.append(_conformance(name, run_vectors_job(Candidate(name, source))))
        except RefusedError as error:
            (failed if known.precision in STANDARD else skipped)[name] = str(error)
        except CrashError as error:
            failed[name] = str(error)
    return ConformanceReport(artifact, vectors.expected_from, vectors.bound, found, failed, skipped)


def _reason_to_skip(name: str, artifact: Path, precision: str) -> str | None:
    """Why a runtime is not asked; None where it is."""
    if name == TORCH and (run_beside(artifact) is None or precision not in STANDARD):
        return f"it is the original, which is asked where {' or '.join(STANDARD)} lies in its run folder"
    return BACKENDS[name].reason_missing()


def _conformance(name: str, report: dict[str, Any]) -> Conformance:
    return Conformance(
        name,
        report["version"],
        report["bound"],
        report["calls"],
        report["loop_steps"],
        report["loop_differences"],
        [Case.from_json(case) for case in report["cases"]],
    )


def _row(found: Conformance) -> tuple[str, ...]:
    worst = found.worst
    where = f"{worst.tensor}, {worst.name}"
    verdict = "pass" if found.passed else "FAIL"
    return (found.runtime, found.version, f"{worst.difference:.1e}", where, str(found.loop_differences), verdict)
