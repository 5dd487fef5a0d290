"""Finds state inputs and outputs that a program cannot pair by their names and shapes."""

from collections.abc import Iterator

from ....runtime.stateful.state_pairs import may_follow, unpaired_states
from ..finding import Finding
from ..subject import Subject
from ..trials import Trials

_FIX = "lmtool doctor --fix renames the output; or set output_names at the export"


def check(subject: Subject, trials: Trials) -> Iterator[Finding]:
    """One finding for each state input."""
    if subject.ambiguity:
        yield Finding("unpaired-state", "names of inputs and outputs", subject.ambiguity, _FIX)
    named = {pair.input: pair.output for pair in subject.named}
    known = {pair.input: pair.output for pair in subject.pairs}
    refused = _refused_by_shape(subject)
    for name, output in known.items():
        if named.get(name) != output and not subject.ambiguity:
            found = f"the names say {named[name]!r}" if name in named else "no name says so, so hosts never feed it"
            yield Finding("unpaired-state", f"input {name!r}", f"the output {output!r} follows it, but {found}", _FIX)
    for name, output in refused.items():
        if name not in known:
            yield Finding(
                "unpaired-state",
                f"input {name!r}",
                f"the output {output!r} follows it, but is {subject.outputs[output]} and not {subject.inputs[name]}",
                "give both the same shape and type, and export again",
            )
    for name in unpaired_states(subject.inputs, subject.pairs):
        if name not in refused and not _is_reported(subject, name):
            yield Finding(
                "unpaired-state",
                f"input {name!r}",
                "it is named as a state, but no output follows it",
                "return the state of the network, name it in output_names and export again",
            )


def _refused_by_shape(subject: Subject) -> dict[str, str]:
    """State inputs whose layers end in outputs of another type or shape only."""
    found: dict[str, str] = {}
    for layer in subject.layers:
        for slot in layer.slots if layer.is_operator else ():
            for name, output in subject.links(layer, slot):
                if not may_follow(subject.outputs[output], subject.inputs[name]):
                    found.setdefault(name, output)
    return found


def _is_reported(subject: Subject, name: str) -> bool:
    """Whether a layer that begins with this input has no output, which is a finding of its own."""
    return any(
        layer.is_main and layer.is_operator and name in subject.state_inputs(slot) and subject.is_lost(layer, slot)
        for layer in subject.layers
        for slot in layer.slots
    )
