"""Finds layers that read a sequence from its end."""

from collections.abc import Iterator

from ..finding import Finding
from ..subject import Subject
from ..trials import Trials


def check(subject: Subject, trials: Trials) -> Iterator[Finding]:
    """One finding for each layer."""
    for layer in subject.layers:
        if not layer.is_forward:
            direction = layer.attribute("direction", b"")
            yield Finding(
                "bidirectional",
                layer.label,
                f"its direction is {direction.decode() if isinstance(direction, bytes) else direction}: the first "
                "output needs the last input, so it cannot be streamed",
                "train a forward network; or run whole sequences, or chunks that overlap",
            )
