"""Hostile files of a run folder: checkpoints, configurations, vocabularies, test vectors; and saved states."""

import json
import random
from typing import Any

import numpy as np
import onnx
import torch
from lmtool.model.checkpoint import Checkpoint
from onnx import numpy_helper

from support.hostile.files import HUGE, ODD_VALUES, HostileFile, Recipe, Source, deep_json
from support.runs.checkpoints import sealed_checkpoint

TRAINED = ("Run.trained", "lmtool info --run", "lmtool evaluate --run")
BEST, LATEST = "checkpoints/best.safetensors", "checkpoints/latest.safetensors"


def with_facts(tensors: dict[str, torch.Tensor], facts: Any) -> bytes:
    """A checkpoint with a valid hash and arbitrary facts."""
    return sealed_checkpoint(tensors, json.dumps(facts))


def with_header(header: bytes, body: bytes = b"", size: int | None = None) -> bytes:
    return (len(header) if size is None else size).to_bytes(8, "little") + header + body


def both(name: str, data: bytes) -> HostileFile:
    """Files that are not checkpoints, in place of both checkpoints."""
    entry_points = ("Checkpoint.read", *TRAINED, "lmtool train --resume", "import")
    return HostileFile(name, {BEST: data, LATEST: data}, entry_points)


def headers(source: Source, draw: random.Random) -> HostileFile:
    """A file that is not a checkpoint, or a checkpoint whose header does not match its tensors."""
    good = (source.run / BEST).read_bytes()
    size = int.from_bytes(good[:8], "little")
    kind = draw.choice(("pickle", "length", "deep", "entry", "twice", "noise", "end", "metadata", "zip"))
    if kind in ("entry", "twice", "metadata"):
        return _changed_header(kind, json.loads(good[8 : 8 + size]), good[8 + size :], draw)
    if kind in ("pickle", "zip"):
        behind = with_header(json.dumps({"__metadata__": {"facts": "{}"}}).encode(), source.pickle())
        return both(kind, draw.choice((source.pickle(), b"PK\x03\x04" + source.pickle(), behind)))
    if kind == "length":
        return both("header length", with_header(good[8 : 8 + size], good[8 + size :], draw.choice(HUGE)))
    if kind == "deep":
        return both("deep nesting", with_header(deep_json(draw)))
    if kind == "noise":
        return both("noise", draw.randbytes(draw.randrange(300)))
    return both("an end", good[: draw.randrange(len(good))])


def _changed_header(kind: str, header: dict[str, Any], body: bytes, draw: random.Random) -> HostileFile:
    name = draw.choice(sorted(header.keys() - {"__metadata__"}))
    if kind == "twice":
        entry = json.dumps({name: header[name]})[1:-1].encode()
        whole = json.dumps(header).encode()[:-1]
        return both("a tensor twice", with_header(whole + b"," + entry + b"," + entry + b"}", body + b"\0" * 8))
    if kind == "metadata":
        header["__metadata__"] = draw.choice((*ODD_VALUES[:9], *ODD_VALUES[10:], {"facts": "{}"}))
        return both("metadata", with_header(json.dumps(header).encode(), body))
    size = len(body)
    key, values = draw.choice(
        (
            ("dtype", ("F8_E4M3", "I4", "Q", 5, None, "C64", "BOOL")),
            ("shape", ([size], [size, size], [-1], "x", None, [2**63, 2], [0, 2**62], [1.5])),
            ("data_offsets", ([0, 2**62], [8, 0], [-1, 4], [0, 1], "x", [0])),
        )
    )
    header[name][key] = draw.choice(values)
    return both(f"{key} is {str(header[name][key])[:30]}", with_header(json.dumps(header).encode(), body))


def best_facts(source: Source, draw: random.Random) -> HostileFile:
    """A checkpoint with a valid hash and invalid facts."""
    best = Checkpoint.read(source.run / BEST)
    tensors, facts = dict(best.tensors), {"version": 1, **best.facts}
    kind = draw.choice(("facts", "fact", "tensor"))
    if kind == "facts":
        odd = [json.dumps(value) for value in (*ODD_VALUES, {"version": 2}, {"version": []})]
        wrong = draw.choice([*odd, deep_json(draw).decode()])
        return _best("facts", sealed_checkpoint(tensors, wrong), ("Checkpoint.read", *TRAINED))
    if kind == "fact":
        return _other_fact(tensors, facts, draw)
    name = draw.choice(sorted(tensors))
    replacement = _other_tensor(tensors.pop(name), draw)
    tensors |= {} if replacement is None else {name: replacement}
    return _best(f"tensor {name}", with_facts(tensors, facts), TRAINED)


