"""The parity report: what was compared, by how much it differed, and what was allowed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, final


@final
@dataclass(frozen=True)
class Bounds:
    """What a precision allows.

    Attributes:
        difference: Largest difference of a logit or a state, relative to the largest magnitude in its tensor where that
            exceeds 1 (float32 resolves no finer). For quantized precisions it only catches what is plainly broken.
        perplexity: Largest relative difference of the perplexity.
        rounding: What the precision rounds by, relative. Where the original's results move further than `difference`
            when its start state moves by so much, or when it computes in float64, `ROUNDINGS` times that is the bound.
    """

    difference: float
    perplexity: float
    rounding: float


BOUNDS = {
    "fp32": Bounds(difference=1e-5, perplexity=1e-4, rounding=2**-23),
    "fp16": Bounds(difference=2e-2, perplexity=5e-3, rounding=2**-10),
    "bf16": Bounds(difference=0.2, perplexity=5e-3, rounding=2**-8),
    "int8": Bounds(difference=0.5, perplexity=1e-2, rounding=2**-7),
    "w8": Bounds(difference=0.2, perplexity=1e-2, rounding=2**-7),
    "w4": Bounds(difference=0.5, perplexity=3e-2, rounding=2**-7),
}
"""Precision -> what it allows. `bf16` is no artifact's, but what some runtimes make of an fp32 one."""

ROUNDINGS = 4
"""Times the original's own move that an artifact may differ by: it rounds at every step, and not the state alone."""


@final
@dataclass(frozen=True)
class Case:
    """The worst tensor of a comparison.

    Attributes:
        name: What was compared.
        tensor: `logits` or a state.
        absolute: Largest absolute difference in it.
        scale: Largest magnitude of the original's, at least 1.
        moved: Largest absolute difference between the original and itself in float64, or from a start state moved by
            rounding, measured where the plain bound is exceeded (else 0); a network that has hardly been trained can be
            chaotic far from its text.
    """

    name: str
    tensor: str
    absolute: float
    scale: float
    moved: float = 0.0

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Case":
        """Read what another process wrote of a case: a number that was not finite is null there, and NaN here."""
        fields: dict[str, Any] = {name: math.nan if found is None else found for name, found in value.items()}
        return cls(**fields)

    @property
    def difference(self) -> float:
        """The difference relative to the scale; infinite where it is no number."""
        relative = self.absolute / self.scale
        return relative if math.isfinite(relative) else math.inf

    def excess(self, bounds: Bounds) -> float:
        """The difference as a multiple of what is allowed; infinite where it is no number."""
        allowed = max(bounds.difference * self.scale, ROUNDINGS * self.moved)
        if self.absolute == 0:
            return 0.0
        return self.absolute / allowed if allowed > 0 and math.isfinite(self.absolute / allowed) else math.inf


@final
@dataclass(frozen=True)
class Largest:
    """The largest differences of one tensor over all comparisons, which need not be of the same one.

    Attributes:
        absolute: In the tensor's own units.
        relative: To the original's largest magnitude in it, at least 1.
    """

    absolute: float = 0.0
    relative: float = 0.0

    def over(self, case: Case) -> "Largest":
        """With one more comparison; infinite where it is no number."""
        absolute = case.absolute if math.isfinite(case.absolute) else math.inf
        return Largest(max(self.absolute, absolute), max(self.relative, case.difference))


_SHOWN_CASES = 3


