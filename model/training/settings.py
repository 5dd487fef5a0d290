"""The settings of a training, described: type, default and meaning of each field of `TrainConfig`."""

import dataclasses
import re
from typing import NamedTuple

from .config import CHOICES, TrainConfig, setting_text, setting_types

_TYPES = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
    float | None: "number or none",
    int | None: "whole number or none",
    tuple[int, ...]: "sizes, as 256,128",
}
_ENTRY = re.compile(r" {8}(\w+): (.*)")


class Setting(NamedTuple):
    """One setting: its name, what `--set` takes, its value in a configuration, and its meaning."""

    name: str
    type: str
    default: str
    meaning: str


def settings(config: TrainConfig | None = None) -> list[Setting]:
    """Every setting, in the order of the configuration's fields.

    Args:
        config: Where the defaults are from; None: those of presets that do not name a field.
    """
    config = config or TrainConfig("")
    types, meanings = setting_types(), _attributes(TrainConfig.__doc__ or "")
    return [
        Setting(
            field.name,
            _one_of(CHOICES[field.name]) if field.name in CHOICES else _TYPES[types[field.name]],
            setting_text(getattr(config, field.name)),
            meanings.get(field.name, ""),
        )
        for field in dataclasses.fields(TrainConfig)
        if field.name != "preset"
    ]


def changed_settings(config: TrainConfig) -> dict[str, str]:
    """The settings in which a configuration differs from the defaults, as `--set` takes them."""
    plain = {setting.name: setting.default for setting in settings()}
    return {name: value for name, _, value, _ in settings(config) if value != plain[name]}


def _one_of(choices: tuple[str, ...]) -> str:
    return f"{', '.join(choices[:-1])} or {choices[-1]}"


def _attributes(docstring: str) -> dict[str, str]:
    """Name -> text of the `Attributes:` section of a docstring."""
    meanings: dict[str, str] = {}
    name = ""
    for line in docstring.partition("Attributes:")[2].splitlines():
        if match := _ENTRY.fullmatch(line):
            name, meanings[match[1]] = match[1], match[2]
        elif name and line.strip():
            meanings[name] += f" {line.strip()}"
    return meanings
