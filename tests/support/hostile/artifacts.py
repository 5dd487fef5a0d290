"""Hostile ONNX files. Most have a valid hash, which an attacker can compute too."""

import itertools
import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from lmtool.export.build import seal
from lmtool.runtime.artifact import protobuf
from lmtool.runtime.artifact.artifact import HASH_KEY
from onnx import TensorProto, helper, numpy_helper

from support.hostile.entry_points import LOADING, READING
from support.hostile.files import HUGE, ODD_VALUES, HostileFile, Recipe, Source, deep_json

ALL = (*READING, *LOADING)
BIAS = "projection.bias"


def parts(source: Source) -> tuple[onnx.ModelProto, dict[str, str]]:
    """The good artifact's graph and metadata, to be changed."""
    model = onnx.load_model_from_string(source.model)
    return model, {entry.key: entry.value for entry in model.metadata_props if entry.key != HASH_KEY}


def sealed(
    name: str, model: onnx.ModelProto, metadata: dict[str, str], must_refuse: tuple[str, ...] = ALL
) -> HostileFile:
    may_refuse = tuple(
        entry_point for entry_point in (*ALL, "adopt") if entry_point not in (*must_refuse, "lmtool verify")
    )  # it takes seconds
    return HostileFile(name, {"model.onnx": seal(model, metadata)}, must_refuse, may_refuse)


def raw(name: str, data: bytes) -> HostileFile:
    return HostileFile(name, {"model.onnx": data}, (*ALL, "adopt"))


def foreign(case: HostileFile, model: onnx.ModelProto) -> HostileFile:
    """The same graph without our metadata, for adoption."""
    del model.metadata_props[:]
    return HostileFile(f"{case.name}, to be adopted", {"model.onnx": model.SerializeToString()}, (*ALL, "adopt"))


def tensor(model: onnx.ModelProto, name: str = BIAS) -> onnx.TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def constant(value: onnx.TensorProto, output: str = BIAS) -> onnx.NodeProto:
    node = helper.make_node("Constant", [], [output])
    node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR).t.CopyFrom(value)
    return node


def in_place_of_bias(model: onnx.ModelProto, where: str, value: onnx.TensorProto) -> None:
    """Let the graph take its last bias from an initializer, a constant, a nested graph or a function."""
    model.graph.initializer.remove(tensor(model))
    if where == "an initializer":
        model.graph.initializer.append(value)
        return
    if where == "a constant":
        model.graph.node.insert(0, constant(value))
        return
    if where == "a function":
        body = helper.make_function("f", "F", [], ["o"], [constant(value, "o")], [helper.make_opsetid("", 17)])
        model.functions.append(body)
        model.opset_import.append(helper.make_opsetid("f", 1))
        model.graph.node.insert(0, helper.make_node("F", [], [BIAS], domain="f"))
        return
    inner = onnx.TensorProto()
    inner.CopyFrom(value)
    inner.name = "inner"
    output = helper.make_tensor_value_info("o", TensorProto.FLOAT, list(value.dims))
    branch = helper.make_graph([helper.make_node("Identity", ["inner"], ["o"])], "b", [], [output], [inner])
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "condition"))
    model.graph.node.insert(0, helper.make_node("If", ["condition"], [BIAS], then_branch=branch, else_branch=branch))


def external_data(source: Source, draw: random.Random) -> HostileFile:
    model, metadata = parts(source)
    locations = {
        "relative": "relative.bin",
        "absolute": str(source.secret),
        "symbolic link": "linked.bin",
        "hard link": "hard.bin",
        "climbing": "../outside/secret.bin",
        "memory": "*/_ORT_MEM_ADDR_/*",
        "device": "/dev/zero",
        "odd": draw.choice(("", ".", "\0", "a" * 5000, "file:///etc/hostname", "//host/share")),
    }
    kind, where = (
        draw.choice(list(locations)),
        draw.choice(("an initializer", "a constant", "a function", "a nested graph")),
    )
    outside = onnx.TensorProto(name=BIAS, data_type=1, dims=tensor(model).dims, data_location=TensorProto.EXTERNAL)
    outside.external_data.add(key="location", value=locations[kind])
    if draw.random() < 0.5:
        outside.external_data.add(key="offset", value=str(draw.choice((0, 64, 2**40, -1))))
        outside.external_data.add(key="length", value=str(draw.choice((4 * outside.dims[0], 0, 2**62))))
    in_place_of_bias(model, where, outside)
    case = sealed(f"external data, {kind}, in {where}", model, metadata)
    return foreign(case, model) if draw.random() < 0.3 else case


