"""The default tokenization rule: prose and text that is tokenized already are told apart by the text itself."""

from pathlib import Path

import pytest
from lmtool.model import ConfigError, Run, TrainOptions, load_corpus, run_training
from lmtool.model.data.rule import PROSE, TOKENIZED, UNSPACED, choose_rule, rule_of
from lmtool.model.data.texts import Texts, find_texts
from support.corpora import real_corpus, write_corpus
from support.runs.reporters import RecordingReporter


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ('We waited. "Is he here?" she said, and left.\n', PROSE),
        ("INFO dfs.DataNode: Receiving block blk_-1 src: /10.0.0.1:50 dest: /10.0.0.2:50\n", PROSE),
        ("Hey how are you\nfine Thanks\n", PROSE),
        ("\u0906\u091c \u092e\u094c\u0938\u092e \u0905\u091a\u094d\u091b\u093e \u0939\u0948\u0964\n", PROSE),
        ("the <unk> said it will n't , mr. smith\n", TOKENIZED),
        ('He said : " I do n\'t know , Mr. Smith . "\n', TOKENIZED),
        ("the dutch group will join the board N years later\n" * 9 + "mr. smith\n", TOKENIZED),
        ("5 5 22 11 9 11 26\nE5 E22\n", TOKENIZED),
        ("\u6211\u4eec\u8d70\u5427\u3002\u4f60\u597d\uff0c\u4e16\u754c\uff01\n", UNSPACED),
        ("\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e04\u0e23\u0e31\u0e1a\n", UNSPACED),
        ("", TOKENIZED),
    ],
)
def test_the_rule_follows_from_the_text(text: str, rule: str) -> None:
    assert rule_of(text).rule == rule


def test_corpora_get_their_rule(tmp_path: Path) -> None:
    assert choose_rule(Texts("pydocs")).rule == PROSE
    (tmp_path / "ptb.valid.txt").write_text("Prose, by its looks. But the name says more.\n")
    choice = choose_rule(find_texts(str(tmp_path / "ptb.valid.txt")))
    assert (choice.rule, "ptb.valid.txt" in choice.reason) == (TOKENIZED, True)


def test_real_corpora_get_their_rule() -> None:
    assert choose_rule(find_texts(str(real_corpus("shakespeare")))).rule == PROSE
    assert choose_rule(find_texts(str(real_corpus("hdfs") / "train.txt"))).rule == TOKENIZED
    penn_treebank = find_texts(str(real_corpus("ptb")))
    assert choose_rule(penn_treebank).rule == rule_of("".join(penn_treebank.first())).rule == TOKENIZED


def prose_corpus(folder: Path) -> Path:
    write_corpus(folder)
    for path in folder.iterdir():
        path.write_text("".join(f"{line.capitalize()}.\n" for line in path.read_text().splitlines()))
    return folder


def test_the_choice_is_said_recorded_and_kept(tmp_path: Path) -> None:
    """A resumed run keeps its rule, also if a later version would choose another one."""
    data, path, reporter = prose_corpus(tmp_path / "data"), tmp_path / "run", RecordingReporter()
    settings = {"layer_sizes": "8", "embedding_size": "8", "batch_size": "8", "steps": "8", "epochs": "1"}
    run_training(TrainOptions(data=str(data), run=path, settings=settings, threads=1), reporter)
    assert reporter.notes[0].startswith(f"tokenization {PROSE}: ")
    assert "--set tokenization=RULE" in reporter.notes[0]
    run = Run(path)
    assert run.config().tokenization == PROSE
    assert run.corpus_facts()["notes"] == reporter.notes[:-2]  # before those of the sizes
    config = path / "config.json"
    config.write_text(config.read_text().replace(f'"tokenization": "{PROSE}"', '"tokenization": "auto"'))
    assert run.config().tokenization == PROSE
    for options in ({}, {"settings": {"tokenization": "auto"}}):
        run_training(TrainOptions(run=path, resume=True, threads=1, **options), reporter)


def test_a_size_of_the_vocabulary_is_for_the_rule_that_is_chosen(tmp_path: Path) -> None:
    prose, tokenized = prose_corpus(tmp_path / "prose"), write_corpus(tmp_path / "tokenized")
    assert len(load_corpus(str(prose), "auto", vocabulary_size=270).vocabulary) == 270
    for rule in ("auto", "whitespace"):
        with pytest.raises(
            ConfigError,
            match="tokenization=whitespace takes all tokens .* --set vocabulary_size=none, or --set tokenization=bpe",
        ):
            load_corpus(str(tokenized), rule, vocabulary_size=270)


def test_a_rule_that_is_set_is_not_explained(tmp_path: Path) -> None:
    corpus = load_corpus(str(prose_corpus(tmp_path)), "whitespace")
    assert corpus.vocabulary.tokenization.rule == "whitespace"
    assert not any(note.startswith("tokenization") for note in corpus.notes)
