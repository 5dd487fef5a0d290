"""Hostile ONNX files that expand when loaded or run, and files of two formats at once."""

import itertools
import json
import random

import numpy as np
import onnx
from lmtool.export.build import seal
from lmtool.runtime import Artifact
from lmtool.runtime.artifact import protobuf
from lmtool.runtime.artifact.artifact import HASH_PLACEHOLDER, hash_with_placeholder
from onnx import TensorProto, helper, numpy_helper

from support.hostile.artifacts import ALL, BIAS, parts, raw
from support.hostile.entry_points import LOADING, READING
from support.hostile.files import HostileFile, Recipe, Source

ADOPTING = ("adopt", "identify")
LOADED = ("Predictor.load", "Predictor.load of bytes")
_GRAPH = 7


def bombs(source: Source, draw: random.Random) -> HostileFile:
    """A graph that computes something huge when run; loading must not compute it."""
    model, metadata = parts(source)
    operator = draw.choice(("ConstantOfShape", "Expand", "Tile"))
    size = draw.choice((100_000_000, 100_000_000, 400_000_000, 2**40))  # onnxruntime folds the first
    constants = {"size": np.array([size]), "one": np.ones(1, np.float32), "zero": np.zeros((), np.float32)}
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    for node in model.graph.node:
        node.input[:] = ["bias" if name == BIAS else name for name in node.input]
    inputs = ["size"] if operator == "ConstantOfShape" else ["one", "size"]
    bomb = [
        helper.make_node(operator, inputs, ["big"]),
        helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0),
    ]
    runs = draw.random() < 0.5
    nodes = [*(bomb if runs else _never_run(bomb)), helper.make_node("Add", [BIAS, "sum"], ["bias"])]
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    name = f"a bomb {'that runs' if runs else 'in a branch'}: {operator} of {size}"
    data = seal(model, metadata)
    if runs:
        return HostileFile(name, {"model.onnx": data}, (), (*READING, *LOADED))
    if draw.random() < 0.3:
        del model.metadata_props[:]
        must_refuse = tuple(entry_point for entry_point in ALL if entry_point not in ADOPTING)
        return HostileFile(f"{name}, to be adopted", {"model.onnx": model.SerializeToString()}, must_refuse, ADOPTING)
    index = json.loads((source.run / "test_vectors.json").read_text()) | {"sha256": Artifact.parse(data).sha256}
    files = {"model.onnx": data, "test_vectors.json": json.dumps(index).encode()}
    return HostileFile(name, files, (), (*READING, *LOADING, "adopt", "test vectors"))


def _never_run(bomb: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """The nodes in a branch that runs for an empty batch only, which is known at run time."""
    output = helper.make_tensor_value_info("sum", TensorProto.FLOAT, [])
    taken = helper.make_graph([helper.make_node("Identity", ["zero"], ["sum"])], "taken", [], [output])
    return [
        helper.make_node("Shape", ["token_ids"], ["sizes"]),
        helper.make_node("ReduceMin", ["sizes"], ["smallest"], keepdims=0),
        helper.make_node("Cast", ["smallest"], ["has_rows"], to=TensorProto.BOOL),
        helper.make_node("Not", ["has_rows"], ["condition"]),
        helper.make_node(
            "If",
            ["condition"],
            ["sum"],
            then_branch=helper.make_graph(bomb, "bomb", [], [output]),
            else_branch=taken,
        ),
    ]


def floods(source: Source, draw: random.Random) -> HostileFile:
    """Millions of small entries: a few bytes each in the file, hundreds in memory."""
    count = draw.randrange(1_500_000, 10_000_000)
    kind = draw.choice(("nodes", "initializers", "values", "attributes", "inputs", "floats", "opsets", "metadata"))
    if kind == "opsets":
        return raw(f"{count:,} opsets", resealed(source.model + protobuf.message((8, b"")) * count))
    if kind == "metadata":
        keys = map("".join, itertools.product("abcdefghijklmnopqrstuvwxyz", repeat=4))
        entries = [
            protobuf.message((14, protobuf.message((1, key), (2, "x" * 20)))) for key in itertools.islice(keys, 101_000)
        ]
        return raw("101,000 entries of metadata", resealed(source.model + b"".join(entries)))
    extra = {
        "nodes": protobuf.message((1, b"")) * count,
        "initializers": protobuf.message((5, b"")) * count,
        "values": protobuf.message((13, b"")) * count,
        "attributes": protobuf.message((1, protobuf.message((5, b"")) * count)),
        "inputs": protobuf.message((1, protobuf.message((1, b"")) * count)),
        "floats": protobuf.message(
            (1, protobuf.message((5, protobuf.message((1, "f"), (7, b"")) + b"\x3d\0\0\0\0" * (count // 3))))
        ),
    }
    return raw(f"{count:,} {kind}", resealed(in_graph(source.model, extra[kind])))


def polyglots(source: Source, draw: random.Random) -> HostileFile:
    """An artifact with the marker of onnxruntime's own format in bytes 5 to 8."""
    start = protobuf.message((1, 8), (2, "ORTM" + "x" * draw.choice((0, 3))))
    return raw("a polyglot", resealed(start + source.model))


def in_graph(data: bytes, extra: bytes) -> bytes:
    """An artifact with more bytes at the end of its graph."""
    (graph,) = [field for field in protobuf.fields(memoryview(data)) if field.number == _GRAPH]
    content = data[graph.start : graph.end]
    start = graph.start - (len(protobuf.message((_GRAPH, content))) - len(content))
    return data[:start] + protobuf.message((_GRAPH, content + extra)) + data[graph.end :]


def resealed(data: bytes) -> bytes:
    """Changed bytes of an artifact with a valid hash."""
    key = b"lmtool.sha256"
    start = data.index(key) + len(key) + 2
    end = start + len(HASH_PLACEHOLDER)
    return data[:start] + hash_with_placeholder(data, start, end).encode() + data[end:]


BOMBS: tuple[Recipe, ...] = (bombs, floods, polyglots)
