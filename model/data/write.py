"""Write a corpus as three text files."""

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from ...runtime.errors import StorageError
from ...runtime.io.files import discard, make_folder, staged


def write_splits(texts: Mapping[str, Iterable[str]], folder: Path) -> dict[str, int]:
    """Write `train.txt`, `valid.txt` and `test.txt` into `folder`, which is created if necessary.

    Returns:
        The size of each split in bytes.

    Raises:
        StorageError: A file exists already, or cannot be written, or a text cannot be read. Nothing is written then.
    """
    paths = {split: folder / f"{split}.txt" for split in texts}
    for path in paths.values():
        if path.exists():
            raise StorageError(f"{path} is there already; choose another folder, or remove it")
    make_folder(folder)
    try:
        return _write_all(texts, paths)
    except BaseException:
        for path in paths.values():
            discard(path)
        raise


def _write_all(texts: Mapping[str, Iterable[str]], paths: Mapping[str, Path]) -> dict[str, int]:
    sizes = {}
    with contextlib.ExitStack() as stack:
        for split, text in texts.items():
            with stack.enter_context(staged(paths[split])).open("wb") as file:
                sizes[split] = sum(file.write(chunk.encode()) for chunk in text)
    return sizes
