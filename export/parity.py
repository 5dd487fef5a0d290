"""The parity report: what was compared, by how much it differed, and what was allowed."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, final


@final
@dataclass(frozen=True)
class Bounds:
    """What a precision allows; None where a figure is reported but not bounded.

    Attributes:
        absolute: Largest absolute difference of a logit or a state, on the grid and in the closed loop; for logits
            whose size exceeds 1, times that size (float32 resolves no finer).
        perplexity: Largest relative difference of the perplexity.
    """

    absolute: float | None
    perplexity: float


BOUNDS = {
    "fp32": Bounds(absolute=1e-5, perplexity=1e-4),
    "fp16": Bounds(absolute=None, perplexity=5e-3),
    "int8": Bounds(absolute=None, perplexity=1e-2),
    "w8": Bounds(absolute=None, perplexity=1e-2),
    "w4": Bounds(absolute=None, perplexity=3e-2),
}
"""Precision -> what it allows."""


@final
@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        name: What was compared.
        absolute: Largest absolute difference of a logit or a state.
        scale: Largest magnitude among the original's logits and states.
    """

    name: str
    absolute: float
    scale: float

    @property
    def scaled(self) -> float:
        """The difference relative to the scale where that exceeds 1."""
        return self.absolute / max(self.scale, 1.0)


@final
@dataclass(frozen=True)
class ParityReport:
    """What a verification measured.

    Attributes:
        precision: The artifact's precision.
        variant: The precision with its purpose, as in the artifact's default name.
        provider: Where the artifact ran.
        original_sha256: Hash of the original's weights.
        cases: The comparisons of logits and states.
        loop_steps: Steps of the closed loop, each side fed its own state and its own greedy token.
        loop_disagreements: Steps whose greedy tokens differed though the original's margin was above the difference.
        tokens: Number of corpus tokens behind the perplexities.
        original_perplexity: Of the original.
        artifact_perplexity: Of the artifact.
        batch_invariant: Whether batch neighbours and chunking changed no bit of the artifact's results.
    """

    precision: str
    variant: str
    provider: str
    original_sha256: str
    cases: Sequence[Case]
    loop_steps: int
    loop_disagreements: int
    tokens: int
    original_perplexity: float
    artifact_perplexity: float
    batch_invariant: bool

    @property
    def worst(self) -> Case:
        """The case with the largest difference; a difference that is no number counts as the largest."""
        return max(self.cases, key=lambda case: case.scaled if case.scaled == case.scaled else float("inf"))

    @property
    def perplexity_change(self) -> float:
        """(artifact - original) / original."""
        return self.artifact_perplexity / self.original_perplexity - 1

    @property
    def failures(self) -> list[str]:
        """One sentence for every bound that was passed."""
        bounds = BOUNDS[self.precision]
        found = []
        if bounds.absolute is not None:
            found += [
                f"{case.name}: differs by {case.absolute:.2e} at scale {case.scale:.1f}, allowed {bounds.absolute:g}"
                for case in self.cases
                if not case.scaled <= bounds.absolute
            ]
            if self.loop_disagreements:
                found.append(f"closed loop: {self.loop_disagreements} of {self.loop_steps} greedy tokens differ")
        if not abs(self.perplexity_change) <= bounds.perplexity:
            found.append(
                f"perplexity: {self.artifact_perplexity:.4f}, the original's is {self.original_perplexity:.4f} "
                f"({self.perplexity_change:+.3%}, allowed {bounds.perplexity:.2%})"
            )
        return found

    @property
    def passed(self) -> bool:
        """Whether every bound was kept."""
        return not self.failures

    def format(self) -> str:
        """The findings in a few lines."""
        bounds = BOUNDS[self.precision]
        allowed = "not bounded" if bounds.absolute is None else f"allowed {bounds.absolute:g} of the scale"
        lines = [
            f"parity of {self.variant} on {self.provider}: {'passed' if self.passed else 'FAILED'}",
            f"  logits and states   {len(self.cases)} cases, largest difference {self.worst.absolute:.2e} at scale "
            f"{self.worst.scale:.1f} ({self.worst.name}; {allowed})",
            f"  closed loop         {self.loop_steps:,} steps, {self.loop_disagreements} greedy tokens differ",
            f"  perplexity          {self.artifact_perplexity:.4f}, the original's {self.original_perplexity:.4f} "
            f"({self.perplexity_change:+.4%}, allowed {bounds.perplexity:.2%}) on {self.tokens:,} tokens",
            f"  batch-invariant     {'yes' if self.batch_invariant else 'no'}",
        ]
        return "\n".join([*lines, *(f"  ! {failure}" for failure in self.failures)])

    def summary(self) -> dict[str, Any]:
        """The figures that go into the artifact."""
        return {
            "original_sha256": self.original_sha256,
            "provider": self.provider,
            "largest_difference": self.worst.absolute,
            "largest_difference_case": self.worst.name,
            "loop_steps": self.loop_steps,
            "loop_disagreements": self.loop_disagreements,
            "tokens": self.tokens,
            "original_perplexity": self.original_perplexity,
            "artifact_perplexity": self.artifact_perplexity,
        }

    def to_json(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return {
            **asdict(self),
            "bounds": asdict(BOUNDS[self.precision]),
            "perplexity_change": self.perplexity_change,
            "failures": self.failures,
            "passed": self.passed,
        }
