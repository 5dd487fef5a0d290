"""A checkpoint: one safetensors file that holds everything a training needs to go on exactly where it was.

Tensors are named `model.*`, `optimizer.*`, `average.*`, `carried.*` (the recurrent state) and
`random.PROCESS.*`. The header's metadata holds `facts` (JSON) and `sha256`, a hash over facts and tensors, so that any
changed bit is noticed. One file replaced in one step can neither be half-written nor mix two moments."""

import contextlib
import hashlib
import json
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ..runtime.errors import JsonError, truncated
from ..runtime.io.files import RETRY_AFTER_SECONDS, read_bytes, write_atomically
from ..runtime.io.json_reader import LARGE_BYTES, parse_json
from ..runtime.vocabulary import Vocabulary
from .errors import CheckpointError


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The states of the processor's generator and, where it is used, of the GPU's."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    """Go on from what `random_state` gave.

    Raises:
        CheckpointError: There is none for this process, or it is none of torch's.
    """
    if "cpu" not in state:
        raise CheckpointError("the checkpoint lacks the random state of this process")
    try:
        torch.set_rng_state(state["cpu"])
        if device.type == "cuda" and "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"], device)
    except (RuntimeError, TypeError) as error:
        raise CheckpointError(f"the checkpoint's random state is none of this torch: {error}") from error


VERSION = 1


@final
@dataclass(frozen=True)
class Checkpoint:
    """Named tensors and JSON facts.

    Attributes:
        tensors: Name -> tensor, on the CPU.
        facts: Position, history and what else is no tensor; `version` is added when it is written.
    """

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]

    @classmethod
    def of_weights(
        cls, weights: Mapping[str, Tensor], vocabulary: Vocabulary, facts: Mapping[str, Any]
    ) -> "Checkpoint":
        """What `Run.trained` reads: weights by name, the facts, and the hashes of weights and vocabulary."""
        tensors = {f"model.{name}": tensor for name, tensor in weights.items()}
        hashes = {"weights_sha256": weights_hash(weights), "vocabulary_sha256": vocabulary.sha256}
        return cls(tensors, {**facts, **hashes})

    def group(self, prefix: str) -> dict[str, Tensor]:
        """The tensors named `prefix.*`, without the prefix."""
        start = f"{prefix}."
        return {name[len(start) :]: tensor for name, tensor in self.tensors.items() if name.startswith(start)}

    def checked(self, prefix: str, expected: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
        """The tensors of a group, as `checked_tensors` takes them.

        Raises:
            CheckpointError: As for that.
        """
        return checked_tensors(prefix, self.group(prefix), expected)

    def write(self, path: Path) -> None:
        """Write the file in one step; what fails is tried again a few times.

        Raises:
            StorageError: It still cannot be written; an older checkpoint under this name is untouched.
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
            CheckpointError: It is no checkpoint, is damaged, or has another version.
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
def errors_of(path: Path) -> Iterator[None]:
    """Let errors about what the checkpoint at `path` holds out with its name and what to do."""
    try:
        yield
    except CheckpointError as error:
        what = f"{error}" if str(path) in str(error) else f"the checkpoint {path} does not fit: {error}"
        raise CheckpointError(f"{what}; put a copy of that file back, or train anew: lmtool train --run DIR") from error


def checked_tensors(prefix: str, found: dict[str, Tensor], expected: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """`found` itself, if it holds the expected names and shapes, in finite float32; `prefix` is its group's name.

    Raises:
        CheckpointError: A tensor is missing, extra, of another shape or type, or holds a number that is not finite.
    """
    for name in sorted(expected.keys() | found.keys()):
        shown = f"the checkpoint's tensor {f'{prefix}.{name}'!r}"
        if name not in found or name not in expected:
            raise CheckpointError(f"{shown} is {'missing' if name in expected else 'not expected'}")
        tensor, shape = found[name], list(expected[name])
        if list(tensor.shape) != shape:
            raise CheckpointError(f"{shown} is {list(tensor.shape)}, expected {shape}")
        if tensor.dtype != torch.float32:
            raise CheckpointError(f"{shown} is {tensor.dtype}, expected torch.float32")
        if not bool(tensor.isfinite().all()):
            raise CheckpointError(f"{shown} holds numbers that are not finite")
    return found


def weights_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes and values, in order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _hash(tensors: Mapping[str, Tensor], facts: str) -> str:
    return hashlib.sha256(f"{facts}\n{weights_hash(tensors)}".encode()).hexdigest()


def _metadata(data: bytes) -> dict[str, str]:
    size = int.from_bytes(data[:8], "little")
    found = parse_json(data[8 : 8 + size], 2 * LARGE_BYTES)["__metadata__"]  # the facts in it have their quotes escaped
    if not isinstance(found, dict):
        raise CheckpointError("its metadata is no object")
    return found
