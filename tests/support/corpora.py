"""Small corpora for tests, and the folders of real ones."""

import os
import random
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

SUBJECTS = ["the cat", "a dog", "the old market", "one trader", "every stock"]
VERBS = ["saw", "sold", "bought", "liked"]
OBJECTS = ["the fish", "some bonds", "a house", "the news", "two shares"]


def sentences(count: int, seed: int) -> str:
    """Random sentences of a small grammar, one per line."""
    rng = random.Random(seed)
    return "".join(f"{rng.choice(SUBJECTS)} {rng.choice(VERBS)} {rng.choice(OBJECTS)}\n" for _ in range(count))


def write_corpus(folder: Path, sizes: tuple[int, int, int] = (400, 40, 40)) -> Path:
    """Write train.txt, valid.txt and test.txt with these numbers of sentences."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (split, count) in enumerate(zip(("train", "valid", "test"), sizes, strict=True)):
        (folder / f"{split}.txt").write_text(sentences(count, seed))
    return folder


def whole(texts: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Each text in one piece."""
    return {split: "".join(chunks) for split, chunks in texts.items()}


def real_corpus(name: str) -> Path:
    """The folder of a real corpus; the test is skipped where it is missing."""
    folder = Path(os.environ.get("LMTOOL_DATA", Path(__file__).parents[3] / "shared" / "data")) / name
    if not folder.is_dir():
        pytest.skip(f"the corpus {name} is not at {folder}; set LMTOOL_DATA")
    return folder
