"""Removes what a mended graph does not read any more."""

from collections.abc import Iterator

import onnx

from ..lineage import Lineage


def apply(model: onnx.ModelProto) -> Iterator[str]:
    """Remove nodes of the main graph that no output needs, and constants that none reads; yields nothing."""
    lineage = Lineage(model)
    needed = set[str]()
    for value in model.graph.output:
        needed |= lineage.tensors_behind(value.name, shapes_too=True)
    for node in [node for node in model.graph.node if needed.isdisjoint(node.output)]:
        model.graph.node.remove(node)
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name not in needed]:
        model.graph.initializer.remove(tensor)
    yield from ()
