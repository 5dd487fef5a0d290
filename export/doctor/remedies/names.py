"""Renames state outputs so that their names say which input they follow."""

from collections.abc import Iterator

import onnx

from ....runtime.artifact.artifact import NEXT
from ...foreign.foreign_model import all_graphs
from ..subject import Subject


def apply(model: onnx.ModelProto) -> Iterator[str]:
    """Name the output that follows a state input after it."""
    subject = Subject(model)
    named = {pair.input: pair.output for pair in subject.named}
    for pair in subject.pairs:
        after = f"{NEXT}{pair.input}"
        if named.get(pair.input) != pair.output and after not in subject.outputs:
            rename(model, pair.output, after)
            yield f"the output {pair.output!r} is named {after!r}, as it follows the input {pair.input!r}"


def rename(model: onnx.ModelProto, old: str, new: str) -> None:
    """Rename a tensor everywhere."""
    for graph in all_graphs(model):
        for value in (*graph.input, *graph.output, *graph.value_info):
            value.name = new if value.name == old else value.name
        for node in graph.node:
            for names in (node.input, node.output):
                for place, name in enumerate(names):
                    if name == old:
                        names[place] = new
