"""Test vectors as files: the folders that ONNX's test runners read, and an index.

`test_data_set_N/input_K.pb` and `output_K.pb` hold tensors (ONNX's TensorProto) in the order of the graph's inputs and
outputs, under their names. `test_vectors.json` holds the name and hash of the artifact, a description of each folder,
the source of the expected outputs, and their bound; `data.json` holds the bound for ONNX's runner.
"""

import math
import re
import reprlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from ...runtime.artifact.artifact import LOGITS, NEXT, TOKEN_IDS, Artifact
from ...runtime.errors import JsonError, StorageError, truncated
from ...runtime.io.files import json_text, make_folder, read_bytes, write_atomically
from ...runtime.io.json_reader import parse_json
from ..errors import ExportError
from ..parity import Array
from .text_cases import NAME as TEXTS
from .vectors import FOLDER, Vectors, VectorSet

FORMAT = 1
INDEX = "test_vectors.json"
_TOLERANCES = "data.json"


def require_room(artifact: Path) -> None:
    """Check, before any work, that test vectors can be written beside an artifact.

    Raises:
        ExportError: The folder holds vectors of another artifact, or files or folders of their names without an index.
        StorageError: The index cannot be read.
    """
    index = artifact.parent / INDEX
    remedy = "remove them, or export into another folder: --out DIR/model.onnx"
    if not index.exists():
        named = (artifact.parent / name for name in (_TOLERANCES, TEXTS))
        if others := [path for path in (*_folders(artifact.parent), *named) if path.exists()]:
            raise ExportError(f"{others[0]} is there without {INDEX}, so its artifact is not known; {remedy}")
        return
    owner = _index(index)["artifact"]
    if owner != artifact.name:
        raise ExportError(
            f"the test vectors in {artifact.parent} are those of {owner}, expected {artifact.name}; {remedy}"
        )


def write_vectors(vectors: Vectors, folder: Path) -> Path:
    """Write the folders and the index; earlier vectors of the same artifact are replaced.

    Returns:
        The index.

    Raises:
        StorageError: A file or folder cannot be written or removed.
    """
    index, content = folder / INDEX, {"format": FORMAT, **vectors.to_json()}
    # An index without sets says that their writing was stopped.
    write_atomically(index, f"{json_text(content | {'sets': []}, indent=1)}\n".encode())
    for old in _folders(folder):
        _remove(old)
    for vector_set in vectors.sets:
        make_folder(folder / vector_set.folder)
        for kind, tensors in (("input", vector_set.inputs), ("output", vector_set.outputs)):
            for position, (name, array) in enumerate(tensors.items()):
                data = numpy_helper.from_array(np.ascontiguousarray(array), name).SerializeToString(deterministic=True)
                write_atomically(folder / vector_set.folder / f"{kind}_{position}.pb", data)
    write_atomically(folder / _TOLERANCES, f"{json_text({'rtol': 0.0, 'atol': vectors.tolerance})}\n".encode())
    write_atomically(index, f"{json_text(content, indent=1)}\n".encode())
    return index


def read_vectors(artifact: Path, known: Artifact) -> Vectors:
    """Read the test vectors beside an artifact.

    Args:
        artifact: The artifact's file.
        known: Its content.

    Raises:
        StorageError: A file cannot be read.
        ExportError: The vectors are missing, damaged, or of another file.
    """
    path = artifact.parent / INDEX
    if not path.exists():
        raise ExportError(f"there are no test vectors beside {artifact}: no {INDEX}; lmtool export --test-vectors")
    index = _index(path)
    if (index["artifact"], index["sha256"]) != (artifact.name, known.sha256):
        raise ExportError(
            f"the test vectors in {artifact.parent} are those of {index['artifact']} with the hash "
            f"{str(index['sha256'])[:12]}..., expected {artifact.name} with {known.sha256[:12]}...; "
            "export again: --test-vectors"
        )
    if not index["sets"]:
        raise ExportError(f"{path} lists no sets: their writing was stopped; export again: --test-vectors")
    sets = [_read_set(artifact.parent, entry) for entry in index["sets"]]
    for vector_set in sets:
        _require_fit(artifact.parent / vector_set.folder, vector_set, known)
    return Vectors(artifact.name, known.sha256, index["expected_from"], index["bound"], sets)


