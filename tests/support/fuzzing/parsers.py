"""Fuzzing targets: parsers with their initial inputs, and how to correct checksums."""

import hashlib
import io
import json
import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import safetensors.torch
import torch
from lmtool.bench import Results
from lmtool.bench.regression.comparison import compare_runs
from lmtool.bench.regression.earlier_results import read_results, require_same, timings_of
from lmtool.export.build import seal
from lmtool.export.test_vectors.files import read_vectors
from lmtool.model import Corpus, ImportOptions, Run, Trainer, import_weights, load_corpus
from lmtool.model.checkpoint import Checkpoint
from lmtool.model.training import trainer
from lmtool.runtime import Artifact, LmtoolError, Predictor, State
from lmtool.runtime.artifact.artifact import HASH_KEY, HASH_PLACEHOLDER, hash_span, hash_with_placeholder

from support.foreign.programs import one_module
from support.models.results import make_results
from support.runs.checkpoints import sealed_checkpoint
from support.runs.reporters import RecordingReporter

_TOKENS = 100
_TRAINED_SHARE = 0.01
"""Share of resumed trainings that run to the end, which takes long."""


@dataclass(frozen=True)
class Target:
    """A parser.

    Attributes:
        seeds: Makes the initial inputs from a good run folder.
        mend: Corrects the checksums of an input, if it has any.
        work: Makes the function that reads an input, from a good run folder, a work folder and a counter of the stages
            that inputs reach.
    """

    seeds: Callable[[Path], list[bytes]]
    mend: Callable[[bytes], bytes]
    work: Callable[[Path, Path, Counter[str]], Callable[[bytes], Any]]


def same(data: bytes) -> bytes:
    """The unchanged bytes, for inputs without a checksum."""
    return data


def _with_correct_hash(data: bytes) -> bytes:
    """The bytes with the correct hash, if they still have a place for it."""
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


def _load_artifact(run: Path, folder: Path, reached: Counter[str]) -> Callable[[bytes], Any]:
    def work(data: bytes) -> None:
        Artifact.parse(data)
        reached["parsed"] += 1
        Predictor.load(data)
        reached["sessions opened"] += 1

    return work


def _with_correct_state_hash(data: bytes) -> bytes:
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


def _read_state(run: Path, folder: Path, reached: Counter[str]) -> Callable[[bytes], Any]:
    predictor = Predictor.load(run / "model.onnx")

    def work(data: bytes) -> None:
        stream = predictor.stream(state=State.from_bytes(data))
        reached["streams"] += 1
        stream.feed("the cat")
        stream.suggest(2)

    return work


def texts(run: Path) -> list[bytes]:
    """Texts of words."""
    odd = "\ufeffthe cat\r\n\n\u2028 caf\xe9 \U0001f600 a\u0301 don't os.path <unk>\n"
    return [b"the cat saw a dog\na dog saw the cat\n" * 3, odd.encode() * 2, b"a b\n" * 40]


def _read_corpus(run: Path, folder: Path, reached: Counter[str]) -> Callable[[bytes], Any]:
    rules = ("whitespace", "words", "words-2", "characters")

    def work(data: bytes) -> None:
        for name in ("train", "valid", "test"):
            (folder / f"{name}.txt").write_bytes(data)
        load_corpus(str(folder), rules[len(data) % 3], min_count=1 + len(data) % 2)
        reached["corpora"] += 1

    return work


def _json_file(name: str, read: Callable[[Run], Any]) -> Target:
    def work(run: Path, folder: Path, reached: Counter[str]) -> Callable[[bytes], Any]:
        def read_bytes(data: bytes) -> None:
            (folder / name).write_bytes(data)
            read(Run(folder))
            reached["read"] += 1

        return read_bytes

    return Target(lambda run: [(run / name).read_bytes()], same, work)


def _with_correct_checkpoint_hash(data: bytes) -> bytes:
    size = int.from_bytes(data[:8], "little")
    try:
        facts = json.loads(data[8 : 8 + size])["__metadata__"]["facts"]
        return sealed_checkpoint(safetensors.torch.load(data), facts)
    except Exception:  # too damaged to correct
        return data


def _checkpoints(run: Path) -> list[bytes]:
    best = Checkpoint.read(Run(run).best)
    small = {name: tensor for name, tensor in best.tensors.items() if tensor.numel() < 60}
    facts = json.dumps({"version": 1, **best.facts})
    return [sealed_checkpoint(small, facts), sealed_checkpoint(best.tensors, facts)]


def _read_checkpoint(run: Path, folder: Path, reached: Counter[str]) -> Callable[[bytes], Any]:
    for name in ("config.json", "vocabulary.json"):
        (folder / name).write_bytes((run / name).read_bytes())
    (folder / "checkpoints").mkdir()

    def work(data: bytes) -> None:
        Run(folder).best.write_bytes(data)
        Checkpoint.read(Run(folder).best)  # most fail here, before the slow start of `trained`
        reached["whole checkpoints"] += 1
        Run(folder).trained()
        reached["weights loaded"] += 1

    return work


def _latest(run: Path) -> list[bytes]:
    latest = Checkpoint.read(Run(run).latest)
    return [sealed_checkpoint(latest.tensors, json.dumps({"version": 1, **latest.facts}))]