@final
@dataclass(frozen=True)
class ParityReport:
    """What a verification measured.

    Attributes:
        precision: The artifact's precision.
        variant: The precision with its purpose, as in the artifact's default name.
        provider: Where the artifact ran.
        exported_from: Hash of the weights that the artifact says it was exported from; None before it is known.
        original: What it was compared with.
        original_sha256: Hash of the original's weights.
        cases: The comparisons of logits and states, each by the tensor that differs most.
        tensors: `logits` and the name of each state -> its largest differences.
        loop_steps: Steps of the closed loop, each side fed its own state and, while they agree, its own greedy token.
        loop_differences: Steps whose greedy tokens differed.
        loop_disagreements: Those of them in which the original preferred its token by more than twice the allowed
            difference, so that rounding is no excuse.
        text: Where the tokens behind the perplexities are from.
        tokens: Their number.
        original_perplexity: Of the original.
        artifact_perplexity: Of the artifact.
        batch_invariant: Whether batch neighbours and chunking changed no bit of the artifact's results.
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
        """The case with the largest difference."""
        return max(self.cases, key=lambda case: case.difference)

    @property
    def perplexity_change(self) -> float:
        """(artifact - original) / original."""
        return self.artifact_perplexity / self.original_perplexity - 1

    @property
    def failures(self) -> list[str]:
        """A sentence for each bound that was exceeded; of many cases, the worst."""
        bounds = BOUNDS[self.precision]
        found = []
        if self.exported_from not in (None, self.original_sha256):
            found.append("the artifact was exported from another network than this original; name its run: --run DIR")
        over = [case for case in self.cases if case.excess(bounds) > 1]
        over.sort(key=lambda case: -case.difference)
        found += [
            f"{case.name}: {case.tensor} differs by {case.absolute:.2e} at scale {case.scale:.1f}, "
            f"allowed {bounds.difference:g} of it (rounding alone moves the original by {case.moved:.0e})"
            for case in over[:_SHOWN_CASES]
        ]
        if len(over) > _SHOWN_CASES:
            found.append(f"and {len(over) - _SHOWN_CASES} more of {len(self.cases)} cases")
        if self.loop_disagreements:
            found.append(f"closed loop: {self.loop_disagreements} of {self.loop_steps} tokens differ beyond rounding")
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
        worst = self.worst
        rounding = (
            f", or {ROUNDINGS} times the {worst.moved:.0e} that rounding moves the original" if worst.moved else ""
        )
        lines = [
            f"parity of {self.variant} on {self.provider}: {'passed' if self.passed else 'FAILED'}",
            f"  original            {self.original}",
            f"  logits and states   {len(self.cases)} cases, largest difference {worst.absolute:.2e} at scale "
            f"{worst.scale:.1f} ({worst.tensor}, {worst.name}; allowed {bounds.difference:g} of the scale{rounding})",
            f"  each tensor         {', '.join(f'{name} {most.absolute:.1e}' for name, most in self.tensors.items())}",
            f"  closed loop         {self.loop_steps:,} steps, {self.loop_differences} greedy tokens differ, "
            f"{self.loop_disagreements} of them beyond rounding",
            f"  perplexity          {self.artifact_perplexity:.4f}, the original's {self.original_perplexity:.4f} "
            f"({self.perplexity_change:+.4%}, allowed {bounds.perplexity:.2%})",
            f"  text                {self.tokens:,} tokens: {self.text}",
            f"  batch-invariant     {'yes' if self.batch_invariant else 'no'}",
        ]
        return "\n".join([*lines, *(f"  ! {failure}" for failure in self.failures)])

    def summary(self) -> dict[str, Any]:
        """The figures that go into the artifact."""
        return {
            "original_sha256": self.original_sha256,
            "provider": self.provider,
            "largest_difference": self.worst.absolute,
            "largest_differences": {name: most.absolute for name, most in self.tensors.items()},
            "largest_difference_case": f"{self.worst.tensor}, {self.worst.name}",
            "loop_steps": self.loop_steps,
            "loop_differences": self.loop_differences,
            "loop_disagreements": self.loop_disagreements,
            "text": self.text,
            "tokens": self.tokens,
            "original_perplexity": self.original_perplexity,
            "artifact_perplexity": self.artifact_perplexity,
        }

    def to_json(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return {
            **asdict(self),
            "worst": asdict(self.worst),
            "bounds": asdict(BOUNDS[self.precision]),
            "perplexity_change": self.perplexity_change,
            "failures": self.failures,
            "passed": self.passed,
        }
