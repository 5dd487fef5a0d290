"""Verify candidates before any timing: only a backend that computes what its reference computes is timed."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from ..runtime.errors import ProviderError
from .backends.registry import ONNXRUNTIME
from .candidates import Candidate, Candidates, Skipped
from .errors import BenchError
from .roofline import Roofline
from .scenario import Scenario
from .workers.launch import CrashError, RefusedError, run_verification_job

Progress = Callable[[str], None]
"""Called with one line for each step."""


@final
@dataclass
class VerificationResults:
    """Results of the verification, by runtime name.

    Attributes:
        candidates: Candidates that passed.
        reports: What each verification measured.
        placement: Provider -> operator -> number of nodes.
        rooflines: Bound of a step on this machine, where it was measured.
        failed: How the candidate differs from its reference.
        crashed: How its process ended.
        skipped: Why it cannot run here.
    """

    candidates: Candidates = field(default_factory=dict)
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    placement: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    rooflines: dict[str, Roofline] = field(default_factory=dict)
    failed: dict[str, list[str]] = field(default_factory=dict)
    crashed: dict[str, str] = field(default_factory=dict)
    skipped: Skipped = field(default_factory=dict)


def verify_candidates(
    candidates: Candidates, progress: Progress, scenarios: Sequence[Scenario] = (), required: Path | None = None
) -> VerificationResults:
    """Compare each candidate with its reference; calls of the scenarios' sizes are compared too.

    Raises:
        ProviderError: The provider refuses the artifact `required`.
        BenchError: The artifact `required` is refused for another reason.
    """
    results = VerificationResults()
    for name, candidate in candidates.items():
        if candidate.is_original:
            results.candidates[name] = candidate
            continue
        progress(f"parity of {name}")
        try:
            report = run_verification_job(candidate, scenarios)
        except CrashError as error:
            results.crashed[name] = str(error)
        except RefusedError as error:
            if _is_required(candidate, required):
                raise (ProviderError if error.by_provider else BenchError)(str(error)) from error
            results.skipped[name] = str(error)
        else:
            _record(results, name, report)
            if report["passed"]:
                results.candidates[name] = candidate
    return results


def _is_required(candidate: Candidate, required: Path | None) -> bool:
    """Whether it is `required` in onnxruntime and in this environment."""
    is_here = candidate.python == sys.executable
    return is_here and candidate.backend == ONNXRUNTIME and candidate.source.artifact == required


def _record(results: VerificationResults, name: str, report: dict[str, Any]) -> None:
    if "placement" in report:
        results.placement[name] = report.pop("placement")
    if "roofline" in report:
        results.rooflines[name] = Roofline(**report.pop("roofline"))
    results.reports[name] = report
    if not report["passed"]:
        results.failed[name] = report["failures"]