def _resume(run: Path, folder: Path, reached: Counter[str]) -> Callable[[bytes], Any]:
    """Resume from a latest checkpoint as `train --resume` does; draw curves and train to the end for a few."""
    shutil.copytree(run, folder / "run", ignore=shutil.ignore_patterns("*.onnx", "test_*"))
    resumed, draw, curves = Run(folder / "run"), random.Random(0), trainer.draw_curves
    config, vocabulary = resumed.config(), resumed.vocabulary()
    ids = np.arange(_TOKENS, dtype=np.int32) % len(vocabulary)
    sha256 = resumed.corpus_facts()["sha256"]
    corpus = Corpus("small", sha256, vocabulary, {"train": ids, "valid": ids[:50], "test": ids[:50]})

    def work(data: bytes) -> None:
        trains = draw.random() < _TRAINED_SHARE
        trainer.draw_curves = curves if trains else lambda *_: None
        resumed.latest.write_bytes(data)
        resumed_trainer = Trainer.resume(config, corpus, resumed)
        reached["resumed"] += 1
        if trains:
            resumed_trainer.train(RecordingReporter())
            reached["trained to the end"] += 1

    return work


def _facts(run: Path) -> list[bytes]:
    """The facts of a latest checkpoint."""
    return [json.dumps({"version": 1, **Checkpoint.read(Run(run).latest).facts}).encode()]


def _resume_with(run: Path, folder: Path, reached: Counter[str]) -> Callable[[bytes], Any]:
    resume, tensors = _resume(run, folder, reached), Checkpoint.read(Run(run).latest).tensors

    def work(data: bytes) -> None:
        resume(sealed_checkpoint(tensors, data.decode(errors="replace")))

    return work


def _index(run: Path) -> dict[str, Any]:
    """The index of the test vectors, reduced to one set."""
    index: dict[str, Any] = json.loads((run / "test_vectors.json").read_text())
    return {**index, "sets": index["sets"][:1]}


def _indexes(run: Path) -> list[bytes]:
    return [json.dumps(_index(run)).encode()]


def _read_indexes(run: Path, folder: Path, reached: Counter[str]) -> Callable[[bytes], Any]:
    known, name = Artifact.read(run / "model.onnx"), _index(run)["sets"][0]["folder"]
    (folder / name).symlink_to(run / name)

    def work(data: bytes) -> None:
        (folder / "test_vectors.json").write_bytes(data)
        read_vectors(folder / "model.onnx", known)
        reached["read"] += 1

    return work


def _vector_files(run: Path) -> list[bytes]:
    folder = run / _index(run)["sets"][0]["folder"]
    return [path.read_bytes() for path in sorted(folder.glob("*.pb"))]


def _read_tensors(run: Path, folder: Path, reached: Counter[str]) -> Callable[[bytes], Any]:
    """Read the test vectors with the bytes in place of the file that begins like them."""
    known, index = Artifact.read(run / "model.onnx"), _index(run)
    name = index["sets"][0]["folder"]
    shutil.copytree(run / name, folder / name)
    (folder / "test_vectors.json").write_text(json.dumps(index))
    good = {path: path.read_bytes() for path in sorted((folder / name).glob("*.pb"))}

    def work(data: bytes) -> None:
        path = next((path for path, content in good.items() if content[:16] == data[:16]), next(iter(good)))
        path.write_bytes(data)
        try:
            read_vectors(folder / "model.onnx", known)
        finally:
            path.write_bytes(good[path])
        reached["read"] += 1

    return work


def _results(run: Path) -> list[bytes]:
    return [json.dumps(_example_results().to_json()).encode()]


def _example_results() -> Results:
    return make_results({"onnxruntime": [[0.1, 0.2], [0.3]], "torch": [[0.2, 0.25], [0.4]]})


def _compare(run: Path, folder: Path, reached: Counter[str]) -> Callable[[bytes], Any]:
    now = _example_results()

    def work(data: bytes) -> None:
        (folder / "bench.json").write_bytes(data)
        before = read_results(folder / "bench.json")
        comparison = compare_runs(timings_of(before), now, 0.1)
        comparison.format()
        json.dumps(comparison.to_json(), allow_nan=False)
        reached["compared"] += 1
        require_same(before, now.identity)

    return work


def _foreign_weights(run: Path) -> list[bytes]:
    """State_dicts in the two forms of `torch.save` and as safetensors; HDF5, for Keras, hangs on some damaged files."""
    program, weights, older = one_module("gru", ("embed", "gru", "fc"), 3, 1), io.BytesIO(), io.BytesIO()
    torch.save(program.state_dict(), weights)  # noqa: TID251 (as other programs do)
    torch.save(program.state_dict(), older, _use_new_zipfile_serialization=False)  # noqa: TID251
    return [weights.getvalue(), older.getvalue(), safetensors.torch.save(dict(program.state_dict()))]


def _import(run: Path, folder: Path, reached: Counter[str]) -> Callable[[bytes], Any]:
    def work(data: bytes) -> None:
        (folder / "weights").write_bytes(data)
        try:
            import_weights(ImportOptions(folder / "weights", folder / "imported"))
        finally:
            shutil.rmtree(folder / "imported", ignore_errors=True)
        reached["imported"] += 1

    return work


TARGETS = {
    "artifact loading": Target(_artifacts, _with_correct_hash, _load_artifact),
    "state bytes": Target(_states, _with_correct_state_hash, _read_state),
    "corpus reading": Target(texts, same, _read_corpus),
    "config parsing": _json_file("config.json", lambda run: (run.config(), run.corpus_facts())),
    "vocabulary parsing": _json_file("vocabulary.json", Run.vocabulary),
    "checkpoint reading": Target(_checkpoints, _with_correct_checkpoint_hash, _read_checkpoint),
    "latest checkpoint, resumed": Target(_latest, _with_correct_checkpoint_hash, _resume),
    "position of a training": Target(_facts, same, _resume_with),
    "test vectors' index": Target(_indexes, same, _read_indexes),
    "test vectors' tensors": Target(_vector_files, same, _read_tensors),
    "results of bench": Target(_results, same, _compare),
    "weights of other programs": Target(_foreign_weights, same, _import),
}
