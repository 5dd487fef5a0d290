"""What each preset is for, how large it is, how long it takes and how good it becomes: measured, or not known."""

from typing import Any, NamedTuple

from ...runtime.artifact.summary import count_parameters
from .config import TrainConfig
from .presets import PRESETS
from .settings import changed_settings

MACHINE = "two shared x86-64 cores with bf16 units (char-128: one of them; ptb-night, wikitext2-cpu: two twice as fast)"
"""Where the times were measured."""

_UNKNOWN = "not measured"


class PresetFacts(NamedTuple):
    """The facts of a preset; None: not measured here, or not published.

    Attributes:
        purpose: What it is for.
        corpus: The text that the figures belong to.
        vocabulary: Its distinct tokens.
        seconds: Time of the training steps on `MACHINE`.
        measured: Perplexity on valid and test.
        published: Perplexity on valid and test in the recipe's source.
    """

    purpose: str
    corpus: str
    vocabulary: int
    seconds: float | None = None
    measured: tuple[float, float] | None = None
    published: tuple[float, float] | None = None


_PTB = ("Penn Treebank", 10_000)
PRESET_FACTS = {
    "quick": PresetFacts("your text in minutes, the default", "pydocs", 4000, 101, (72.19, 69.92)),
    "keyboard": PresetFacts("suggestions for a keyboard, 1.5 MB in int8", "pydocs", 2000, 123, (45.68, 44.91)),
    "ptb-200": PresetFacts("the Penn Treebank tutorials", *_PTB, 660, (120.75, 116.59), (121.4, 115.9)),
    "ptb-256-128": PresetFacts("the tutorials with layers of 256 and 128 units", *_PTB, 840, (120.96, 117.00)),
    "ptb-best-cpu": PresetFacts("the best model of about an hour on two cores", *_PTB, 3536, (75.06, 71.57)),
    "ptb-night": PresetFacts("twice the size of ptb-best-cpu, with more dropout", *_PTB, 5829, (70.44, 67.06)),
    "wikitext2-cpu": PresetFacts(
        "the layers of ptb-best-cpu for a large vocabulary", "WikiText-2", 33_278, 3740, (87.23, 83.13)
    ),
    "char-128": PresetFacts("characters, in the tutorial's size", "Shakespeare by characters", 66, 354, (4.20, 4.81)),
    "zaremba-medium": PresetFacts("the medium LSTM of arXiv 1409.2329", *_PTB, published=(86.2, 82.7)),
    "zaremba-large": PresetFacts("the large LSTM of arXiv 1409.2329", *_PTB, published=(82.2, 78.4)),
    "awd": PresetFacts("the AWD-LSTM of arXiv 1708.02182, without its fine-tuning", *_PTB, published=(61.2, 58.8)),
}
"""Preset name -> facts."""

COLUMNS = ("preset", "fp32 weights", "time", "valid / test", "published", "for")


def preset_rows() -> list[tuple[str, ...]]:
    """A row of text for each preset, in the order of `COLUMNS`."""
    return [_row(name, PRESET_FACTS[name], parameters_of(PRESETS[name])) for name in PRESETS]


def presets_json() -> list[dict[str, Any]]:
    """The facts and the settings of each preset, ready for JSON."""
    return [
        {
            "name": name,
            "parameters": parameters_of(config),
            **PRESET_FACTS[name]._asdict(),
            "settings": changed_settings(config),
        }
        for name, config in PRESETS.items()
    ]


def parameters_of(config: TrainConfig) -> int:
    """Number of parameters with the vocabulary of the preset's corpus."""
    return count_parameters(config.architecture, PRESET_FACTS[config.preset].vocabulary)


def _row(name: str, facts: PresetFacts, parameters: int) -> tuple[str, ...]:
    return (
        name,
        f"{4 * parameters / 1e6:.1f} MB",
        _time(facts.seconds),
        _UNKNOWN if facts.measured is None else _pair(facts.measured),
        "-" if facts.published is None else _pair(facts.published),
        f"{facts.purpose} (on {facts.corpus})",
    )


def _time(seconds: float | None) -> str:
    if seconds is None:
        return _UNKNOWN
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.0f} min"


def _pair(perplexities: tuple[float, float]) -> str:
    return " / ".join(f"{value:g}" for value in perplexities)
