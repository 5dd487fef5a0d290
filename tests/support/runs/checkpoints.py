"""Checkpoint files of any content under a correct hash."""

import json
from collections.abc import Mapping

import safetensors.torch
from lmtool.model.checkpoint import _hash
from torch import Tensor


def sealed_checkpoint(tensors: Mapping[str, Tensor], facts: str) -> bytes:
    """A checkpoint file of these tensors and facts, the same bytes each time.

    safetensors writes the metadata in an order that changes from call to call; here it is sorted.
    """
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    data = safetensors.torch.save(contiguous, {"facts": facts, "sha256": _hash(contiguous, facts)})
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:end]), sort_keys=True).encode()
    header += b" " * (-len(header) % 8)  # tensors begin at a multiple of eight bytes
    return len(header).to_bytes(8, "little") + header + data[end:]
