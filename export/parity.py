"""The parity report: each comparison, its difference and its bound."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..runtime.score import format_perplexity
from .tolerances import BOUNDS, ROUNDINGS, Bounds

Array = NDArray[Any]

_SHOWN_CASES = 3
_ISSUES = "https://github.com/lmtool/lmtool/issues"
_LOOP = ("loop_steps", "loop_differences", "loop_disagreements")
_TEXT = ("text", "tokens", "original_perplexity", "artifact_perplexity")


@final
@dataclass(frozen=True)
class Case:
    """One tensor of a comparison.

    Attributes:
        name: The calls that were compared.
        tensor: `logits` or the name of a state.
        absolute: Largest absolute difference.
        scale: Largest magnitude in the original's tensor, at least 1.
        moved: The original's own rounding error along the same tokens: its largest absolute difference from float64 and
            from runs whose states move by rounding before each token. Measured where the plain bound is exceeded, else
            0. It is large where a cell counts for many steps, and where a network that has hardly been trained is
            chaotic.
    """

    name: str
    tensor: str
    absolute: float
    scale: float
    moved: float = 0.0

    @classmethod
    def of(cls, name: str, tensor: str, expected: Array, computed: Array) -> "Case":
        """Compare two tensors of one shape."""
        scale = max(float(np.abs(expected).max()), 1.0)
        return cls(name, tensor, float(np.abs(computed - expected).max()), scale)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Case":
        """Read a case that another process wrote; null stands for NaN and infinity, and becomes NaN."""
        fields: dict[str, Any] = {name: math.nan if entry is None else entry for name, entry in value.items()}
        return cls(**fields)

    @property
    def difference(self) -> float:
        """The difference relative to the scale; infinite instead of NaN."""
        relative = self.absolute / self.scale
        return relative if math.isfinite(relative) else math.inf

    def allowed(self, bounds: Bounds) -> float:
        """The largest absolute difference that is allowed."""
        return max(bounds.difference * self.scale, ROUNDINGS * self.moved if math.isfinite(self.moved) else 0.0)

    def allowed_text(self, bounds: Bounds) -> str:
        """The bound and its reason, for a message."""
        rounding = f", or {ROUNDINGS} times the {self.moved:.0e} that rounding moves the original" if self.moved else ""
        return f"{bounds.difference:g} of the scale{rounding}"

    def excess(self, bounds: Bounds) -> float:
        """The difference as a multiple of the bound; infinite instead of NaN."""
        allowed = self.allowed(bounds)
        if self.absolute == 0:
            return 0.0
        return self.absolute / allowed if allowed > 0 and math.isfinite(self.absolute / allowed) else math.inf


@final
@dataclass(frozen=True)
class Largest:
    """The largest differences of one tensor; the two may be of different comparisons.

    Attributes:
        absolute: Largest absolute difference.
        relative: Largest difference relative to the largest magnitude in the original's tensor, at least 1.
    """

    absolute: float = 0.0
    relative: float = 0.0

    def over(self, case: Case) -> "Largest":
        """Add a comparison; NaN counts as infinite."""
        absolute = case.absolute if math.isfinite(case.absolute) else math.inf
        return Largest(max(self.absolute, absolute), max(self.relative, case.difference))


@final
@dataclass(frozen=True)
class ParityReport:
    """The results of a verification.

    Attributes:
        precision: The artifact's precision.
        variant: The precision with its purpose, as in the artifact's default name.
        provider: Execution provider of the artifact.
        exported_from: Hash of the weights that the artifact records as its origin; None where it records none.
        original: Name of the reference that the artifact was compared with.
        original_sha256: Hash of the original's weights.
        cases: The tensor that differs most in each comparison.
        tensors: `logits` and the name of each state -> its largest differences.
        loop_steps: Steps of the closed loop, in which each side reads its own state and, while they agree, its own
            greedy token.
        loop_differences: Steps in which the greedy tokens differed.
        loop_disagreements: Those of them in which the original preferred its token by more than twice the allowed
            difference, which rounding does not explain.
        text: Source of the text that perplexities are measured on.
        tokens: Length of that text.
        original_perplexity: Perplexity of the original.
        artifact_perplexity: Perplexity of the artifact.
        batch_invariant: Whether the artifact's results are bit by bit the same in any batch and in any chunks.
    """

    precision: str
    variant: str
    provider: str
    exported_from: str | None
    original: str
    original_sha256: str
    cases: Sequence[Case]
    tensors: Mapping[str, Largest]
    loop_steps: int
    loop_differences: int
    loop_disagreements: int
    text: str
    tokens: int
    original_perplexity: float
    artifact_perplexity: float
    batch_invariant: bool

    @property
    def worst(self) -> Case:
        """The case that is closest to its limit, or furthest beyond it."""
        return max(self.cases, key=lambda case: case.excess(BOUNDS[self.precision]))

    @property
    def largest_difference(self) -> float:
        """The largest absolute difference of any tensor."""
        return max(most.absolute for most in self.tensors.values())

    @property
    def perplexity_change(self) -> float:
        """(artifact - original) / original."""
        return self.artifact_perplexity / self.original_perplexity - 1

    @property
    def failures(self) -> list[str]:
        """A sentence for each exceeded bound; of many cases, the worst."""
        bounds = BOUNDS[self.precision]
        broken = []
        if self.exported_from not in (None, self.original_sha256):
            broken.append("the artifact was exported from another network than this original; name its run: --run DIR")
        over = [case for case in self.cases if case.excess(bounds) > 1]
        over.sort(key=lambda case: -case.difference)
        broken += [
            f"{case.name}: {case.tensor} differs by {case.absolute:.2e} at scale {case.scale:.1f}, "
            f"allowed {case.allowed_text(bounds)}"
            for case in over[:_SHOWN_CASES]
        ]
        if len(over) > _SHOWN_CASES:
            broken.append(f"and {len(over) - _SHOWN_CASES} more of {len(self.cases)} cases")
        if self.loop_disagreements:
            broken.append(f"closed loop: {self.loop_disagreements} of {self.loop_steps} tokens differ beyond rounding")
        if not abs(self.perplexity_change) <= bounds.perplexity:
            broken.append(
                f"perplexity: {format_perplexity(self.artifact_perplexity, 4)}, the original's is "
                f"{format_perplexity(self.original_perplexity, 4)} "
                f"({self.perplexity_change:+.3%}, allowed {bounds.perplexity:.2%})"
            )
        return broken

    @property
    def advice(self) -> str:
        """What to do about the failures."""
        if self.exported_from not in (None, self.original_sha256):
            return "name its run with --run DIR, or export this run again: lmtool export --run DIR"
        if self.provider != "cpu":
            return (
                f"verify it on the processor: --provider cpu; if that passes, the fault is in onnxruntime's "
                f"{self.provider} provider or its driver"
            )
        if self.precision != "fp32":
            return f"{self.precision} may be too coarse for this network; export --precision fp32 instead"
        return (
            "fp32 should pass for every network: try another version of onnxruntime; if it fails too, report it at "
            f"{_ISSUES} with rejected.{self.variant}.json, config.json and the output of pip freeze"
        )

    @property
    def passed(self) -> bool:
        """Whether every bound is kept."""
        return not self.failures

    def format(self) -> str:
        """The report as a few lines of text."""
        bounds = BOUNDS[self.precision]
        worst = self.worst
        lines = [
            f"parity of {self.variant} on {self.provider}: {'passed' if self.passed else 'FAILED'}",
            f"  original            {self.original}",
            f"  logits and states   {len(self.cases)} cases, closest to its limit: {worst.tensor}, "
            f"{worst.absolute:.2e} of {worst.allowed(bounds):.2e} (scale {worst.scale:.1f}, allowed "
            f"{worst.allowed_text(bounds)}; {worst.name})",
            f"  largest of each     {', '.join(f'{name} {most.absolute:.1e}' for name, most in self.tensors.items())}",
            f"  closed loop         {self.loop_steps:,} steps, {self.loop_differences} greedy tokens differ, "
            f"{self.loop_disagreements} of them beyond rounding",
            f"  perplexity          {format_perplexity(self.artifact_perplexity, 4)}, the original's "
            f"{format_perplexity(self.original_perplexity, 4)} "
            f"({self.perplexity_change:+.4%}, allowed {bounds.perplexity:.2%})",
            f"  text                {self.tokens:,} tokens: {self.text}",
            f"  batch-invariant     {'yes' if self.batch_invariant else 'no'}",
        ]
        if not self.passed:
            lines += [*(f"  ! {failure}" for failure in self.failures), f"  what to do: {self.advice}"]
        return "\n".join(lines)

    def summary(self) -> dict[str, Any]:
        """The figures for the artifact's metadata."""
        return {
            "original_sha256": self.original_sha256,
            "provider": self.provider,
            "largest_difference": self.largest_difference,
            "largest_differences": {name: most.absolute for name, most in self.tensors.items()},
            "closest_to_limit": f"{self.worst.tensor}, {self.worst.name}",
            **{name: getattr(self, name) for name in (*_LOOP, *_TEXT)},
        }

    def to_json(self) -> dict[str, Any]:
        """The whole report, ready for JSON."""
        return {
            **asdict(self),
            "worst": asdict(self.worst),
            "bounds": asdict(BOUNDS[self.precision]),
            "perplexity_change": self.perplexity_change,
            "failures": self.failures,
            "advice": self.advice if self.failures else None,
            "passed": self.passed,
        }
