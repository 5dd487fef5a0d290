"""A fault of a recurrent file, and the kinds of faults that there are."""

from dataclasses import asdict, dataclass
from typing import final

KINDS = (
    "external-data",
    "contrib-operators",
    "layout",
    "bidirectional",
    "sequence-lengths",
    "weights-not-initializers",
    "no-state-input",
    "constant-initial-state",
    "no-state-output",
    "unpaired-state",
    "baked-batch",
    "baked-time",
    "differs-when-streamed",
)
"""In the order in which they are looked for."""


@final
@dataclass(frozen=True)
class Finding:
    """A fault.

    Attributes:
        kind: One of `KINDS`.
        where: The node, input or output.
        problem: What goes wrong.
        fix: How to mend it.
    """

    kind: str
    where: str
    problem: str
    fix: str

    def to_json(self) -> dict[str, str]:
        """The attributes by name."""
        return asdict(self)
