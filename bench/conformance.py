"""Conformance: an artifact's test vectors in every installed runtime, each in a separate process."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

from ..export.build import FLOATING
from ..export.parity import Case
from ..export.test_vectors.files import read_vectors
from ..runtime.artifact.artifact import Artifact
from ..runtime.io.text_table import text_table
from .backends.browser_process import SOFTWARE
from .backends.registry import BACKENDS, ONNXRUNTIME
from .backends.source import Source
from .candidates import Candidate, Skipped, run_beside
from .verification import Progress
from .workers.launch import CrashError, RefusedError, run_vectors_job

RUNTIMES = tuple(name for name in BACKENDS if name not in ("torch-compile", "openvino-default", SOFTWARE))
"""Runtimes that vectors are fed to; without those that repeat another one or choose another precision."""

_HEADER = ("runtime", "version", "worst error", "where", "other tokens", "")


@final
@dataclass(frozen=True)
class Conformance:
    """Results of one runtime for the vectors.

    Attributes:
        version: Version of the runtime's package.
        bound: Largest allowed difference, relative to the largest magnitude in a tensor if that exceeds 1.
        calls: Number of vector sets.
        loop_steps: Steps of the closed loop, which also runs on the runtime's own states.
        loop_differences: Steps with another most probable token, beyond rounding.
        cases: For each output, the call that differs most.
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
        """Whether every output is within the bound and every token of the closed loop is the expected one."""
        return self.worst.difference <= self.bound and self.loop_differences == 0

    @classmethod
    def from_report(cls, runtime: str, report: Mapping[str, Any]) -> "Conformance":
        """The results in the report of a worker process."""
        names = ("version", "bound", "calls", "loop_steps", "loop_differences")
        cases = [Case.from_json(case) for case in report["cases"]]
        return cls(runtime=runtime, cases=cases, **{name: report[name] for name in names})

    def to_json(self) -> dict[str, Any]:
        """The results, ready for JSON."""
        return {**asdict(self), "worst_difference": self.worst.difference, "passed": self.passed}

    def row(self) -> tuple[str, ...]:
        """The results as a row of the report's table."""
        worst, verdict = self.worst, "pass" if self.passed else "FAIL"
        where, differences = f"{worst.tensor}, {worst.name}", str(self.loop_differences)
        return (self.runtime, self.version, f"{worst.difference:.1e}", where, differences, verdict)


@final
@dataclass(frozen=True)
class ConformanceReport:
    """Results of all runtimes.

    Attributes:
        artifact: The file.
        expected_from: What computed the expected outputs.
        bound: Largest allowed difference.
        results: Runtimes that ran.
        failed: Runtime -> why it cannot run the file, or how it crashed.
        skipped: Runtime -> why it did not run: not installed, or without onnxruntime's operators for quantized files.
    """

    artifact: Path
    expected_from: str
    bound: float
    results: Sequence[Conformance]
    failed: Mapping[str, str]
    skipped: Skipped

    @property
    def passed(self) -> bool:
        """Whether a runtime ran, none failed, and all passed."""
        return bool(self.results) and not self.failed and all(result.passed for result in self.results)

    def format(self, width: int | None = None) -> str:
        """The results as a table, in `width` columns; None: no limit."""
        calls = "no call"
        if self.results:
            first = self.results[0]
            calls = f"{first.calls} calls, {first.loop_steps} of them a closed loop"
        lines = [
            f"{self.artifact}: test vectors by {self.expected_from}, {calls}; allowed {self.bound:.0e}",
            *text_table([_HEADER, *(result.row() for result in self.results)], indent="  ", width=width),
            *(f"  {name}: FAILED: {reason}" for name, reason in self.failed.items()),
            *(f"  {name}: not run: {reason}" for name, reason in self.skipped.items()),
        ]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The results, ready for JSON."""
        return {
            "artifact": str(self.artifact),
            "expected_from": self.expected_from,
            "bound": self.bound,
            "runtimes": [result.to_json() for result in self.results],
            "failed": dict(self.failed),
            "skipped": self.skipped,
            "passed": self.passed,
        }


def check_conformance(artifact: Path, runtimes: Sequence[str], provider: str, progress: Progress) -> ConformanceReport:
    """Feed the test vectors beside an artifact to runtimes.

    Args:
        artifact: The file.
        runtimes: Names out of `RUNTIMES`.
        provider: Execution provider of onnxruntime; every other runtime computes on the processor.
        progress: Receives one line for each step.

    Raises:
        StorageError: A file cannot be read.
        ArtifactError: It is not an artifact.
        ExportError: There are no vectors beside it, they belong to another file, or they are damaged.
    """
    known = Artifact.read(artifact)
    vectors = read_vectors(artifact, known)
    results: list[Conformance] = []
    failed: dict[str, str] = {}
    skipped: Skipped = {}
    for name in dict.fromkeys(runtimes):
        if reason := _reason_to_skip(name, artifact, known.precision):
            skipped[name] = reason
            continue
        progress(f"test vectors in {name}")
        source = Source(artifact, run_beside(artifact), provider if name == ONNXRUNTIME else "cpu")
        try:
            results.append(Conformance.from_report(name, run_vectors_job(Candidate(name, source))))
        except RefusedError as error:
            (failed if known.precision in FLOATING or known.is_static else skipped)[name] = str(error)
        except CrashError as error:
            failed[name] = str(error)
    return ConformanceReport(artifact, vectors.expected_from, vectors.bound, results, failed, skipped)


def _reason_to_skip(name: str, artifact: Path, precision: str) -> str | None:
    """Why a runtime is not run; None if it is."""
    spec = BACKENDS[name]
    if spec.runs_original and (run_beside(artifact) is None or precision not in FLOATING):
        return f"it runs the original, and runs if {' or '.join(FLOATING)} lies in its run folder"
    if precision not in FLOATING and not spec.runs_int8:
        return f"it does not run {precision} artifacts"
    return spec.reason_missing()
