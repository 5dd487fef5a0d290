"""Commands that list what trainings can be: presets and settings."""

from typing import Annotated

from typer import Option

from .completion import completes
from .options import Json
from .output import print_result, text_width


def presets(as_json: Json = False) -> None:
    """List the presets of train: size, time and perplexity, measured or published, and what they are for."""
    from ..model.training.preset_facts import COLUMNS, MACHINE, preset_rows, presets_json
    from ..runtime.io.text_table import prose_table, wrapped

    width = text_width()
    note = f"Perplexity is that of a token of the corpus; - means that none was published. Times: {MACHINE}."
    lines = [*prose_table(COLUMNS, preset_rows(), width=width), "", *wrapped(note, width)]
    print_result(as_json, "\n".join(lines), {"presets": presets_json(), "machine": MACHINE})


def settings(
    preset: Annotated[
        str | None,
        Option(help="Preset that the defaults are from (default: quick).", autocompletion=completes("preset")),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the settings that train --set NAME=VALUE takes: type, default in a preset, and meaning."""
    from ..model.training.presets import DEFAULT_PRESET, preset_named
    from ..model.training.settings import Setting
    from ..model.training.settings import settings as settings_of
    from ..runtime.io.text_table import prose_table, wrapped

    width, name = text_width(), DEFAULT_PRESET if preset is None else preset
    listed = settings_of(preset_named(name))
    rows = [setting._replace(meaning=setting.meaning.replace("`", "")) for setting in listed]
    note = f"Defaults are those of the preset {name}; of another one: lmtool settings --preset NAME."
    lines = [*prose_table(Setting._fields, rows, width=width), "", *wrapped(note, width)]
    print_result(as_json, "\n".join(lines), {"settings": [setting._asdict() for setting in listed], "preset": name})
