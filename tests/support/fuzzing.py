"""What is fuzzed, one parser each, and the child processes that do it."""

import contextlib
import hashlib
import json
import os
import random
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import safetensors.torch
from lmtool.export.sealing import seal
from lmtool.export.vector_files import read_vectors
from lmtool.model import Run, load_corpus
from lmtool.model.checkpoint import Checkpoint, _hash
from lmtool.runtime import Artifact, LmtoolError, Predictor, State
from lmtool.runtime.artifact import HASH_KEY, HASH_PLACEHOLDER, hash_span, hash_with_placeholder
from mutation import Lines, Mutator
from watching import HANG_SECONDS, Notes, entries, limit_memory, watched

_OPENS_A_SESSION = 0.2


@dataclass(frozen=True)
class Target:
    """A parser: what it is fed at first, how its checksum is put right, and what reads the bytes."""

    seeds: Callable[[Path], list[bytes]]
    mend: Callable[[bytes], bytes]
    work: Callable[[Path, Path], Callable[[bytes], Any]]


def _same(data: bytes) -> bytes:
    return data


def _sealed_again(data: bytes) -> bytes:
    """The bytes with the hash that they should have, where they still have a place for it."""
    try:
        start, end = hash_span(data)
    except LmtoolError:
        return data
    if end - start != len(HASH_PLACEHOLDER):
        return data
    return data[:start] + hash_with_placeholder(data, start, end).encode() + data[end:]


def _artifacts(run: Path) -> list[bytes]:
    good = (run / "model.onnx").read_bytes()
    model = onnx.load_model_from_string(good)
    metadata = {entry.key: entry.value for entry in model.metadata_props if entry.key != HASH_KEY}
    plain = {**metadata, "lmtool.training": "{}", "lmtool.parity": "{}"}
    return [good, seal(model, plain)]


def _load_artifact(run: Path, folder: Path) -> Callable[[bytes], Any]:
    draw = random.Random(0)

    def work(data: bytes) -> None:
        Artifact.parse(data)
        if draw.random() < _OPENS_A_SESSION:
            Predictor.load(data)

    return work


def _state_mended(data: bytes) -> bytes:
    end = 12 + int.from_bytes(data[8:12], "little")
    try:
        header = json.loads(data[12:end])
        header["sha256"] = hashlib.sha256(data[end:]).hexdigest()
    except (ValueError, TypeError, RecursionError):
        return data
    encoded = json.dumps(header).encode()
    return data[:8] + len(encoded).to_bytes(4, "little") + encoded + data[end:]


def _states(run: Path) -> list[bytes]:
    return [(run / name).read_bytes() for name in ("stream.state", "plain.state")]


def _read_state(run: Path, folder: Path) -> Callable[[bytes], Any]:
    predictor = Predictor.load(run / "model.onnx")

    def work(data: bytes) -> None:
        stream = predictor.stream(state=State.from_bytes(data))
        stream.feed("the cat")
        stream.suggest(2)

    return work


def _texts(run: Path) -> list[bytes]:
    odd = "\ufeffthe cat\r\n\n\u2028 caf\xe9 \U0001f600 a\u0301 don't os.path <unk>\n"
    return [b"the cat saw a dog\na dog saw the cat\n" * 3, odd.encode() * 2, b"a b\n" * 40]


def _read_corpus(run: Path, folder: Path) -> Callable[[bytes], Any]:
    rules = ("whitespace", "words", "characters")

    def work(data: bytes) -> None:
        for name in ("train", "valid", "test"):
            (folder / f"{name}.txt").write_bytes(data)
        load_corpus(str(folder), rules[len(data) % 3], min_count=1 + len(data) % 2)

    return work


def _json_file(name: str, read: Callable[[Run], Any]) -> Target:
    def work(run: Path, folder: Path) -> Callable[[bytes], Any]:
        def read_bytes(data: bytes) -> None:
            (folder / name).write_bytes(data)
            read(Run(folder))

        return read_bytes

    return Target(lambda run: [(run / name).read_bytes()], _same, work)


def _checkpoint_mended(data: bytes) -> bytes:
    size = int.from_bytes(data[:8], "little")
    try:
        facts = json.loads(data[8 : 8 + size])["__metadata__"]["facts"]
        return safetensors.torch.save(
            tensors := safetensors.torch.load(data), {"facts": facts, "sha256": _hash(tensors, facts)}
        )
    except Exception:  # whatever it is, there is nothing to mend
        return data


def _checkpoints(run: Path) -> list[bytes]:
    best = Checkpoint.read(Run(run).best)
    small = {name: tensor for name, tensor in best.tensors.items() if tensor.numel() < 60}
    facts = json.dumps({"version": 1, **best.facts})
    return [safetensors.torch.save(small, {"facts": facts, "sha256": _hash(small, facts)}), Run(run).best.read_bytes()]


