"""Verification before any timing: which candidates compute what the original computes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from ..runtime.errors import ProviderError
from .backends.registry import ONNXRUNTIME
from .candidates import Candidates, Skipped
from .errors import BenchError
from .roofline import Roofline
from .scenario import Scenario
from .workers.launch import CrashError, RefusedError, run_verification_job

Progress = Callable[[str], None]
"""Is told each step, one line a call."""


@final
@dataclass
class VerificationResults:
    """What became of the candidates; by runtime name.

    Attributes:
        candidates: Those that passed.
        reports: What each verification measured.
        placement: Provider -> operator -> number of nodes.
        rooflines: What bounds a step on this machine, where that was measured.
        failed: By what it differs from the original.
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
    """Compare each with the original, in a process of its own.

    Args:
        candidates: What is to be measured.
        progress: Is told each step.
        scenarios: What will be timed; calls of those sizes are compared too.
        required: An artifact whose provider must take it.

    Raises:
        ProviderError: The required artifact is refused by its provider.
        BenchError: It is refused for another reason.
    """
    found = VerificationResults()
    for name, candidate in candidates.items():
        if candidate.is_original:
            found.candidates[name] = candidate
            continue
        progress(f"parity of {name} with the original")
        try:
            _record(found, name, run_verification_job(candidate, scenarios))
        except CrashError as error:
            found.crashed[name] = str(error)
        except RefusedError as error:
            if candidate.backend == ONNXRUNTIME and candidate.source.artifact == required:
                raise (ProviderError if error.by_provider else BenchError)(str(error)) from error
            found.skipped[name] = str(error)
        else:
            if name not in found.failed:
                found.candidates[name] = candidate
    return found


def _record(found: VerificationResults, name: str, report: dict[str, Any]) -> None:
    if "placement" in report:
        found.placement[name] = report.pop("placement")
    if "roofline" in report:
        found.rooflines[name] = Roofline(**report.pop("roofline"))
    found.reports[name] = report
    if not report["passed"]:
        found.failed[name] = report["failures"]
