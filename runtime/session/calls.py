"""What calls of a session share, wherever its tensors lie: onnxruntime's refusals and the shapes of what it gives."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import final

from ..errors import ArtifactError, truncated


@final
class _Refusals:
    """Written as a class, as a generator's context manager costs more in each call than all that `Shapes` checks."""

    def __enter__(self) -> None:
        """Nothing is to be prepared."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not isinstance(error, Exception):
            return
        if type(error) is not RuntimeError and not type(error).__module__.startswith("onnxruntime"):
            return
        raise ArtifactError(f"onnxruntime cannot run the artifact: {truncated(error)}") from error


_REFUSALS = _Refusals()


def translate_onnxruntime_errors() -> AbstractContextManager[None]:
    """Let onnxruntime's errors about a call out as one of ours.

    They share no base class; those of calls with bound inputs are of no kind of their own at all.

    Raises:
        ArtifactError: onnxruntime cannot run the graph.
    """
    return _REFUSALS


@final
class Shapes:
    """The shapes that the contract gives the outputs.

    Attributes:
        states: Names of the state inputs, in the artifact's order.
    """

    def __init__(self, states: Mapping[str, int], vocabulary_size: int) -> None:
        """Expect these.

        Args:
            states: Name of each state input -> its width, in the artifact's order.
            vocabulary_size: Width of the logits.
        """
        self.states = tuple(states)
        self._widths = tuple(states.values())
        self._vocabulary_size = vocabulary_size

    def require(self, logits: Sequence[int], after: Sequence[tuple[int, ...]], batch: int, positions: int) -> None:
        """Check what a session gave, as that may have other shapes than its graph declares.

        onnxruntime only warns of it.

        Args:
            logits: Shape of the logits, expected [batch, at least `positions`, vocabulary].
            after: Shapes of the states after the call, expected [batch, width] each.
            batch: How many rows the call had.
            positions: How many positions' logits were asked for.

        Raises:
            ArtifactError: Any is another.
        """
        kept = logits[1] if len(logits) == 3 else -1
        fits = kept >= positions and tuple(logits) == (batch, kept, self._vocabulary_size)
        if not fits or list(after) != [(batch, width) for width in self._widths]:
            shown = ", ".join(str(list(found)) for found in (logits, *after))
            raise ArtifactError(
                f"the artifact's graph breaks the contract: for a batch of {batch} and {positions} positions it gave "
                f"{shown}, expected logits [{batch}, {positions}, {self._vocabulary_size}] and states {self._widths}"
            )