def huge_sizes(source: Source, draw: random.Random) -> HostileFile:
    model, metadata = parts(source)
    size = draw.choice(HUGE)
    kind = draw.choice(("dims", "two dims", "no data", "negative", "sparse", "length", "widths"))
    bias = tensor(model)
    if kind in ("dims", "two dims", "negative", "no data"):
        bias.dims[:] = {"two dims": [size, size], "negative": [-size]}.get(kind, [size])
        if kind == "no data":
            bias.ClearField("raw_data")
            bias.ClearField("float_data")
        return sealed(f"huge sizes: {kind} {size}", model, metadata, LOADING)
    if kind == "sparse":
        values, indices = helper.make_tensor("s", 1, [1], [1.0]), helper.make_tensor("i", 7, [1], [3])
        model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [size]))
        model.graph.node.append(helper.make_node("Shape", ["s"], ["unused"]))
        case = sealed(f"huge sizes: sparse {size}", model, metadata)
        return foreign(case, model) if draw.random() < 0.5 else case
    if kind == "length":
        good = source.model
        at = draw.randrange(len(good))
        return raw(f"huge sizes: length {size}", good[:at] + b"\x72" + _varint(size) + good[at:])
    description = json.loads(metadata["lmtool.model"])
    key = draw.choice(("embedding_size", "layer_sizes"))
    description[key] = draw.choice((size, 10**4000)) if key == "embedding_size" else [size] * draw.choice((1, 2, 5000))
    metadata["lmtool.model"] = json.dumps(description)
    # The embedding's width is not part of the graph's contract; a wrong one does no harm.
    return sealed(f"huge sizes: {key} {size}", model, metadata, () if key == "embedding_size" else LOADING)


def _varint(value: int) -> bytes:
    return protobuf.message((1, value))[1:]


def local_functions(source: Source, draw: random.Random) -> HostileFile:
    model, metadata = parts(source)
    billion_laughs(model, draw.choice((1, 2, 12, 40)), recursive=draw.random() < 0.3)
    case = sealed("local functions", model, metadata)
    return foreign(case, model) if draw.random() < 0.5 else case


def billion_laughs(model: onnx.ModelProto, depth: int, *, recursive: bool = False, width: int = 4) -> None:
    """Nested functions ('billion laughs'): each calls the one before it four times, or itself."""
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    body = [helper.make_node("F0", ["x"], ["y"], domain="f") if recursive else helper.make_node("Neg", ["x"], ["y"])]
    model.functions.append(helper.make_function("f", "F0", ["x"], ["y"], body, imports))
    for level in range(1, depth):
        names = ["x", *(f"t{call}" for call in range(1, width)), "y"]
        calls = [helper.make_node(f"F{level - 1}", [a], [b], domain="f") for a, b in itertools.pairwise(names)]
        model.functions.append(helper.make_function("f", f"F{level}", ["x"], ["y"], calls, imports))
    model.opset_import.append(helper.make_opsetid("f", 1))
    for node in model.graph.node:
        node.input[:] = ["bias" if name == BIAS else name for name in node.input]
    model.graph.node.insert(0, helper.make_node(f"F{depth - 1}", [BIAS], ["bias"], domain="f"))


def unknown_operators(source: Source, draw: random.Random) -> HostileFile:
    model, metadata = parts(source)
    operator, domain = draw.choice(
        (
            ("PyFunction", "ai.onnx.contrib"),
            ("PyOp", "com.microsoft"),
            ("EPContext", "com.microsoft"),
            ("ATen", "org.pytorch.aten"),
            ("Nothing", ""),
            ("LSTM", "custom"),
            ("", ""),
            ("x" * 10_000, "y" * 10_000),
        )
    )
    for node in model.graph.node:
        node.input[:] = ["bias" if name == BIAS else name for name in node.input]
    attributes = {"ep_cache_context": str(source.secret), "embed_mode": 0} if operator == "EPContext" else {}
    model.graph.node.insert(0, helper.make_node(operator, [BIAS], ["bias"], domain=domain, **attributes))
    if draw.random() < 0.5 and domain:
        model.opset_import.append(helper.make_opsetid(domain, 1))
    case = sealed(f"unknown operator {domain[:20]}::{operator[:20]}", model, metadata, LOADING)
    return foreign(case, model) if draw.random() < 0.3 else case


def duplicates(source: Source, draw: random.Random) -> HostileFile:
    model, metadata = parts(source)
    kind = draw.choice(("output", "node", "input", "initializer as output", "metadata"))
    if kind == "metadata":
        entry = protobuf.message((1, "lmtool.format"), (2, "1"))
        return raw("duplicate metadata", source.model + protobuf.message((14, entry)))
    if kind == "output":
        model.graph.output.append(model.graph.output[draw.randrange(len(model.graph.output))])
    elif kind == "input":
        model.graph.input.append(model.graph.input[draw.randrange(len(model.graph.input))])
    elif kind == "node":
        model.graph.node.append(model.graph.node[draw.randrange(len(model.graph.node))])
    else:
        model.graph.node.insert(0, helper.make_node("Neg", [BIAS], [BIAS]))
    return sealed(f"duplicate {kind}", model, metadata, () if kind in ("output", "input") else LOADING)


