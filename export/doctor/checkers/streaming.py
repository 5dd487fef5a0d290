"""Finds outputs that differ between a whole sequence and the same sequence step by step."""

import math
from collections.abc import Iterator

from ..finding import Finding
from ..streams import stream
from ..subject import Subject
from ..trials import Trials

_FIX = (
    "carry each state to its own input (lmtool doctor --state IN=OUT says which); what looks ahead, averages or "
    "normalizes over time cannot be streamed"
)


def check(subject: Subject, trials: Trials) -> Iterator[Finding]:
    """One finding for all outputs that differ."""
    found = [difference for difference in stream(subject, trials) if difference.is_fault]
    if not found:
        return
    worst = max(found, key=lambda difference: difference.largest / max(difference.allowed, 1e-30))
    how = f"by up to {worst.largest:.2g}" if math.isfinite(worst.largest) else "in shape"
    carried = ", ".join(f"{pair.input} -> {pair.output}" for pair in subject.pairs)
    problem = f"step by step with the states {carried} "
    if worst.error:
        problem += f"it does not run: {worst.error}"
    else:
        problem += f"the output {worst.output!r} differs from the whole sequence {how}, from step {worst.step} on"
    where = ", ".join(f"output {difference.output!r}" for difference in found)
    yield Finding("differs-when-streamed", where, problem, _FIX)
