"""Presets and settings: their lists, their figures, their completion."""

import dataclasses
import os
from pathlib import Path

import pytest
from lmtool.cli.completion import VALUES
from lmtool.model import PRESETS, SPLITS, LanguageModel, TrainConfig
from lmtool.model.foreign.layouts import LAYOUT_NAMES
from lmtool.model.training.preset_facts import PRESET_FACTS, parameters_of
from lmtool.model.training.presets import DEFAULT_PRESET
from lmtool.model.training.train import DEVICES
from lmtool.runtime import PRECISIONS, PROVIDERS
from support.processes.commands import json_output_of, output_of, run_fresh


def test_every_preset_is_listed_with_size_time_and_quality() -> None:
    listed = {preset["name"]: preset for preset in json_output_of("presets")["presets"]}
    assert listed.keys() == PRESETS.keys() == PRESET_FACTS.keys()
    assert (listed["ptb-200"]["measured"], listed["ptb-200"]["published"]) == ([120.75, 116.59], [121.4, 115.9])
    assert listed["ptb-256-128"]["settings"] == {"layer_sizes": "256,128", "batch_size": "60", "epochs": "15"}
    assert listed["awd"]["measured"] is None
    assert (listed["quick"]["corpus"], listed["quick"]["measured"]) == ("pydocs", [72.19, 69.92])
    text = output_of("presets")
    assert " ".join(text.splitlines()[9].split()[:7]) == "zaremba-medium 79.1 MB not measured not measured"
    config = PRESETS["quick"]
    network = LanguageModel(config.architecture, PRESET_FACTS["quick"].vocabulary)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    assert parameters_of(config) == sum(parameter.numel() for parameter in trained)


def test_every_setting_is_listed_with_type_default_and_meaning() -> None:
    listed = {setting["name"]: setting for setting in json_output_of("settings", "--preset", "ptb-200")["settings"]}
    assert list(listed) == [field.name for field in dataclasses.fields(TrainConfig) if field.name != "preset"]
    assert listed["cell"]["type"] == "lstm, gru or rnn"
    assert (listed["layer_sizes"]["type"], listed["layer_sizes"]["default"]) == ("sizes, as 256,128", "200,200")
    assert listed["input_dropout"]["default"] == "none"
    assert all(setting["meaning"] for setting in listed.values())
    lines = [" ".join(line.split()) for line in output_of("settings").splitlines()]
    assert lines[1] == "cell lstm, gru or rnn lstm Recurrent cell of every layer: lstm, gru or rnn (tanh)."
    assert lines[-1] == "Defaults are those of the preset quick; of another one: lmtool settings --preset NAME."


@pytest.mark.parametrize("preset", [None, "ptb-200", "awd"])
def test_the_defaults_that_are_listed_are_those_of_a_training(preset: str | None) -> None:
    listed = json_output_of("settings", *(() if preset is None else ("--preset", preset)))
    defaults = {setting["name"]: setting["default"] for setting in listed["settings"]}
    name = preset or DEFAULT_PRESET
    assert listed["preset"] == name
    assert TrainConfig(name).with_settings(defaults) == PRESETS[name]


def test_completed_values_are_those_of_the_rooms() -> None:
    assert {
        "preset": tuple(PRESETS),
        "precision": PRECISIONS,
        "provider": tuple(PROVIDERS),
        "split": (*SPLITS, "all"),
        "device": DEVICES,
        "layout": LAYOUT_NAMES,
    } == VALUES


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("lmtool pre", ["presets"]),
        ("lmtool train --preset pt", ["ptb-200", "ptb-256-128", "ptb-best-cpu", "ptb-night"]),
        ("lmtool export --precision fp", ["fp32", "fp16"]),
        ("lmtool bench --provider c", ["cpu", "cuda", "coreml"]),
        ("lmtool evaluate --spl", ["--split"]),
    ],
)
def test_the_shell_completes_commands_options_and_values(tmp_path: Path, typed: str, completed: list[str]) -> None:
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    finished = run_fresh(cwd=tmp_path, env={**os.environ, **words, "_LMTOOL_COMPLETE": "complete_bash"})
    assert finished.stdout.split() == completed
