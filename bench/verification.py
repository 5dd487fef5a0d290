"""Verification before any timing: which contenders compute what the original computes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from ..runtime.errors import ProviderError
from .backends.registry import ONNXRUNTIME
from .candidates import Contenders, LeftOut
from .errors import BenchError
from .roofline import Floor
from .scenario import Scenario
from .workers.launch import CrashError, RefusedError, verified

Say = Callable[[str], None]
"""Is told each step, one line a call."""


@final
@dataclass
class Qualifying:
    """What became of the contenders; by runtime name.

    Attributes:
        contenders: Those that passed.
        reports: What each verification measured.
        placement: Provider -> operator -> number of nodes.
        floors: What bounds a step on this machine, where that was measured.
        failed: By what it differs from the original.
        crashed: How its process ended.
        left_out: Why it cannot run here.
    """

    contenders: Contenders = field(default_factory=dict)
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    placement: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    floors: dict[str, Floor] = field(default_factory=dict)
    failed: dict[str, list[str]] = field(default_factory=dict)
    crashed: dict[str, str] = field(default_factory=dict)
    left_out: LeftOut = field(default_factory=dict)


def qualify(
    contenders: Contenders, say: Say, scenarios: Sequence[Scenario] = (), required: Path | None = None
) -> Qualifying:
    """Compare each with the original, in a process of its own.

    Args:
        contenders: What is to be measured.
        say: Is told each step.
        scenarios: What will be timed; calls of those sizes are compared too.
        required: An artifact whose provider must take it.

    Raises:
        ProviderError: The required artifact is refused by its provider.
        BenchError: It is refused for another reason.
    """
    found = Qualifying()
    shapes = list(dict.fromkeys(shape for scenario in scenarios if (shape := scenario.shape) is not None))
    for name, contender in contenders.items():
        if contender.is_original:
            found.contenders[name] = contender
            continue
        say(f"parity of {name} with the original")
        try:
            _take(found, name, verified(contender, shapes))
        except CrashError as error:
            found.crashed[name] = str(error)
        except RefusedError as error:
            if contender.kind == ONNXRUNTIME and contender.source.artifact == required:
                raise (ProviderError if error.by_provider else BenchError)(str(error)) from error
            found.left_out[name] = str(error)
        else:
            if name not in found.failed:
                found.contenders[name] = contender
    return found


def _take(found: Qualifying, name: str, report: dict[str, Any]) -> None:
    if "placement" in report:
        found.placement[name] = report.pop("placement")
    if "floor" in report:
        found.floors[name] = Floor(**report.pop("floor"))
    found.reports[name] = report
    if not report["passed"]:
        found.failed[name] = report["failures"]