def deep_nesting(source: Source, draw: random.Random) -> HostileFile:
    model, metadata = parts(source)
    if draw.random() < 0.4:
        key = draw.choice(("lmtool.model", "lmtool.vocabulary", "lmtool.tokenization", "lmtool.parity"))
        metadata[key] = deep_json(draw).decode()
        # Only a hash of the parity is read, so it may be nested to any depth.
        return sealed(f"deep nesting in {key}", model, metadata, () if key == "lmtool.parity" else ALL)
    depth = draw.choice((30, 200, 3000))
    graph = protobuf.message((2, "inner"))
    for _ in range(depth):
        graph = protobuf.message(
            (1, protobuf.message((4, "If"), (5, protobuf.message((1, "then_branch"), (20, 5), (6, graph)))))
        )
    if depth < 100:
        model.graph.node.add().ParseFromString(_first_node(graph))
        return sealed(f"nested {depth} deep", model, metadata, ())  # which is not used, and not deep
    return raw(f"nested {depth} deep", source.model + protobuf.message((7, graph)))


def _first_node(graph: bytes) -> bytes:
    data = memoryview(graph)
    field = next(protobuf.fields(data))
    return bytes(data[field.start : field.end])


def wrong_metadata(source: Source, draw: random.Random) -> HostileFile:
    model, metadata = parts(source)
    key = draw.choice(sorted(key for key in metadata if key.startswith("lmtool.")))
    kind = draw.choice(("missing", "value", "entry"))
    harmless = key in ("lmtool.training", "lmtool.parity")
    if kind == "missing":
        del metadata[key]
        return sealed(f"no {key}", model, metadata)
    value: Any = draw.choice(ODD_VALUES)
    if kind == "entry" and key in ("lmtool.model", "lmtool.tokenization", "lmtool.training", "lmtool.parity"):
        content = json.loads(metadata[key])
        content[draw.choice([*sorted(content), "original_sha256"])] = value
        metadata[key] = json.dumps(content)
        return sealed(f"an entry of {key} is {str(value)[:20]}", model, metadata, ())
    metadata[key] = json.dumps(value)
    loads = harmless and isinstance(value, dict)
    return sealed(f"{key} is {str(value)[:20]}", model, metadata, () if loads else ALL)


def other_contents(source: Source, draw: random.Random) -> HostileFile:
    kind, data = draw.choice(
        (
            ("pickle", source.pickle()),
            ("pickle behind the artifact", source.model + source.pickle()),
            ("nothing", b""),
            ("a zip archive", b"PK\x03\x04" + draw.randbytes(200)),
            ("noise", draw.randbytes(draw.randrange(1, 3000))),
            ("an end", source.model[: draw.randrange(1, len(source.model))]),
        )
    )
    return raw(kind, data)


def wrong_graph(source: Source, draw: random.Random) -> HostileFile:
    model, metadata = parts(source)
    kind = draw.choice(("no graph", "cycle", "rename", "width", "kind", "opset", "ir"))
    value = draw.choice([*model.graph.input[:5], *model.graph.output])
    tensor_type = value.type.tensor_type
    changes: dict[str, Callable[[], Any]] = {
        "no graph": lambda: model.ClearField("graph"),
        "cycle": lambda: model.graph.node[0].input.__setitem__(0, model.graph.node[-1].output[0]),
        "rename": lambda: setattr(value, "name", draw.choice(("", "x", "logits" if value.name != "logits" else "y"))),
        "width": lambda: setattr(tensor_type.shape.dim[-1], "dim_value", draw.choice((1, 2**40))),
        "kind": lambda: setattr(tensor_type, "elem_type", draw.choice((0, 2, 8, 16, 99))),
        "opset": lambda: setattr(model.opset_import[0], "version", draw.choice((0, -1, 999, 2**40))),
        "ir": lambda: setattr(model, "ir_version", draw.choice((99, 2**40))),
    }
    changes[kind]()
    may_refuse = tuple(entry_point for entry_point in ALL if entry_point not in LOADING)
    data = {"model.onnx": seal(model, metadata)}
    return HostileFile(f"a wrong graph: {kind} {value.name}", data, () if kind == "width" else LOADING, may_refuse)


ARTIFACTS: tuple[Recipe, ...] = (external_data, huge_sizes, external_data, local_functions, unknown_operators)
ARTIFACTS += (duplicates, deep_nesting, wrong_metadata, other_contents, wrong_graph)
