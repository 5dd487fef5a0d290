"""Too little memory as an error of the family, on the processor and on a GPU."""

import contextlib
from collections.abc import Iterator

import torch

from .errors import TrainingError


@contextlib.contextmanager
def enough_memory() -> Iterator[None]:
    """Run the block.

    Raises:
        TrainingError: Memory did not suffice.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "alloc_cpu" not in str(error):
            raise
        raise TrainingError(
            "there is not enough memory for this network and batch; "
            "try smaller layer_sizes, embedding_size, batch_size or steps, or rarer words left out (min_count)"
        ) from error
