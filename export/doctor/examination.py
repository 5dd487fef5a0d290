"""The examination of a file: its states, its faults and what else is worth knowing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, final

from ...runtime.errors import counted
from ...runtime.stateful.state_pairs import StatePair
from .checkers import (
    batch,
    bidirectional,
    contrib_operators,
    external_data,
    initial_states,
    layout,
    pairs,
    sequence_lengths,
    state_inputs,
    state_outputs,
    streaming,
    time,
    weights,
)
from .finding import Finding
from .notes import notes
from .subject import Subject, read_subject
from .trials import Trials

_CHECKERS: tuple[ModuleType, ...] = (
    external_data,
    contrib_operators,
    layout,
    bidirectional,
    sequence_lengths,
    weights,
    state_inputs,
    initial_states,
    state_outputs,
    pairs,
    batch,
    time,
    streaming,
)
"""One for each of `KINDS`, in their order."""


@final
@dataclass(frozen=True)
class Examination:
    """What was found in a file.

    Attributes:
        path: The file.
        summary: Its layers and operator set.
        states: Its states, as its layers carry them or its names pair them.
        faults: What goes wrong when it is streamed.
        notes: What else is worth knowing.
    """

    path: Path
    summary: str
    states: Sequence[StatePair]
    faults: Sequence[Finding]
    notes: Sequence[str]

    @property
    def is_sound(self) -> bool:
        """Whether there is no fault."""
        return not self.faults

    def to_json(self) -> dict[str, Any]:
        """As `lmtool doctor --json` prints it."""
        return {
            "path": str(self.path),
            "layers": self.summary,
            "states": [{"input": pair.input, "output": pair.output} for pair in self.states],
            "faults": [fault.to_json() for fault in self.faults],
            "notes": list(self.notes),
        }

    def format(self) -> str:
        """As text."""
        states = ", ".join(f"{pair.input} -> {pair.output}" for pair in self.states)
        lines = [f"{self.path}: {self.summary}", f"  states  {states or 'none'}"]
        for fault in self.faults:
            lines += [f"  {fault.kind}  {fault.where}", f"    {fault.problem}", f"    fix: {fault.fix}"]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join([*lines, f"  {counted(len(self.faults), 'fault')}"])


def examine(path: Path, states: Mapping[str, str] | None = None) -> Examination:
    """Examine a recurrent ONNX file of any exporter: read its graph, and run it.

    It runs whole sequences and the same step by step, and other sizes of batch and time, on onnxruntime, on
    onnx.reference, and on OpenVINO where it is installed.

    Args:
        path: The file.
        states: State input -> output, where neither the layers nor the names tell.

    Raises:
        StorageError: It cannot be read.
        ArtifactError: It is no ONNX file, is too large or damaged, or has nothing recurrent.
        OptionError: `states` does not fit the file.
    """
    return examine_subject(read_subject(path, states), path)


def examine_subject(subject: Subject, path: Path) -> Examination:
    """Examine a file that was read."""
    trials = Trials(subject)
    faults = [finding for checker in _CHECKERS for finding in checker.check(subject, trials)]
    return Examination(path, _summary(subject), subject.pairs, faults, [*notes(subject, trials)])


def _summary(subject: Subject) -> str:
    kinds = [layer.node.op_type for layer in subject.layers]
    counts = [f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)]
    if subject.cells:
        counts = [counted(subject.cells, "unrolled cell")]
    return f"{', '.join(counts) or 'cells of other operators'}, opset {subject.opset}"
