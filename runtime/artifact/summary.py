"""The summary of a network: layer table (types, output shapes, parameters), state, vocabulary, training, parity."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, final

from ..arguments import checked_instance, checked_integer, checked_path
from ..io.text_table import prose_table, text_table, wrapped
from ..score import format_perplexity
from ..vocabulary import Vocabulary
from .architecture import Architecture
from .artifact import Artifact
from .facts import fact_text

_GATES = {"lstm": 4, "gru": 3, "rnn": 1}


class LayerRow(NamedTuple):
    """One layer: name, type, output shape, number of trained parameters."""

    name: str
    type: str
    shape: str
    parameters: int


def layer_table(architecture: Architecture, vocabulary_size: int) -> list[LayerRow]:
    """One row for each layer, from the embedding to the output projection.

    A matrix that embedding and projection share (tied) counts once, with the embedding.
    """
    checked_instance("architecture", architecture, Architecture, "it is artifact.architecture")
    vocabulary_size = checked_integer("vocabulary_size", vocabulary_size)
    cell, widths = architecture.cell, (architecture.embedding_size, *architecture.layer_sizes)
    rows = [LayerRow("embedding", "Embedding", f"[batch, time, {widths[0]}]", vocabulary_size * widths[0])]
    for index, (width, size) in enumerate(itertools.pairwise(widths)):
        parameters = _GATES[cell] * size * (width + size + 1)
        rows.append(LayerRow(f"{cell} {index}", cell.upper(), f"[batch, time, {size}]", parameters))
    weights = 0 if architecture.tied else widths[-1] * vocabulary_size
    shape = f"[batch, time, {vocabulary_size}]"
    return [*rows, LayerRow("projection", "Linear", shape, weights + vocabulary_size)]


def count_parameters(architecture: Architecture, vocabulary_size: int) -> int:
    """Number of trained parameters."""
    return sum(row.parameters for row in layer_table(architecture, vocabulary_size))


def is_worse(perplexity: float, other: float) -> bool:
    """Whether a perplexity is worse than another one by more than a hundredth: below that, they are equal."""
    return not perplexity <= 1.01 * other


def training_warning(training: Mapping[str, Any]) -> str:
    """The warning of an artifact's or a run's training that is worse than word frequencies; empty without reason.

    Args:
        training: Facts of a training, as in `Artifact.training`.
    """
    found, frequencies = training.get("test_perplexity"), training.get("unigram_perplexity")
    if not isinstance(found, int | float) or not isinstance(frequencies, int | float):
        return ""
    if not is_worse(found, frequencies):
        return ""
    return (
        f"the network is worse than word frequencies alone: perplexity {format_perplexity(found)} on the test text, "
        f"word frequencies {format_perplexity(frequencies)}; train longer, or with another learning_rate or clip_norm"
    )


_UNLIKE = 2.0
"""Times the bits per byte of the model's own test text."""


def text_warning(bits_per_byte: float, training: Mapping[str, Any]) -> str:
    """The warning of a text that takes over twice the bits of the model's own test text; empty without reason.

    Args:
        bits_per_byte: Of the text (see `Score`).
        training: Facts of a training, as in `Artifact.training`.
    """
    own = training.get("test_bits_per_byte")
    if not isinstance(own, int | float) or not bits_per_byte > _UNLIKE * own:
        return ""
    return (
        f"the text takes {bits_per_byte:.2f} bits per byte, the model's own test text {own:.2f}, so it is unlike the "
        "training text; train on such text, or fine-tune: lmtool train --init RUN --data TEXT"
    )


@final
@dataclass(frozen=True)
class Summary:
    """The facts about a network.

    Attributes:
        source: Its file or folder.
        architecture: Cell and sizes.
        vocabulary: Its tokens.
        training: Corpus, seed, epoch and perplexities.
        artifact: Hash, size, precision and parity, for an artifact.
    """

    source: str
    architecture: Architecture
    vocabulary: Vocabulary
    training: Mapping[str, Any]
    artifact: Mapping[str, Any] = field(default_factory=dict)

    @property
    def layers(self) -> list[LayerRow]:
        """The layer table."""
        return layer_table(self.architecture, len(self.vocabulary))

    @property
    def parameters(self) -> int:
        """The number of parameters; all of them are trained."""
        return count_parameters(self.architecture, len(self.vocabulary))

    def format(self, width: int | None = None) -> str:
        """The summary as text: the layer table, then one fact per line; in `width` columns, None: no limit."""
        states = ", ".join(f"{name} [batch, {width}]" for name, width in self.architecture.states.items())
        facts = {"state": states, **self._vocabulary_facts()}
        for group, values in (("training", self.training), ("artifact", self.artifact)):
            facts |= {f"{group} {key.replace('_', ' ')}": fact_text(value) for key, value in values.items()}
        if warning := training_warning(self.training):
            facts["warning"] = warning
        lines = prose_table(None, list(facts.items()), "  ", width)
        return "\n".join([*wrapped(self.source, width), "", *self._table(width), "", *lines])

    def to_json(self) -> dict[str, Any]:
        """The summary without the tokens, as JSON values."""
        return {
            "source": self.source,
            "model": self.architecture.to_json(),
            "layers": [row._asdict() for row in self.layers],
            "parameters": {"total": self.parameters, "trainable": self.parameters},
            "states": self.architecture.states,
            "vocabulary": {
                "size": len(self.vocabulary),
                "sha256": self.vocabulary.sha256,
                "tokenization": self.vocabulary.tokenization.to_json(),
            },
            "training": dict(self.training),
            "artifact": dict(self.artifact),
        }

    def _table(self, width: int | None) -> list[str]:
        cells = [("layer", "type", "output shape", "parameters")]
        cells += [(row.name, row.type, row.shape, f"{row.parameters:,}") for row in self.layers]
        lines = [*text_table(cells, "<<<>", "  ", width), "", f"  total parameters      {self.parameters:,}"]
        lines.append(f"  trainable parameters  {self.parameters:,}")
        if self.architecture.tied:
            note = wrapped("the projection shares the embedding's matrix, which is counted once", width and width - 2)
            lines += [f"  {line}" for line in note]
        return lines

    def _vocabulary_facts(self) -> dict[str, str]:
        vocabulary = self.vocabulary
        first = ", ".join(repr(vocabulary.text(index)) for index in range(min(6, len(vocabulary))))
        unit, end = vocabulary.tokenization.unit, vocabulary.end_of_sentence_id
        return {
            "vocabulary": f"{len(vocabulary):,} {unit}s, rule {vocabulary.tokenization.rule!r}: {first}, ...",
            "unknown": f"{vocabulary.tokenization.unknown!r} (id {vocabulary.unknown_id})",
            "end of sentence": f"{vocabulary.text(end)!r} (id {end})",
        }


def summarize(artifact: Artifact, path: Path | str) -> Summary:
    """The summary of an artifact that was read from `path`."""
    checked_instance("artifact", artifact, Artifact, "read one: Artifact.read(path)")
    path = checked_path("path", path)
    facts = {
        "size_bytes": path.stat().st_size,
        "sha256": artifact.sha256,
        "precision": artifact.variant,
        "batch_invariant": artifact.batch_invariant,
        **{f"parity {key}": value for key, value in artifact.parity.items()},
    }
    return Summary(str(path), artifact.architecture, artifact.vocabulary, artifact.training, facts)
