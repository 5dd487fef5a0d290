"""Perplexity of a network: one unbroken stream, every token after the first scored once, so the number is exact."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from ..runtime.score import perplexity
from .network import LanguageModel

_CHUNK = 256


@torch.inference_mode()
def evaluate_perplexity(
    network: LanguageModel, token_ids: NDArray[np.int32], check: Callable[[], None] = lambda: None
) -> float:
    """exp(mean negative log-likelihood) of `token_ids` [tokens] read from the zero state, without dropout.

    `check` is called every few hundred tokens.

    Raises:
        Exception: Whatever `check` raises, which ends the evaluation.
    """
    device = network.projection.weight.device
    state = network.initial_state(1)
    was_training = network.training
    network.eval()
    loss = 0.0
    try:
        for start in range(0, len(token_ids) - 1, _CHUNK):
            check()
            ids = torch.from_numpy(token_ids[start : start + _CHUNK + 1].astype(np.int64)).to(device)
            logits, state = network(ids[None, :-1], state)
            loss += cross_entropy(logits[0], ids[1:], reduction="sum").item()
    finally:
        network.train(was_training)
    return perplexity(-loss, len(token_ids) - 1)
