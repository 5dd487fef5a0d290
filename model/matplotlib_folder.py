"""A folder for matplotlib's list of fonts, which it would write under HOME when it is first imported."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from ..runtime.io.files import temporary_folder

_VARIABLE = "MPLCONFIGDIR"
_USUAL_FOLDERS = (".config/matplotlib", ".cache/matplotlib", ".matplotlib")


@contextlib.contextmanager
def matplotlib_folder() -> Iterator[None]:
    """A block that may import matplotlib; it uses a temporary folder, unless it has one already.

    Raises:
        StorageError: There is no room for a temporary folder.
    """
    if "matplotlib" in sys.modules or _is_chosen():
        yield
        return
    with temporary_folder() as folder:
        os.environ[_VARIABLE] = str(folder)
        try:
            yield
        finally:
            del os.environ[_VARIABLE]


def _is_chosen() -> bool:
    """Whether the user has named a folder, or uses matplotlib, whose settings then apply."""
    bases = (os.environ.get(name) for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME"))
    folders = [Path(base) / "matplotlib" for base in bases if base]
    return _VARIABLE in os.environ or any(map(Path.exists, [*folders, *map(Path.home().joinpath, _USUAL_FOLDERS)]))
