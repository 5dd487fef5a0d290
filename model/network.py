"""The network: embedding, stacked recurrent layers of any sizes, projection; state is an input and an output."""

import contextlib
import itertools
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, final

import torch
from torch import Tensor, nn

from ..runtime.artifact.architecture import CELLS, Architecture
from .dropout import Dropouts, drop, drop_activations, drop_words
from .large_lstm import is_large_lstm, run_large_lstm

NetworkState = tuple[tuple[Tensor, ...], ...]
"""(hidden, cell) of each LSTM layer, (hidden,) of any other, float32 [batch, hidden size of the layer] each."""

_LAYERS: dict[str, type[nn.LSTM] | type[nn.GRU] | type[nn.RNN]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
_FUNCTIONS = {"lstm": torch.lstm, "gru": torch.gru, "rnn": torch.rnn_tanh}
_GATES = {"lstm": 4, "gru": 3, "rnn": 1}
_STATES = {cell: tuple(sorted(names, reverse=True)) for cell, names in CELLS.items()}


@final
class LanguageModel(nn.Module):
    """A recurrent language model (Zaremba, Sutskever and Vinyals, arXiv 1409.2329).

    One bias vector per layer is trained, as in the recipes; torch's second one stays zero.
    """

    def __init__(self, architecture: Architecture, vocabulary_size: int, dropouts: Dropouts | None = None) -> None:
        """Make the layers with torch's default weights; `initialize` or `load_weights` replaces them."""
        super().__init__()
        self.architecture = architecture
        self.vocabulary_size = vocabulary_size
        self.embedding = nn.Embedding(vocabulary_size, architecture.embedding_size)
        widths = (architecture.embedding_size, *architecture.layer_sizes)
        self.layers = nn.ModuleList(
            _LAYERS[architecture.cell](width, size, batch_first=True) for width, size in itertools.pairwise(widths)
        )
        self.projection = nn.Linear(widths[-1], vocabulary_size)
        self._dropouts = dropouts or Dropouts()
        if architecture.tied:
            self.projection.weight = self.embedding.weight
        for layer in self.layers:
            layer.bias_hh_l0.requires_grad_(False)

    @torch.no_grad()
    def initialize(self, init_range: float, generator: torch.Generator, *, scaled_layers: bool = False) -> None:
        """Draw every weight uniformly from (-init_range, init_range); biases become 0.

        `scaled_layers`: draw the weights of a recurrent layer from (-r, r) with r = 1 / sqrt(hidden size) instead.
        """
        for name, parameter in self.named_parameters():
            if "bias" in name:
                parameter.zero_()
                continue
            bound = init_range
            if scaled_layers and name.startswith("layers."):
                bound = float(self.architecture.layer_sizes[int(name.split(".")[1])] ** -0.5)
            parameter.uniform_(-bound, bound, generator=generator)

    def weights(self) -> dict[str, Tensor]:
        """The parameters by name; a shared one (tied) appears once, under its first name."""
        return {name: parameter.detach() for name, parameter in self.named_parameters()}

    @torch.no_grad()
    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Copy weights into the parameters of their names; shapes and types must fit."""
        parameters = self.weights()
        for name, weight in weights.items():
            parameters[name].copy_(weight)

    def initial_state(self, batch_size: int) -> NetworkState:
        """The all-zero state of `batch_size` rows."""
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
        output, _, new_state = self.read(token_ids, state)
        return self.projection(output), new_state

    def read(self, token_ids: Tensor, state: NetworkState) -> tuple[Tensor, Tensor, NetworkState]:
        """Read tokens up to the projection.

        Args:
            token_ids: int64 [batch, time].
            state: The state of the same batch.

        Returns:
            The projection's input, float32 [batch, time, width of the last layer]; the same before dropout; and the
            state after the last token.
        """
        dropouts = self._dropouts if self.training else Dropouts()
        vectors = drop_words(self.embedding(token_ids), token_ids, self.vocabulary_size, dropouts.embedding)
        activations = drop_activations(vectors, dropouts.input, locked=dropouts.locked)
        raw, new_state, last = activations, [], len(self.layers) - 1
        for index, (layer, before) in enumerate(zip(self.layers, state, strict=True)):
            raw, after = self._run_layer(layer, activations, before, dropouts.weight)
            probability = dropouts.output if index == last else dropouts.hidden
            activations = drop_activations(raw, probability, locked=dropouts.locked)
            new_state.append(after)
        return activations, raw, tuple(new_state)

    def _run_layer(
        self, layer: Any, activations: Tensor, before: tuple[Tensor, ...], weight_dropout: float
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        stacked = tuple(tensor[None] for tensor in before)
        state = stacked if len(stacked) > 1 else stacked[0]
        large = self.training and is_large_lstm(layer)
        if weight_dropout == 0 and not large:
            output, after = layer(activations, state)
            new = after if len(stacked) > 1 else (after,)
        else:
            recurrent = drop(layer.weight_hh_l0, weight_dropout) if weight_dropout else layer.weight_hh_l0
            weights = layer.weight_ih_l0, recurrent, layer.bias_ih_l0, layer.bias_hh_l0
            run: Any = run_large_lstm if large else self._run_with_weights
            output, *new = run(activations, state, weights)
        dtype = self.projection.weight.dtype  # layers under autocast return bf16
        return output.to(dtype), tuple(tensor[0].to(dtype) for tensor in new)

    def _run_with_weights(self, activations: Tensor, state: Any, weights: tuple[Tensor, ...]) -> Any:
        run: Any = _FUNCTIONS[self.architecture.cell]
        with _scattered_weights():
            return run(activations, state, weights, True, 1, 0.0, True, False, True)


@contextlib.contextmanager
def _scattered_weights() -> Iterator[None]:
    """Hide the warning that cuDNN copies a layer's weights into one block: with weight dropout it must."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "RNN module weights are not part of single contiguous chunk of memory")
        yield


def weight_shapes(architecture: Architecture, vocabulary_size: int) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the `weights` of a network, without making it."""
    gates, widths = _GATES[architecture.cell], (architecture.embedding_size, *architecture.layer_sizes)
    shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (vocabulary_size, widths[0])}
    for index, (width, size) in enumerate(itertools.pairwise(widths)):
        rows, layer = gates * size, f"layers.{index}"
        shapes |= {f"{layer}.weight_ih_l0": (rows, width), f"{layer}.weight_hh_l0": (rows, size)}
        shapes |= {f"{layer}.bias_ih_l0": (rows,), f"{layer}.bias_hh_l0": (rows,)}
    if not architecture.tied:
        shapes["projection.weight"] = (vocabulary_size, widths[-1])
    return {**shapes, "projection.bias": (vocabulary_size,)}


def state_shapes(architecture: Architecture, batch_size: int) -> dict[str, tuple[int, int]]:
    """Name -> shape of the tensors of a state, named as by `state_tensors`."""
    return {name: (batch_size, width) for name, width in architecture.states.items()}


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
