"""Modules of PyTorch become an artifact: an embedding, recurrent layers and a projection, verified against them."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from ...model.foreign.parts import Layer, Parts, as_weight
from ...model.foreign.tokens import require_size, vocabulary_of
from ...model.network import NetworkState
from ...runtime.arguments import checked_instance, checked_path, wrong_type
from ...runtime.vocabulary import Vocabulary
from ..build import DEFAULT_OPSET, BuildOptions
from ..candidate import Candidate, check_writable
from ..errors import ExportError
from ..exporter import Export
from ..reference import TorchReference
from ..verification import verify

_NAME = "the modules"
_RECURRENT = (nn.LSTM, nn.GRU, nn.RNN)


def export_module(
    embedding: nn.Embedding,
    layers: nn.RNNBase | Sequence[nn.RNNBase],
    projection: nn.Linear,
    vocabulary: Vocabulary | Sequence[str],
    path: Path | str,
    *,
    precision: str = "fp32",
    opset: int = DEFAULT_OPSET,
) -> Export:
    """Write modules of PyTorch as an artifact, verified against the modules themselves, and the report beside it.

    Args:
        embedding: The vectors of the tokens.
        layers: `nn.LSTM`, `nn.GRU` or `nn.RNN` (tanh), one of several layers or several; dropout has no effect.
        projection: From the last layer to the logits; its weight may be that of the embedding.
        vocabulary: The tokens, one for each row of the embedding, split at white space and with usual names for the
            special ones (see `lmtool import`); or a `Vocabulary`.
        path: The file to write.
        precision: One of `lmtool.runtime.PRECISIONS`.
        opset: ONNX operator set, 17 to 21.

    Raises:
        ArgumentError: An argument is of another type.
        OptionError: Precision or opset is not known, or a special token is not recognised.
        ExportError: A layer is bidirectional, has `proj_size` or relu, or the embedding has `max_norm`; or the network
            is too large.
        WeightsError: Sizes do not fit, or weights are NaN or infinite.
        VocabularyError: The number of tokens is not that of the network, or a token is there twice.
        ParityError: The artifact differs from the modules by more than its precision allows; it is not written.
        StorageError: The file cannot be written.

    Example:
        >>> from torch import nn
        >>> from lmtool.export import export_module
        >>> tokens = ["<eos>", "<unk>", "the", "market"]
        >>> done = export_module(nn.Embedding(4, 8), nn.LSTM(8, 8), nn.Linear(8, 4), tokens, "model.onnx")
        >>> done.report.passed
        True
    """
    build = BuildOptions(precision, opset)
    modules = _Modules(embedding, layers, projection)
    file = checked_path("path", path)
    check_writable(file)
    words = vocabulary if isinstance(vocabulary, Vocabulary) else vocabulary_of(vocabulary)
    require_size(words, modules.network.vocabulary_size, "the vocabulary")
    candidate = Candidate(modules.network, words, build, {})
    reference = TorchReference(modules, words, name=_NAME, why_no_text="modules have no text")
    report = verify(reference, candidate.predictor)
    candidate.write(file, report, _NAME)
    return Export(file, file.stat().st_size, report)


@final
class _Modules(nn.Module):
    """Copies of the modules, on the CPU in float32 and without dropout, and the network that their weights make."""

    def __init__(
        self, embedding: nn.Embedding, layers: nn.RNNBase | Sequence[nn.RNNBase], projection: nn.Linear
    ) -> None:
        super().__init__()
        checked_instance("embedding", embedding, nn.Embedding, "as nn.Embedding(10_000, 200)")
        checked_instance("projection", projection, nn.Linear, "as nn.Linear(200, 10_000)")
        several = [layers] if isinstance(layers, nn.RNNBase) else [*layers]
        for layer in several:
            _require_streamable(layer)
        if not several:
            raise ExportError("layers are empty, expected one nn.LSTM, nn.GRU or nn.RNN or more")
        if embedding.max_norm is not None:
            raise ExportError(f"the embedding has max_norm={embedding.max_norm}: reading it changes its vectors")
        self.embedding, copies, self.projection = copy.deepcopy((embedding, several, projection))  # tied ones stay so
        self.layers: Any = nn.ModuleList(copies)
        self.float().cpu().eval()
        self.network = self._parts().network()
        self.architecture = self.network.architecture
        self.initial_state = self.network.initial_state
        self.weights = self.network.weights

    def _parts(self) -> Parts:
        layers = [_layer(layer, number) for layer in self.layers for number in range(layer.num_layers)]
        projection, bias = self.projection.weight, self.projection.bias
        return Parts(
            as_weight("embedding.weight", self.embedding.weight),
            tuple(layers),
            as_weight("projection.weight", projection),
            None if bias is None else as_weight("projection.bias", bias),
        )

    def forward(self, token_ids: Tensor, state: NetworkState) -> tuple[Tensor, NetworkState]:
        output, _, after = self.read(token_ids, state)
        return self.projection(output), after

    def read(self, token_ids: Tensor, state: NetworkState) -> tuple[Tensor, Tensor, NetworkState]:
        """The projection's input, twice as it has no dropout, and the state, as `LanguageModel.read`."""
        activations, left = self.embedding(token_ids), list(state)
        after: list[tuple[Tensor, ...]] = []
        for layer in self.layers:
            before, left = left[: layer.num_layers], left[layer.num_layers :]
            stacked = tuple(map(torch.stack, zip(*before, strict=True)))
            sequence = activations if layer.batch_first else activations.transpose(0, 1)
            outputs, new = layer(sequence, stacked if len(stacked) > 1 else stacked[0])
            activations = outputs if layer.batch_first else outputs.transpose(0, 1)
            after += zip(*(new if len(stacked) > 1 else (new,)), strict=True)
        return activations, activations, tuple(after)


def _require_streamable(layer: nn.RNNBase) -> None:
    if not isinstance(layer, _RECURRENT):
        raise wrong_type("a layer", layer, "nn.LSTM, nn.GRU or nn.RNN", "whose state is carried from token to token")
    name = type(layer).__name__
    if layer.bidirectional:
        raise ExportError(f"the {name} is bidirectional: it reads the text's end first, so it cannot be streamed")
    if layer.proj_size:
        raise ExportError(f"the {name} has proj_size={layer.proj_size}, which artifacts cannot have")
    if getattr(layer, "nonlinearity", "tanh") != "tanh":
        raise ExportError(f"the {name} is of {layer.nonlinearity}, artifacts have tanh only")


def _layer(module: nn.Module, number: int) -> Layer:
    names = [f"{kind}_l{number}" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    found = {name: getattr(module, name) for name in names if hasattr(module, name)}
    if missing := [name for name in names[:2] if name not in found]:
        raise ExportError(f"the {type(module).__name__} lacks {missing[0]}; weight dropout should put it back first")
    return Layer(*(as_weight(name, found[name]) for name in names if name in found))
