"""Checkpoints: one safetensors file with everything that a training needs to go on exactly where it was.

Tensors are named `model.*`, `optimizer.*`, `average.*`, `carried.*` (the recurrent state) and `random.PROCESS.*`. The
header's metadata holds `facts` (JSON) and `sha256`, a hash over facts and tensors, so that any changed bit is noticed.
The file is replaced in one step: it is never half-written, and never mixes two moments of a training.
"""

import contextlib
import hashlib
import json
import math
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ..runtime.artifact.architecture import Architecture
from ..runtime.errors import JsonError, truncated
from ..runtime.io.files import RETRY_AFTER_SECONDS, read_bytes, write_atomically
from ..runtime.io.json_reader import LARGE_BYTES, parse_json
from ..runtime.vocabulary import Vocabulary
from .errors import CheckpointError
from .network import weight_shapes

VERSION = 1


@final
@dataclass(frozen=True)
class Checkpoint:
    """Named tensors and JSON facts.

    Attributes:
        tensors: Name -> tensor, on the CPU.
        facts: Progress, history, hashes: everything else, ready for JSON. `write` adds `version`.
    """

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]

    @classmethod
    def of_weights(
        cls, weights: Mapping[str, Tensor], vocabulary: Vocabulary, facts: Mapping[str, Any]
    ) -> "Checkpoint":
        """A checkpoint of weights only, for `Run.trained`; adds the hashes of weights and vocabulary to the facts."""
        tensors = {f"model.{name}": tensor for name, tensor in weights.items()}
        hashes = {"weights_sha256": weights_hash(weights), "vocabulary_sha256": vocabulary.sha256}
        return cls(tensors, {**facts, **hashes})

    def group(self, prefix: str) -> dict[str, Tensor]:
        """The tensors named `prefix.*`, without the prefix."""
        start = f"{prefix}."
        return {name[len(start) :]: tensor for name, tensor in self.tensors.items() if name.startswith(start)}

    def weights(self, architecture: Architecture, vocabulary_size: int) -> dict[str, Tensor]:
        """The weights, checked without a network: a damaged configuration may ask for one of any size.

        Raises:
            CheckpointError: They do not fit architecture and vocabulary, or hold NaN or infinity.
        """
        return validate_tensors("model", self.group("model"), weight_shapes(architecture, vocabulary_size))

    def require_epoch_facts(self) -> None:
        """Check epoch and perplexities, the facts of weights that `of_weights` saved.

        Raises:
            CheckpointError: One is missing or outside its range.
        """
        epoch = self.facts.get("epoch")
        if type(epoch) is not int or not 0 <= epoch < 2**63:
            raise CheckpointError(f"the checkpoint has the epoch {reprlib.repr(epoch)}, expected 0 or more, below 2^63")
        missing = {"unigram_perplexity": None}  # in checkpoints of earlier versions
        for key in ("valid_perplexity", "test_perplexity", *missing):
            value = self.facts.get(key, missing.get(key, math.nan))
            if value is not None and not (type(value) is float and 1 <= value < math.inf):
                shown = reprlib.repr(self.facts.get(key))
                raise CheckpointError(f"the checkpoint has the {key} {shown}, expected a finite number of 1 or more")

    def write(self, path: Path) -> None:
        """Write the file in one step; a failed write is repeated a few times.

        Raises:
            StorageError: It cannot be written; an older checkpoint under this name is untouched.
        """
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.tensors.items()}
        facts = json.dumps({"version": VERSION, **self.facts})
        data = safetensors.torch.save(tensors, {"facts": facts, "sha256": _hash(tensors, facts)})
        write_atomically(path, data, RETRY_AFTER_SECONDS)

    @classmethod
    def read(cls, path: Path) -> "Checkpoint":
        """Read and check a file.

        Raises:
            StorageError: It cannot be read.
            CheckpointError: It is not a checkpoint, is damaged, or has another version.
        """
        data = read_bytes(path)
        try:
            tensors = safetensors.torch.load(data)
            metadata = _metadata(data)
            facts = metadata["facts"]
            if _hash(tensors, facts) != metadata["sha256"]:
                raise CheckpointError("its tensors do not match its hash")
            parsed = parse_json(facts, LARGE_BYTES, infinite=True)
        except JsonError as error:
            raise CheckpointError(f"{path} is no checkpoint of lmtool, or is damaged: a part {error}") from error
        except CheckpointError as error:
            raise CheckpointError(f"the checkpoint {path} is damaged: {error}") from error
        except (safetensors.SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise CheckpointError(f"{path} is no checkpoint of lmtool, or is damaged: {truncated(error)}") from error
        if not isinstance(parsed, dict):
            raise CheckpointError(f"{path} is no checkpoint of lmtool: its facts are {type(parsed).__name__}")
        if parsed.get("version") != VERSION:
            raise CheckpointError(
                f"{path} has the version {reprlib.repr(parsed.get('version'))}, this lmtool reads {VERSION}"
            )
        return cls(tensors, parsed)


@contextlib.contextmanager
def checkpoint_errors(path: Path) -> Iterator[None]:
    """Add the checkpoint's path and the fix to a `CheckpointError` of the block."""
    try:
        yield
    except CheckpointError as error:
        what = f"{error}" if str(path) in str(error) else f"the checkpoint {path} does not fit: {error}"
        raise CheckpointError(f"{what}; put a copy of that file back, or train anew: lmtool train --run DIR") from error


def validate_tensors(prefix: str, tensors: dict[str, Tensor], shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Return `tensors`, a checkpoint's group `prefix`, if they have these names and shapes and are finite float32.

    Raises:
        CheckpointError: A tensor is missing, extra, of another shape or type, or holds NaN or infinity.
    """
    for name in sorted(shapes.keys() | tensors.keys()):
        shown = f"the checkpoint's tensor {f'{prefix}.{name}'!r}"
        if name not in tensors or name not in shapes:
            raise CheckpointError(f"{shown} is {'missing' if name in shapes else 'not expected'}")
        tensor, shape = tensors[name], list(shapes[name])
        if list(tensor.shape) != shape:
            raise CheckpointError(f"{shown} is {list(tensor.shape)}, expected {shape}")
        if tensor.dtype != torch.float32:
            raise CheckpointError(f"{shown} is {tensor.dtype}, expected torch.float32")
        if not bool(tensor.isfinite().all()):
            raise CheckpointError(f"{shown} holds numbers that are not finite")
    return tensors


def weights_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and values, sorted by name."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The states of torch's random generators: the CPU's, and the GPU's if `device` is one."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    """Restore what `random_state` returned.

    Raises:
        CheckpointError: It is missing, or this torch cannot use it.
    """
    if "cpu" not in state:
        raise CheckpointError("the checkpoint lacks the random state of this process")
    try:
        torch.set_rng_state(state["cpu"])
        if device.type == "cuda" and "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"], device)
    except (RuntimeError, TypeError) as error:
        raise CheckpointError(f"this torch cannot use the checkpoint's random state: {error}") from error


def _hash(tensors: Mapping[str, Tensor], facts: str) -> str:
    return hashlib.sha256(f"{facts}\n{weights_hash(tensors)}".encode()).hexdigest()


def _metadata(data: bytes) -> dict[str, str]:
    size = int.from_bytes(data[:8], "little")
    # Twice the size of the facts: the quotes in them are escaped.
    metadata = parse_json(data[8 : 8 + size], 2 * LARGE_BYTES)["__metadata__"]
    if not isinstance(metadata, dict):
        raise CheckpointError("its metadata is no object")
    return metadata
