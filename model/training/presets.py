"""Presets: training recipes by name, from the Penn Treebank tutorials, from papers, and our own."""

import difflib
from dataclasses import replace

from ..errors import ConfigError
from .config import TrainConfig

DEFAULT_PRESET = "quick"

_BEST_CPU = TrainConfig(
    "ptb-best-cpu",
    embedding_size=256,
    layer_sizes=(512, 256),
    tied=True,
    dropout=0.2,
    input_dropout=0.25,
    output_dropout=0.35,
    locked=True,
    embedding_dropout=0.08,
    weight_dropout=0.25,
    activation_penalty=2.0,
    temporal_penalty=1.0,
    layer_init="scaled",
    bias_init="unigram",
    batch_size=16,
    steps=48,
    partial_shuffle=True,
    epochs=36,
    optimizer="adamw",
    beta1=0.0,
    weight_decay=0.01,
    learning_rate=0.003,
    sampled_softmax=2500,
    full_softmax_share=0.2,
    loss_over_time="mean",
    schedule="cosine",
    warmup_epochs=0.5,
    averaging="exponential",
    clip_norm=0.5,
)

PRESETS = {
    config.preset: config
    for config in (
        TrainConfig(
            "quick",
            embedding_size=256,
            layer_sizes=(256,),
            tied=True,
            dropout=None,
            activation_penalty=2.0,
            temporal_penalty=1.0,
            bias_init="unigram",
            min_count=3,
            batch_size=None,
            steps=32,
            epochs=None,
            optimizer="muon",
            weight_decay=0.12,
            learning_rate=None,
            adamw_factor=2.5,
            sampled_softmax=600,
            schedule="cosine",
        ),
        TrainConfig(
            "keyboard",
            embedding_size=192,
            layer_sizes=(192,),
            tied=True,
            dropout=None,
            activation_penalty=2.0,
            temporal_penalty=1.0,
            bias_init="unigram",
            tokenization="bpe",
            vocabulary_size=2000,
            batch_size=None,
            steps=32,
            epochs=12,
            optimizer="muon",
            weight_decay=0.12,
            learning_rate=None,
            adamw_factor=2.5,
            schedule="cosine",
        ),
        TrainConfig("ptb-200"),
        TrainConfig("ptb-256-128", layer_sizes=(256, 128), batch_size=60, epochs=15),
        _BEST_CPU,
        replace(
            _BEST_CPU,
            preset="ptb-night",
            embedding_size=400,
            layer_sizes=(800, 400),
            dropout=0.28,
            input_dropout=0.32,
            output_dropout=0.42,
            embedding_dropout=0.1,
            weight_dropout=0.35,
            epochs=48,
            learning_rate=0.0025,
            full_softmax_share=0.12,
        ),
        replace(
            _BEST_CPU,
            preset="wikitext2-cpu",
            dropout=0.15,
            input_dropout=0.2,
            output_dropout=0.3,
            embedding_dropout=0.05,
            weight_dropout=0.2,
            epochs=20,
            sampled_softmax=4000,
            full_softmax_share=0.05,
        ),
        TrainConfig(
            "char-128",
            embedding_size=128,
            layer_sizes=(128, 128),
            dropout=0.15,
            tokenization="characters",
            batch_size=60,
            steps=50,
            epochs=14,
            optimizer="muon",
            learning_rate=0.004,
            loss_over_time="mean",
            schedule="cosine",
            averaging="exponential",
        ),
        TrainConfig(
            "zaremba-medium",
            embedding_size=650,
            layer_sizes=(650, 650),
            dropout=0.5,
            init_range=0.05,
            batch_size=20,
            steps=35,
            epochs=39,
            decay=1 / 1.2,
            decay_after=5,
        ),
        TrainConfig(
            "zaremba-large",
            embedding_size=1500,
            layer_sizes=(1500, 1500),
            dropout=0.65,
            init_range=0.04,
            batch_size=20,
            steps=35,
            epochs=55,
            decay=1 / 1.15,
            decay_after=13,
            clip_norm=10.0,
        ),
        TrainConfig(
            "awd",
            embedding_size=400,
            layer_sizes=(1150, 1150, 400),
            tied=True,
            dropout=0.25,
            input_dropout=0.4,
            output_dropout=0.4,
            locked=True,
            embedding_dropout=0.1,
            weight_dropout=0.5,
            activation_penalty=2.0,
            temporal_penalty=1.0,
            layer_init="scaled",
            batch_size=20,
            steps=70,
            variable_steps=True,
            epochs=500,
            weight_decay=1.2e-6,
            learning_rate=30.0,
            loss_over_time="mean",
            decay=1.0,
            averaging="triggered",
            patience=5,
            clip_norm=0.25,
        ),
    )
}
"""Preset name -> configuration.

Perplexities are the published ones, valid / test. `ptb-200` (121.4 / 115.9) and `ptb-256-128` are the recipes of the
Penn Treebank tutorials, `zaremba-medium` and `-large` those of arXiv 1409.2329 (86.2 / 82.7 and 82.2 / 78.4), and `awd`
is that of arXiv 1708.02182 with its authors' settings, without the fine-tuning (61.2 / 58.8). `quick` (a few minutes),
`keyboard` (1.5 MB in int8), `ptb-best-cpu` (about an hour, at most 5 million parameters), `ptb-night` (twice its size
and more dropout), `wikitext2-cpu` (the layers of `ptb-best-cpu` with less dropout, for twice the text and 33,278 words)
and `char-128` (two layers of 128 units, as in the character tutorial) are ours, for two cores."""


def preset_named(name: str) -> TrainConfig:
    """The preset with this name.

    Raises:
        ConfigError: There is none.
    """
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"there is no preset {name!r}{hint} (all of them: lmtool presets)")
    return PRESETS[name]
