"""Mends a file as far as that is mechanical, and proves the result equal before it is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import onnx

from ...runtime.errors import OptionError, truncated
from ...runtime.io.files import write_atomically
from ..errors import ParityError
from ..parity import Array
from .examination import Examination, examine_subject
from .remedies import axes, names, states, unread, weights
from .runtimes import RefusedError
from .subject import Subject, has_weights_outside, read_subject
from .trials import Trials

_REMEDIES = (weights, states, unread, axes, names)
"""In the order in which they are applied."""

_SHARE, _SMALLEST = 1e-5, 1e-7
"""By how much an output may differ, of its largest number and at least: stored weights are multiplied differently."""


@final
@dataclass(frozen=True)
class Mending:
    """What was mended.

    Attributes:
        path: The new file; None where nothing could be mended.
        changes: What was changed.
        after: The examination of the new file; None without one.
    """

    path: Path | None
    changes: Sequence[str]
    after: Examination | None

    def to_json(self) -> dict[str, Any]:
        """As `lmtool doctor --fix --json` prints it."""
        return {
            "path": None if self.path is None else str(self.path),
            "changes": list(self.changes),
            "after": None if self.after is None else self.after.to_json(),
        }

    def format(self) -> str:
        """As text."""
        if self.after is None:
            return "nothing that can be mended mechanically"
        changes = [f"  {change}" for change in self.changes]
        return "\n".join(["mended, and proved equal:", *changes, self.after.format()])


def mend(path: Path, out: Path, given: Mapping[str, str] | None = None) -> Mending:
    """Write a mended copy of a file.

    State inputs and outputs are added to layers, batch and time are declared as free, state outputs are named after
    their inputs, and weights that are computed from constants are stored. The copy must compute what the file computes,
    and step by step what it computes at once; only then is it written.

    Args:
        path: The file.
        out: The new file.
        given: State input -> output, where neither the layers nor the names tell.

    Raises:
        StorageError: The file cannot be read, or the new one cannot be written.
        ArtifactError: As for `examine`.
        OptionError: `out` is the file itself, or `given` does not fit it.
        ParityError: The copy computes something else, as where the initial state is a constant that is not zero.
    """
    if out.resolve() == path.resolve():
        raise OptionError(f"--fix names {out} itself, expected another file, so that the original stays")
    original = read_subject(path, given)
    if has_weights_outside(original.model):
        return Mending(None, [], None)
    model = onnx.ModelProto()
    model.CopyFrom(original.model)
    changes = [change for remedy in _REMEDIES for change in remedy.apply(model)]
    if not changes:
        return Mending(None, [], None)
    after = _proved(original, model, out)
    write_atomically(out, model.SerializeToString(deterministic=True))
    return Mending(out, changes, after)


def _proved(original: Subject, model: onnx.ModelProto, out: Path) -> Examination:
    """The examination of the mended model.

    Raises:
        ParityError: It computes something else than the original, or something else step by step.
    """
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # of several kinds
        raise ParityError(f"the mended file breaks ONNX's rules: {truncated(error)}; nothing was written") from error
    mended = Subject(model)
    _require_equal(original, mended)
    after = examine_subject(mended, out)
    if streamed := next((fault for fault in after.faults if fault.kind == "differs-when-streamed"), None):
        raise ParityError(f"the mended file would differ when it is streamed: {streamed.problem}; nothing was written")
    return after


def _require_equal(original: Subject, mended: Subject) -> None:
    before, after = Trials(original), Trials(mended)
    if before.base is None:
        raise ParityError(f"the file does not run, so nothing proves a copy equal: {before.error(before.first)}")
    feed = before.feed(before.base)
    states = {name: array for name, array in after.feed(before.base).items() if name not in feed}
    try:
        expected, found = before.outputs(before.base), after.run({**feed, **states})
    except RefusedError as error:
        raise ParityError(f"the mended file would not run: {error}; nothing was written") from error
    # Remedies rename outputs in their places, and add theirs at the end.
    for name, new_name in zip(original.outputs, mended.outputs, strict=False):
        one, other = expected[name], found[new_name]
        allowed = max(_SHARE * float(np.abs(one, dtype=np.float64).max(initial=0)), _SMALLEST)
        if one.shape != other.shape or not np.allclose(one, other, rtol=0, atol=allowed, equal_nan=True):
            raise ParityError(
                f"the mended file would compute something else: the output {name!r} differs {_by(one, other)}; an "
                "initial state that is not zero cannot become an input that begins with zeros; nothing was written"
            )


def _by(one: Array, other: Array) -> str:
    if one.shape != other.shape:
        return f"in shape, {list(one.shape)} and {list(other.shape)}"
    return f"by up to {np.abs(one.astype(np.float64) - other.astype(np.float64)).max():.1g}"
