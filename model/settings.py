"""Text values for the fields of a configuration, as the command line and JSON give them."""

import difflib
import reprlib
import types
import typing
from typing import Any

from .errors import ConfigError

_KIND_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def setting_types(kind: Any) -> dict[str, Any]:
    """Field name -> type of a configuration dataclass."""
    return typing.get_type_hints(kind)


def parse_setting(kind: Any, key: str, text: str) -> Any:
    """The value that `text` stands for in the field `key` of the dataclass `kind`.

    Raises:
        ConfigError: There is no such field (the message names the nearest one), or the text does not fit it.
    """
    if key not in setting_types(kind):
        raise no_setting(kind, key)
    wanted = setting_types(kind)[key]
    if isinstance(wanted, types.UnionType):
        if text in ("none", "null"):
            return None
        wanted = next(part for part in typing.get_args(wanted) if part is not types.NoneType)
    try:
        if isinstance(wanted, types.GenericAlias):
            return tuple(int(part) for part in text.strip("[]() ").split(",") if part.strip())
        if wanted is bool:
            return {"true": True, "false": False}[text.lower()]
        return wanted(text)
    except (ValueError, KeyError) as error:
        again = "; name one field with each --set" if "=" in text else ""
        shape = "numbers like 256,128" if isinstance(wanted, types.GenericAlias) else _KIND_NAMES[wanted]
        raise ConfigError(f"{key} is {reprlib.repr(text)}, expected {shape}{again}") from error


def no_setting(kind: Any, key: str) -> ConfigError:
    """The error for a field that is not there, with the nearest name."""
    known = [name for name in setting_types(kind) if name != "preset"]
    near = difflib.get_close_matches(key[:100], known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return ConfigError(f"there is no setting {reprlib.repr(key)}{hint} All: {', '.join(known)}")