def _other_fact(tensors: dict[str, torch.Tensor], facts: dict[str, Any], draw: random.Random) -> HostileFile:
    key = draw.choice(("epoch", "valid_perplexity", "test_perplexity", "vocabulary_sha256", "version"))
    value = draw.choice(ODD_VALUES)
    facts[key] = value
    good = {"epoch": (int,), "valid_perplexity": (float, type(None)), "test_perplexity": (float, type(None))}
    harmless = type(value) in good.get(key, ()) or (key == "version" and value is True)
    return _best(f"{key} is {str(value)[:20]}", with_facts(tensors, facts), () if harmless else TRAINED)


def _other_tensor(tensor: torch.Tensor, draw: random.Random) -> torch.Tensor | None:
    """None for no tensor at all."""
    kinds = (torch.float64, torch.float16, torch.int64, torch.bool, torch.float8_e4m3fn, torch.complex64)
    return draw.choice(
        (
            None,
            tensor.to(draw.choice(kinds)),
            tensor.flatten()[:-1].clone(),
            torch.full_like(tensor, draw.choice((np.nan, np.inf))),
            torch.zeros(0, 2**40),
        )
    )


def _best(name: str, data: bytes, must_refuse: tuple[str, ...]) -> HostileFile:
    others = tuple(entry_point for entry_point in ("Checkpoint.read", *TRAINED) if entry_point not in must_refuse)
    return HostileFile(f"best: {name}", {BEST: data}, must_refuse, (*others, "lmtool train --resume", "import"))


def latest_contents(source: Source, draw: random.Random) -> HostileFile:
    """A checkpoint with a valid hash that cannot be resumed."""
    latest = Checkpoint.read(source.run / LATEST)
    tensors, facts = dict(latest.tensors), json.loads(json.dumps({"version": 1, **latest.facts}))
    kind = draw.choice(("position", "history", "tensor", "new tensor", "processes"))
    if kind == "position":
        key = draw.choice(sorted(facts["position"]))
        value = draw.choice(("x", [], None, -1, float("nan"), True, {"a": 1}))
        facts["position"][key] = value if (key, value) != ("best_valid", None) else "x"
        facts["position"]["finished"] = ("x" if value is True else value) if key == "finished" else False
    elif kind == "history":
        facts["position"]["history"].append(draw.choice(({}, {"kind": "train"}, {"kind": []}, 5, {"kind": "x"})))
    elif kind == "processes":
        facts["processes"] = draw.choice(("1", 2, None, [], -1))
    elif kind == "new tensor":
        name = draw.choice(("model.x", "optimizer.x", "optimizer.0.x", "optimizer.99.step", "average.x", "carried.x"))
        tensors[name] = torch.zeros(3)
    else:
        name = draw.choice(sorted(name for name in tensors if not name.startswith("model.")))
        tensor = tensors.pop(name)
        shapes = (tensor.flatten()[:-1].clone(), torch.zeros(2, 2), tensor.to(torch.float16), tensor[None].clone())
        replacement = draw.choice((None, *shapes))
        tensors |= {} if replacement is None else {name: replacement}
        kind = f"tensor {name}"
    return HostileFile(f"latest: {kind}", {LATEST: with_facts(tensors, facts)}, ("lmtool train --resume",))


def configurations(source: Source, draw: random.Random) -> HostileFile:
    good = json.loads((source.run / "config.json").read_text())
    entry_points = (*TRAINED, "lmtool train --resume")
    kind = draw.choice(("deep", "pickle", "field", "sizes", "corpus", "noise", "whole"))
    if kind in ("deep", "pickle", "noise"):
        data = {"deep": deep_json(draw), "pickle": source.pickle(), "noise": draw.randbytes(99)}[kind]
        return HostileFile(f"config.json: {kind}", {"config.json": data}, entry_points)
    if kind == "whole":
        return HostileFile("config.json: another value", {"config.json": _text(draw.choice(ODD_VALUES))}, entry_points)
    training = good["training"]
    if kind == "sizes":
        # Too large for memory: sizes must be compared with the checkpoint before a network is made.
        training |= {"embedding_size": 65536, "layer_sizes": [65536] * draw.choice((1, 2, 50))}
        return HostileFile("config.json: huge sizes", {"config.json": _text(good)}, entry_points)
    if kind == "corpus":
        good["corpus"] = draw.choice((None, [], {"name": 5, "sha256": 6}, {"name": "x" * 9999}))
        return HostileFile("config.json: corpus", {"config.json": _text(good)}, ("lmtool train --resume",), TRAINED)
    key = draw.choice(sorted(training))
    training[key] = draw.choice((*ODD_VALUES[5:7], *ODD_VALUES[9:], "nan", "1e999", "-1"))
    must_refuse = () if key == "preset" else entry_points
    return HostileFile(
        f"config.json: {key} is {str(training[key])[:20]}", {"config.json": _text(good)}, must_refuse, entry_points
    )


