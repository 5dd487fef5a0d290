"""Notes about words that a vocabulary lacks are about the text that is evaluated."""

from pathlib import Path

from lmtool.model import Run
from lmtool.model.data.corpus import load_corpus, load_corpus_with
from lmtool.model.evaluation import evaluate_run


def test_missing_words_are_those_of_the_split(tmp_path: Path) -> None:
    for split, word in (("train", "dog"), ("valid", "cow"), ("test", "owl")):
        (tmp_path / f"{split}.txt").write_text(f"the cat saw a {word}\nthe cat saw a cat\n")
    known = tmp_path / "known"
    known.mkdir()
    for split in ("train", "valid", "test"):
        (known / f"{split}.txt").write_text("the cat saw a cat\n")
    vocabulary = load_corpus(str(known), "whitespace").vocabulary
    for split, word in (("valid", "cow"), ("test", "owl"), (None, "dog")):
        notes = load_corpus_with(str(tmp_path), vocabulary, split=split).notes
        assert [word in note for note in notes if "the vocabulary lacks" in note] == [True], notes


def test_an_evaluation_names_what_its_own_text_lacks(run: Run, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.mkdir()
    for split, word in (("train", "xylophone"), ("valid", "yurt"), ("test", "zebra")):
        (text / f"{split}.txt").write_text(f"the cat saw a {word}\n" * 9)
    for split, word in ((None, "zebra"), ("valid", "yurt"), ("train", "xylophone")):
        (note,) = (note for note in evaluate_run(run.path, str(text), split, 1).notes if "lacks" in note)
        assert f"'{word}' 9" in note
