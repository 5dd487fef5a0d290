"""Small networks as other programs build and name them, in PyTorch, with what they compute."""

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

VOCABULARY, EMBEDDING = 11, 5
TOKENS = ("<eos>", "<unk>", "the", "cat", "saw", "a", "dog", "you", "think", "don't", "mat")
CELLS: dict[str, Any] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


class Program(nn.Module):
    """A language model; `names` are those of its modules."""

    def __init__(self, names: Sequence[str], layers: nn.Module, width: int, tied: bool, bias: bool = True) -> None:
        super().__init__()
        self.names = names
        embedding, projection = nn.Embedding(VOCABULARY, EMBEDDING), nn.Linear(width, VOCABULARY, bias=bias)
        for name, module in zip(names, (embedding, layers, projection), strict=True):
            self._add(name, module)
        with torch.no_grad():
            generator = torch.Generator().manual_seed(5)
            for parameter in self.parameters():
                parameter.uniform_(-0.6, 0.6, generator=generator)
        if tied:
            projection.weight = embedding.weight

    def _add(self, name: str, module: nn.Module) -> None:
        *owners, last = name.split(".")
        place: nn.Module = self
        for owner in owners:
            if not hasattr(place, owner):
                place.add_module(owner, nn.Module())
            place = getattr(place, owner)
        place.add_module(last, module)

    def forward(self, token_ids: Tensor) -> Tensor:
        """Logits [batch, time, vocabulary] of token_ids [batch, time]."""
        embedding, layers, projection = map(self.get_submodule, self.names)
        activations = embedding(token_ids).transpose(0, 1)
        for layer in layers if isinstance(layers, nn.ModuleList) else [layers]:
            activations = layer(activations)[0]
        return projection(activations).transpose(0, 1)


def one_module(
    cell: str, names: Sequence[str], size: int = 7, layers: int = 2, *, tied: bool = False, bias: bool = True
) -> Program:
    """A network whose layers are in one module."""
    return Program(names, CELLS[cell](EMBEDDING, size, layers, bias=bias), size, tied, bias)


def several_modules(cell: str, names: Sequence[str], sizes: Sequence[int], *, tied: bool = False) -> Program:
    """A network with a module for each layer."""
    widths = (EMBEDDING, *sizes)
    layers = nn.ModuleList([CELLS[cell](*pair) for pair in zip(widths, sizes, strict=False)])
    return Program(names, layers, sizes[-1], tied)


def with_weight_dropout(weights: dict[str, Tensor], raw: str, *, keeps_copy: bool) -> dict[str, Tensor]:
    """The state_dict of layers whose recurrent weights are dropped at random.

    Args:
        weights: Those of `several_modules`, whose layers are `rnns.0`, ...
        raw: Where the trained weight of `{layer}` is.
        keeps_copy: Whether the weight of the last training step, of which a half is dropped, is there too.
    """
    renamed = {}
    for name, tensor in weights.items():
        found = re.fullmatch(r"(.*rnns\.\d+)\.(\w+)", name)
        if found is None:
            renamed[name] = tensor
        elif found[2] != "weight_hh_l0":
            renamed[f"{found[1]}.module.{found[2]}"] = tensor
        else:
            renamed[f"{raw.format(layer=found[1])}.weight_hh_l0_raw"] = tensor
            if keeps_copy:
                renamed[f"{found[1]}.module.weight_hh_l0"] = tensor * 2
    return renamed
