"""Finds layers that read batch and time in another order than runtimes or names say."""

from collections.abc import Iterator

from ..finding import Finding
from ..subject import Subject
from ..trials import Trials


def check(subject: Subject, trials: Trials) -> Iterator[Finding]:
    """One finding for each layer."""
    for layer in subject.layers:
        if layer.is_operator and layer.layout:
            yield Finding(
                "layout",
                layer.label,
                "layout 1 (batch first): onnxruntime refuses it on the CPU, and some runtimes compute something else",
                "export layout 0, with a Transpose before and after the layer",
            )
    for layer, name in subject.axes.confused:
        yield Finding(
            "layout",
            f"{layer.label}, input {name!r}",
            "the axis that is named as the batch is read as the time, so streams run into each other",
            "give the network its order (batch_first of PyTorch's layers) and export again",
        )
