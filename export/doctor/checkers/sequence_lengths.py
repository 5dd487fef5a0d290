"""Finds layers that take the lengths of sequences."""

from collections.abc import Iterator

from ..finding import Finding
from ..layer import at
from ..subject import Subject
from ..trials import Trials


def check(subject: Subject, trials: Trials) -> Iterator[Finding]:
    """One finding for each layer."""
    for layer in subject.layers:
        if layer.is_operator and at(layer.node.input, 4):
            yield Finding(
                "sequence-lengths",
                layer.label,
                "sequence_lens: packed sequences are sorted and padded inside the graph, and CUDA leaves its fast path",
                "export without packing (pack_padded_sequence in PyTorch): a stream has no padding",
            )
