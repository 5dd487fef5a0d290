"""Write a corpus as three text files."""

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from ...runtime.errors import StorageError
from ...runtime.io.files import discard, make_folder, staged


def write_splits(texts: Mapping[str, Iterable[str]], folder: Path, source: str = "") -> dict[str, int]:
    """Write `train.txt`, `valid.txt` and `test.txt` into `folder`, which is created if necessary.

    Args:
        texts: The text of each split.
        folder: Where to write.
        source: The folder or file that the texts come from; beside `train.txt` its other files would not be read again.

    Returns:
        The size of each split in bytes.

    Raises:
        StorageError: A file exists already, or cannot be written, a text cannot be read, or `folder` is the source.
            Nothing is written then.
    """
    if source and Path(source).resolve() == folder.resolve():
        raise StorageError(f"{folder} is the folder of the text itself; choose another folder: --out DIR")
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
