"""Commands that list what trainings can be: presets and settings."""

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


def settings(as_json: Json = False) -> None:
    """List the settings that train --set NAME=VALUE takes: type, default and meaning."""
    from ..model.training.settings import Setting
    from ..model.training.settings import settings as all_settings
    from ..runtime.io.text_table import prose_table

    rows = [setting._replace(meaning=setting.meaning.replace("`", "")) for setting in all_settings()]
    lines = prose_table(Setting._fields, rows, width=text_width())
    print_result(as_json, "\n".join(lines), {"settings": [setting._asdict() for setting in all_settings()]})
