"""Stores weights that a graph computes from constants."""

from collections.abc import Iterator
from typing import Any

import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from ..layer import Layer, at
from ..subject import Subject

_WEIGHTS = (1, 2, 3)


def apply(model: onnx.ModelProto) -> Iterator[str]:
    """Make the weights of recurrent layers initializers that no caller can replace."""
    subject = Subject(model)
    for layer in subject.layers:
        for place in _WEIGHTS if layer.is_operator and layer.is_main else ():
            name = at(layer.node.input, place)
            if name in subject.lineage.overridable:
                _remove_input(model, name)
                yield f"{layer.label}: {name!r} is no input any more"
            elif subject.lineage.producer(name) is not None and _is_computed_from_constants(subject, name):
                yield from _store(model, subject, layer, place)


def _store(model: onnx.ModelProto, subject: Subject, layer: Layer, place: int) -> Iterator[str]:
    """Store a weight, if onnx's evaluator can compute it."""
    name = layer.node.input[place]
    stored = f"{name} (stored)"
    if stored not in {tensor.name for tensor in model.graph.initializer}:
        try:
            model.graph.initializer.append(_evaluated(model, subject, name, stored))
        except Exception:  # whatever an operator raises
            return
    layer.node.input[place] = stored
    yield f"{layer.label}: {name!r} is stored"


def _is_computed_from_constants(subject: Subject, name: str) -> bool:
    """Whether it is computed from constants alone, by more than a Constant."""
    return subject.lineage.tensor(name) is None and not (
        subject.lineage.tensors_behind(name) & (subject.lineage.inputs | subject.lineage.overridable)
    )


def _evaluated(model: onnx.ModelProto, subject: Subject, name: str, stored: str) -> onnx.TensorProto:
    behind = subject.lineage.tensors_behind(name)
    nodes = [node for node in model.graph.node if not behind.isdisjoint(node.output)]
    constants = [tensor for tensor in model.graph.initializer if tensor.name in behind]
    wanted = onnx.ValueInfoProto(name=name)
    graph = helper.make_graph(nodes, "weights", [], [wanted], constants)
    part = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    values: Any = ReferenceEvaluator(part).run(None, {})
    return numpy_helper.from_array(values[0], stored)


def _remove_input(model: onnx.ModelProto, name: str) -> None:
    model.graph.input.remove(next(value for value in model.graph.input if value.name == name))
