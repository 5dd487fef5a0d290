"""The embedded corpus `pydocs`: English prose from the documentation inside every Python installation.

Documents are the docstrings of the standard library's modules and the topics of the language reference
(`pydoc_data.topics`). Sources are parsed, never imported. The text depends on the Python version only.
"""

import ast
import inspect
import os
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from ..errors import DataError

_SKIPPED_FOLDERS = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__", "lib2to3"})
_SPLIT_PERIOD, _VALID_SLOT, _TEST_SLOT = 16, 5, 13
_FEWEST_WORDS = 4
_BLOCKS = ("body", "handlers", "orelse", "finalbody", "cases")
"""Lists of statements, or of parts that hold them, in the order of every node's fields."""
_SENTENCE_END = re.compile(r"(?<=[a-z)\]\"'][.!?]) +(?=[A-Z\"'(])")
_CODE = re.compile(r"^(>>>|\.\.\.|\.\. |:\w+|[-=+*~^|#$]{3,}|[@{}<]|\w+\s*=|def |class |import |from \w+ import )")


def read_pydocs() -> dict[str, str]:
    """The splits `train`, `valid`, `test`, one sentence per line; no document is in two splits.

    Raises:
        DataError: This Python has neither library sources nor topics.
    """
    splits: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    seen: set[str] = set()
    for index, document in enumerate(_documents()):
        slot = index % _SPLIT_PERIOD
        split = {_VALID_SLOT: "valid", _TEST_SLOT: "test"}.get(slot, "train")
        for sentence in _sentences(document):
            if sentence not in seen:
                seen.add(sentence)
                splits[split].append(sentence)
    if not all(splits.values()):
        raise DataError(
            f"this Python ({sys.executable}) carries no library sources or topics to read; "
            "install the full standard library, or train on a folder of text: --data DIR"
        )
    return {name: "\n".join(lines) + "\n" for name, lines in splits.items()}


def _documents() -> Iterator[str]:
    """One text per module of the standard library, then one per topic, sorted by name."""
    for path in sorted(_sources(sysconfig.get_paths()["stdlib"])):
        docstrings = list(_docstrings(path))
        if docstrings:
            yield "\n\n".join(docstrings)
    try:
        from pydoc_data.topics import topics
    except ImportError:
        return
    for name in sorted(topics):
        yield topics[name]


def _sources(library: str) -> Iterator[Path]:
    for folder, folders, files in os.walk(library):
        folders[:] = [name for name in folders if name not in _SKIPPED_FOLDERS]
        yield from (Path(folder, name) for name in files if name.endswith(".py") and "topics" not in name)


def _docstrings(path: Path) -> Iterator[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some library sources contain invalid escapes
            tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    for node in _statements(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield inspect.cleandoc(text)


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes of `ast.walk`, in its order, but for expressions: they are most of a tree and hold no docstring."""
    nodes = [tree]
    for node in nodes:  # grows meanwhile
        yield node
        for block in _BLOCKS:
            nodes += getattr(node, block, ())


def _sentences(document: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", document):
        if _is_prose(paragraph):
            for sentence in _SENTENCE_END.split(" ".join(_without_markup(paragraph).split())):
                if len(sentence.split()) >= _FEWEST_WORDS:
                    yield sentence


def _is_prose(paragraph: str) -> bool:
    """Whether it is prose: mostly words, some in lower case; no code, table, grammar or signature."""
    lines = [line.strip() for line in paragraph.strip().splitlines()]
    if not lines or any(_CODE.match(line) or "  " in line.replace(".  ", ". ") or "::=" in line for line in lines):
        return False
    text = " ".join(lines)
    words = text.split()
    plain = sum(word.strip(".,;:!?()\"'`*").replace("-", "").replace("'", "").isalpha() for word in words)
    return len(words) >= _FEWEST_WORDS and plain >= 0.7 * len(words) and any(map(str.islower, words))


def _without_markup(paragraph: str) -> str:
    """The text without reStructuredText markup."""
    text = re.sub(r":\w+:`~?([^`<]+)(?:\s*<[^>]*>)?`", r"\1", paragraph)
    return re.sub(r"[`*\"“”]|(?<!\w)'(?=\S)|(?<=\S)'(?!\w)", "", text)
