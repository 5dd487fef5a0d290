"""The network: embedding, stacked recurrent layers of any sizes, projection; state goes in and comes out."""

import itertools
from typing import final

import torch
from torch import Tensor, nn

from ..runtime.artifact import CELLS, Architecture

NetworkState = tuple[tuple[Tensor, ...], ...]
"""(hidden, cell) of each LSTM layer, (hidden,) of any other, float32 [batch, hidden size of the layer] each."""

_LAYERS: dict[str, type[nn.LSTM] | type[nn.GRU] | type[nn.RNN]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
_STATES = {cell: tuple(sorted(names, reverse=True)) for cell, names in CELLS.items()}


@final
class LanguageModel(nn.Module):
    """A recurrent language model (Zaremba, Sutskever and Vinyals, arXiv 1409.2329).

    One bias vector per layer is trained, as in the recipes; torch's second one stays zero.
    """

    def __init__(self, architecture: Architecture, vocabulary_size: int, dropout: float = 0.0) -> None:
        """Make the layers; the weights are torch's defaults until `initialize` or a checkpoint sets them."""
        super().__init__()
        self.architecture = architecture
        self.vocabulary_size = vocabulary_size
        self.embedding = nn.Embedding(vocabulary_size, architecture.embedding_size)
        widths = (architecture.embedding_size, *architecture.layer_sizes)
        self.layers = nn.ModuleList(
            _LAYERS[architecture.cell](width, size, batch_first=True) for width, size in itertools.pairwise(widths)
        )
        self.projection = nn.Linear(widths[-1], vocabulary_size)
        self.dropout = nn.Dropout(dropout)
        if architecture.tied:
            self.projection.weight = self.embedding.weight
        for layer in self.layers:
            layer.bias_hh_l0.requires_grad_(False)

    @torch.no_grad()
    def initialize(self, init_range: float, generator: torch.Generator) -> None:
        """Draw every weight uniformly from (-init_range, init_range); biases become 0."""
        for name, parameter in self.named_parameters():
            if "bias" in name:
                parameter.zero_()
            else:
                parameter.uniform_(-init_range, init_range, generator=generator)

    def weights(self) -> dict[str, Tensor]:
        """The parameters by name; one that is shared (tied) appears once, under its first name."""
        return {name: parameter.detach() for name, parameter in self.named_parameters()}

    def initial_state(self, batch_size: int) -> NetworkState:
        """The all-zero state."""
        device = self.projection.weight.device
        names = _STATES[self.architecture.cell]
        return tuple(
            tuple(torch.zeros(batch_size, size, device=device) for _ in names) for size in self.architecture.layer_sizes
        )

    def forward(self, token_ids: Tensor, state: NetworkState) -> tuple[Tensor, NetworkState]:
        """Read tokens.

        Args:
            token_ids: int64 [batch, time], time 1 or more.
            state: The state of the same batch.

        Returns:
            logits float32 [batch, time, vocabulary], and the state after the last token.
        """
        activations = self.dropout(self.embedding(token_ids))
        new_state = []
        for layer, before in zip(self.layers, state, strict=True):
            stacked = tuple(tensor[None] for tensor in before)
            activations, after = layer(activations, stacked if len(stacked) > 1 else stacked[0])
            activations = self.dropout(activations)
            new_state.append(tuple(tensor[0] for tensor in (after if len(stacked) > 1 else (after,))))
        return self.projection(activations), tuple(new_state)


def state_tensors(state: NetworkState) -> dict[str, Tensor]:
    """The state under the artifact's names: `cell_0`, `hidden_0`, ..., each [batch, hidden size]."""
    return {
        f"{name}_{index}": tensor
        for index, layer in enumerate(state)
        for name, tensor in zip(("hidden", "cell"), layer, strict=False)
    }


def state_from_tensors(tensors: dict[str, Tensor]) -> NetworkState:
    """The inverse of `state_tensors`."""
    layers = sum(name.startswith("hidden_") for name in tensors)
    names = ("hidden", "cell") if "cell_0" in tensors else ("hidden",)
    return tuple(tuple(tensors[f"{name}_{index}"] for name in names) for index in range(layers))