def vocabularies(source: Source, draw: random.Random) -> HostileFile:
    good = json.loads((source.run / "vocabulary.json").read_text())
    kind = draw.choice(("deep", "pickle", "whole", "tokens", "tokenization", "many"))
    if kind == "tokens":
        odd = (*ODD_VALUES, [*good["tokens"], "the"], [*good["tokens"], "\ud800"], good["tokens"][::-1])
        good["tokens"] = draw.choice(odd)
    elif kind == "many":
        good["tokens"] += [f"{number}" for number in range(draw.choice((1, 20_000)))]
    elif kind == "tokenization":
        good["tokenization"][draw.choice(("rule", "unknown", "end_of_sentence"))] = draw.choice((*ODD_VALUES, "(a+)+$"))
    data = {"deep": deep_json(draw), "pickle": source.pickle(), "whole": _text(draw.choice(ODD_VALUES))}
    return HostileFile(f"vocabulary.json: {kind}", {"vocabulary.json": data.get(kind, _text(good))}, TRAINED)


def vectors(source: Source, draw: random.Random) -> HostileFile:
    kind = draw.choice(("deep", "folder", "field", "tensor", "outside"))
    if kind in ("tensor", "outside"):
        path = f"test_data_set_0/{draw.choice(('input', 'output'))}_{draw.choice((0, 1, 2))}.pb"
        tensor = onnx.TensorProto()
        tensor.ParseFromString((source.run / path).read_bytes())
        (_put_outside if kind == "outside" else _misdescribe)(tensor, source, draw)
        return HostileFile(f"vectors: {kind} in {path}", {path: tensor.SerializeToString()}, ("test vectors",))
    if kind == "deep":
        return HostileFile("vectors: deep nesting", {"test_vectors.json": deep_json(draw)}, ("test vectors",))
    index = json.loads((source.run / "test_vectors.json").read_text())
    if kind == "folder":
        index["sets"][0]["folder"] = draw.choice(("..", ".", "", "/etc", "../x", "a\0b", "x" * 9999, "\ud800", None, 5))
        return HostileFile("vectors: folder", {"test_vectors.json": _text(index)}, ("test vectors",))
    index[draw.choice(sorted(index.keys() - {"expected_from"}))] = draw.choice((*ODD_VALUES, [1], [{}], 1e999))
    return HostileFile("vectors: a field", {"test_vectors.json": _text(index)}, (), ("test vectors",))


def _put_outside(tensor: onnx.TensorProto, source: Source, draw: random.Random) -> None:
    tensor.data_location = draw.choice((0, 1))
    location = draw.choice((str(source.secret), "relative.bin", "../../inside/hard.bin"))
    tensor.external_data.add(key="location", value=location)


def _misdescribe(tensor: onnx.TensorProto, _: Source, draw: random.Random) -> None:
    change = draw.choice(("dims", "type", "name", "strings"))
    if change == "dims":
        tensor.dims[:] = [draw.choice(HUGE), 1]
    elif change == "type":
        tensor.data_type = draw.choice((0, 2, 6, 9, 11, 14, 16, 21, 99))
    elif change == "name":
        tensor.name = "x"
    else:
        tensor.CopyFrom(numpy_helper.from_array(np.array([["a"]], object), tensor.name))


def states(source: Source, draw: random.Random) -> HostileFile:
    good = (source.run / "stream.state").read_bytes()
    size = int.from_bytes(good[8:12], "little")
    header, body = json.loads(good[12 : 12 + size]), good[12 + size :]
    kind = draw.choice(("pickle", "deep", "length", "field", "end"))
    if kind == "field":
        header[draw.choice(sorted(header))] = draw.choice((*ODD_VALUES, [[2**62, 2]], [[0, 2**31 - 1]] * 4))
    encoded = deep_json(draw) if kind == "deep" else json.dumps(header).encode()
    length = draw.choice((2**31, 2**32 - 1, 0)) if kind == "length" else len(encoded)
    data = good[:8] + length.to_bytes(4, "little") + encoded + body
    data = {"pickle": source.pickle(), "end": good[: draw.randrange(len(good))]}.get(kind, data)
    return HostileFile(f"state: {kind}", {"stream.state": data}, ("State.from_bytes",))


def _text(value: Any) -> bytes:
    return json.dumps(value).encode()


RUNS: tuple[Recipe, ...] = (headers, best_facts, latest_contents, configurations, vocabularies, vectors, states)