def _folders(folder: Path) -> list[Path]:
    """The folders that are named as vectors are."""
    return sorted(path for path in folder.glob(f"{FOLDER}*") if path.name.removeprefix(FOLDER).isdecimal())


def _index(path: Path) -> dict[str, Any]:
    expected = {"artifact": str, "sha256": str, "expected_from": str, "bound": float, "sets": list}
    try:
        index = parse_json(read_bytes(path))
    except JsonError as error:
        raise ExportError(f"{path} {error}") from error
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise ExportError(f"{path} is not of format {FORMAT}, which this version writes; export again: --test-vectors")
    for name, kind in expected.items():
        if not isinstance(index.get(name), kind):
            raise ExportError(f"{path} has {name} {reprlib.repr(index.get(name))}, expected a {kind.__name__}")
    if not 0 < index["bound"] < math.inf:
        raise ExportError(f"{path} has the bound {index['bound']}, expected a positive number")
    return index


def _read_set(folder: Path, entry: Any) -> VectorSet:
    try:
        name, what, in_loop = str(entry["folder"]), str(entry["what"]), bool(entry["in_loop"])
    except (TypeError, KeyError) as error:
        raise ExportError(
            f"{folder / INDEX} has the set {reprlib.repr(entry)}, expected folder, what and in_loop"
        ) from error
    if not re.fullmatch(rf"{FOLDER}\d{{1,9}}", name):
        raise ExportError(f"{folder / INDEX} names the folder {reprlib.repr(name)}, expected {FOLDER} and a number")
    return VectorSet(name, what, _tensors(folder / name, "input"), _tensors(folder / name, "output"), in_loop)


def _require_fit(folder: Path, vector_set: VectorSet, known: Artifact) -> None:
    """Check names, types and shapes of a set against the artifact, and that all numbers are finite."""
    tokens = vector_set.inputs.get(TOKEN_IDS)
    if tokens is None or tokens.ndim != 2 or tokens.dtype != np.int64 or tokens.size == 0:
        raise ExportError(f"{folder} has no input {TOKEN_IDS}, int64 [batch, time]; export again: --test-vectors")
    batch, time = tokens.shape
    states = {name: (batch, width) for name, width in known.architecture.states.items()}
    outputs = {LOGITS: (batch, time, len(known.vocabulary)), **{f"{NEXT}{name}": states[name] for name in states}}
    for kind, expected, tensors in (("input", states, vector_set.inputs), ("output", outputs, vector_set.outputs)):
        shapes = {name: array.shape for name, array in tensors.items() if name != TOKEN_IDS}
        if shapes != expected or any(tensors[name].dtype != np.float32 for name in expected):
            raise ExportError(
                f"{folder} holds the {kind}s {reprlib.repr(shapes)}, expected float32 {expected}; "
                "export again: --test-vectors"
            )
        for name in expected:
            if not np.isfinite(tensors[name]).all():
                raise ExportError(
                    f"{folder} holds the {kind} {name} with numbers that are not finite; export again: --test-vectors"
                )


def _tensors(folder: Path, kind: str) -> dict[str, Array]:
    paths = [folder / f"{kind}_{position}.pb" for position in range(len(list(folder.glob(f"{kind}_*.pb"))))]
    if not paths:
        raise ExportError(f"{folder} holds no {kind}_0.pb; export again: --test-vectors")
    return dict(_tensor(path) for path in paths)


def _tensor(path: Path) -> tuple[str, Array]:
    tensor = onnx.TensorProto()
    data = read_bytes(path)
    try:
        tensor.ParseFromString(data)
        if tensor.data_location != onnx.TensorProto.DEFAULT or tensor.external_data:
            raise ExportError(f"{path} keeps its data in another file, expected it inside")
        return tensor.name, numpy_helper.to_array(tensor).copy()  # onnx's array is read-only; torch warns about that
    except ExportError:
        raise
    except Exception as error:  # errors of protobuf and onnx share no class
        raise ExportError(f"{path} holds no tensor: {truncated(error)}") from error


def _remove(path: Path) -> None:
    try:
        shutil.rmtree(path)
    except OSError as error:
        raise StorageError(f"cannot remove {path}: {error.strerror or error}") from error