def _read_checkpoint(run: Path, folder: Path) -> Callable[[bytes], Any]:
    for name in ("config.json", "vocabulary.json"):
        (folder / name).write_bytes((run / name).read_bytes())
    (folder / "checkpoints").mkdir()

    def work(data: bytes) -> None:
        Run(folder).best.write_bytes(data)
        Checkpoint.read(Run(folder).best)  # most go no further, and what comes before this in `trained` takes long
        Run(folder).trained()

    return work


def _read_vectors(run: Path, folder: Path) -> Callable[[bytes], Any]:
    known = Artifact.read(run / "model.onnx")
    (folder / "test_data_set_0").symlink_to(run / "test_data_set_0")

    def work(data: bytes) -> None:
        (folder / "test_vectors.json").write_bytes(data)
        read_vectors(folder / "model.onnx", known)

    return work


def _indexes(run: Path) -> list[bytes]:
    index = json.loads((run / "test_vectors.json").read_text())
    return [json.dumps({**index, "sets": index["sets"][:1]}).encode()]


def _planted(fault: Callable[[bytes], Any]) -> Target:
    """A parser with a fault behind a few bytes."""

    def work(run: Path, folder: Path) -> Callable[[bytes], Any]:
        def planted(data: bytes) -> None:
            if data[:1] != b"t":
                raise LmtoolError("no text")
            if b"NaN" in data:
                fault(data)

        return planted

    return Target(lambda run: _texts(run)[:1], _same, work)


def _run_for_ever(_: bytes) -> None:
    while True:
        pass


def _crash(_: bytes) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


TARGETS = {
    "artifact loading": Target(_artifacts, _sealed_again, _load_artifact),
    "state bytes": Target(_states, _state_mended, _read_state),
    "corpus reading": Target(_texts, _same, _read_corpus),
    "config parsing": _json_file("config.json", lambda run: (run.config(), run.corpus_facts())),
    "vocabulary parsing": _json_file("vocabulary.json", Run.vocabulary),
    "checkpoint reading": Target(_checkpoints, _checkpoint_mended, _read_checkpoint),
    "test vectors": Target(_indexes, _same, _read_vectors),
}

PLANTED = {
    "an index without a check": _planted(lambda data: data[len(data)]),
    "a loop without an end": _planted(_run_for_ever),
    "a crash": _planted(_crash),
}
"""For the positive control."""


@dataclass(frozen=True)
class Fuzzed:
    """What became of a number of inputs.

    Attributes:
        tried: How many inputs were tried.
        refused: How many met an error of ours.
        lines: How many lines of code were reached.
        untyped: Other errors, with the seed, the input and the traceback.
        ended: The crash or hang that ended it, with the seed and the input.
    """

    tried: int
    refused: int
    lines: int
    untyped: list[str]
    ended: list[str]


def fuzz(
    name: str, run: Path, folder: Path, count: int, seed: int, *, patience_seconds: float = HANG_SECONDS
) -> Fuzzed:
    """Feed `count` inputs to a child process, or fewer where it crashes or hangs."""
    folder.mkdir()
    notes, last, ended = folder / "notes.jsonl", folder / "input", []
    ending = watched(_fuzz, notes, name, run, folder, count, seed, patience_seconds=patience_seconds)
    if ending.how != "ok":
        shown = last.read_bytes()[:300] if last.exists() else notes.with_suffix(".stderr").read_text()
        ended.append(f"{name}, seed {seed}, {ending.how} after {ending.last}: {shown!r}")
    found = list(entries(notes))
    return Fuzzed(
        int(ending.last.partition(" ")[0]) if ending.last[:1].isdigit() else 0,
        sum(entry.get("refused", 0) for entry in found),
        max((entry.get("lines", 0) for entry in found), default=0),
        [entry["untyped"] for entry in found if "untyped" in entry],
        ended,
    )


def _fuzz(notes: Notes, name: str, run: Path, folder: Path, count: int, seed: int) -> None:
    (folder / "work").mkdir()
    target, lines, refused = {**TARGETS, **PLANTED}[name], Lines(), 0
    mutator = Mutator(seed, target.seeds(run), target.mend)
    work, kept = target.work(run, folder / "work"), (folder / "input").open("wb", buffering=0)
    for data in target.seeds(run):
        with contextlib.suppress(LmtoolError):  # any other error would be a fault of the harness
            lines.run(work, data)
    limit_memory()
    reported: set[str] = set()
    for number in range(1, count + 1):
        data = mutator.next()
        kept.seek(0)
        kept.truncate()
        kept.write(data)
        notes.trying(f"{number} inputs")
        try:
            lines.run(work, data)
        except LmtoolError:
            refused += 1
        except Exception as error:
            where = f"{type(error).__name__} {traceback.extract_tb(error.__traceback__)[-1]}"
            if where not in reported:
                reported.add(where)
                text = f"{name}, seed {seed}, input {data[:300]!r}: {traceback.format_exc()[-1500:]}"
                notes.found(untyped=text)
        if lines.new:
            mutator.keep(data)
    notes.found(refused=refused, lines=len(lines.seen))
