"""Names and shapes of a graph, and the translation of errors, for `HostRunner` and `DeviceRunner`."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import final

from ..artifact.artifact import LOGITS, NEXT
from ..errors import ArtifactError, truncated


@final
class _Translation:
    """Re-raises onnxruntime errors. A class, as a generator would cost more per call than all checks of shapes."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not isinstance(error, Exception):
            return
        # onnxruntime's errors share no base class; calls with bound inputs raise plain RuntimeErrors.
        if type(error) is not RuntimeError and not type(error).__module__.startswith("onnxruntime"):
            return
        raise ArtifactError(f"onnxruntime cannot run the artifact: {truncated(error)}") from error


_TRANSLATION = _Translation()


def translate_onnxruntime_errors() -> AbstractContextManager[None]:
    """Re-raise onnxruntime errors about a call as `ArtifactError`."""
    return _TRANSLATION


@final
class Graph:
    """Names and shapes of the tensors that a call takes and returns.

    Attributes:
        states: Names of the state inputs, in the artifact's order.
        outputs: Names of the outputs: the logits, then the states after the call.
        can_keep: Whether the graph has the input `logits_to_keep`.
        widths: Widths of the states.
        vocabulary_size: The number of tokens.
    """

    def __init__(self, states: Mapping[str, int], vocabulary_size: int, can_keep: bool) -> None:
        """`states` maps the name of each state input, in the artifact's order, to its width."""
        self.states = tuple(states)
        self.outputs = [LOGITS, *(f"{NEXT}{name}" for name in states)]
        self.can_keep = can_keep
        self.widths = tuple(states.values())
        self.vocabulary_size = vocabulary_size

    def check_shapes(self, logits: Sequence[int], after: Sequence[tuple[int, ...]], batch: int, positions: int) -> None:
        """Check the shapes that a call returned; where a graph declares others, onnxruntime only warns.

        Args:
            logits: Shape of the logits, expected [batch, at least `positions`, vocabulary].
            after: Shapes of the states after the call, expected [batch, width] each.
            batch: The number of rows of the call.
            positions: The number of positions whose logits were requested.

        Raises:
            ArtifactError: A shape differs.
        """
        kept = logits[1] if len(logits) == 3 else -1
        fits = kept >= positions and tuple(logits) == (batch, kept, self.vocabulary_size)
        if not fits or list(after) != [(batch, width) for width in self.widths]:
            shown = ", ".join(str(list(shape)) for shape in (logits, *after))
            raise ArtifactError(
                f"the artifact's graph breaks the contract: for a batch of {batch} and {positions} positions it gave "
                f"{shown}, expected logits [{batch}, {positions}, {self.vocabulary_size}] and states {self.widths}"
            )
