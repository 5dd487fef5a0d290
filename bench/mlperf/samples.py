"""The sample library: each sample is a state after a prefix of text, and the token that it reads next.

So each sample has one right output, the logits after that token, whatever runs beside it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from ...runtime.artifact.artifact import TOKEN_IDS
from ...runtime.predictor import Predictor

SAMPLES = 1024
"""Samples in memory."""

_STREAMS = 32
_PREFIX = 8


@final
@dataclass(frozen=True, eq=False)
class SampleLibrary:
    """Samples in memory.

    Attributes:
        token_ids: int64 [samples, 1].
        states: For each state of the network, float32 [samples, width].
    """

    token_ids: NDArray[np.int64]
    states: tuple[NDArray[np.float32], ...]

    @classmethod
    def read(cls, predictor: Predictor, text: NDArray[np.int64], count: int = SAMPLES) -> "SampleLibrary":
        """Read the text from 32 places at once; prefixes have 8 tokens and more.

        Args:
            predictor: Computes the states.
            text: int64 [tokens].
            count: Samples, a multiple of 32.
        """
        steps = count // _STREAMS
        starts = np.linspace(0, max(len(text) - _PREFIX - steps - 1, 0), _STREAMS).astype(int)
        rows = np.stack([np.resize(text[start:], _PREFIX + steps) for start in starts])
        state = predictor.initial_state(_STREAMS)
        samples = []
        for time in range(_PREFIX + steps - 1):
            _, state = predictor.step(rows[:, time : time + 1], state)
            if time >= _PREFIX - 1:
                samples.append((rows[:, time + 1 : time + 2], *(np.asarray(tensor) for tensor in state.tensors)))
        tokens, *states = (np.concatenate(parts) for parts in zip(*samples, strict=True))
        return cls(tokens, tuple(states))

    def __len__(self) -> int:
        return len(self.token_ids)

    def with_other_tokens(self, random: np.random.Generator, vocabulary_size: int) -> "SampleLibrary":
        """The same states in another order, each with a random token: samples that nothing has run yet."""
        order = random.permutation(len(self))
        tokens = random.integers(0, vocabulary_size, (len(self), 1))
        return SampleLibrary(tokens, tuple(tensor[order] for tensor in self.states))

    def write(self, path: Path) -> None:
        """Write a safetensors file."""
        states = {str(number): tensor for number, tensor in enumerate(self.states)}
        save_file({TOKEN_IDS: self.token_ids, **states}, path)

    @classmethod
    def load(cls, path: Path) -> "SampleLibrary":
        """Read what `write` wrote."""
        arrays = load_file(path)
        tokens = arrays.pop(TOKEN_IDS)
        return cls(tokens, tuple(arrays[str(number)] for number in range(len(arrays))))


def write_text(path: Path, token_ids: NDArray[np.int64]) -> None:
    """Write the samples' text, int64 [tokens]."""
    save_file({TOKEN_IDS: token_ids}, path)


def read_text(path: Path) -> NDArray[np.int64]:
    """Read what `write_text` wrote."""
    text: NDArray[np.int64] = load_file(path)[TOKEN_IDS]
    return text
