"""Subwords are proven equal to those of the library that learnt them; a difference refuses the export."""

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from lmtool.export import ParityError, SherpaExport, export_run, export_sherpa, write_hub_folder
from lmtool.model import ConfigError, Run, TrainOptions, load_corpus, preset_named, run_training
from lmtool.model.tokenizer.agreement import compare_ids
from lmtool.model.tokenizer.hugging_face import library_tokenizer
from lmtool.model.tokenizer.odd_texts import SCRIPTS, odd_texts
from lmtool.runtime import Predictor, Tokenization, Vocabulary, VocabularyError
from lmtool.runtime.text.byte_pairs import BytePairs
from support.runs.reporters import RecordingReporter
from support.runs.settings import SETTINGS

TEXTS = {
    "train": "The cat saw a dog, don't you think? Ünïcode cafés!\n  Two  spaces.\nA dog saw the cat.\n" * 8,
    "valid": "The dog saw\r\n a cat; 日本 😀.\n",
    "test": "A cat saw the café. <unk>\n\tYou think don't.\n",
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    for split, text in TEXTS.items():
        (folder / f"{split}.txt").write_bytes(text.encode())
    return folder


@pytest.fixture(scope="module")
def run(corpus: Path) -> Run:
    settings = {**SETTINGS, "tokenization": "bpe", "vocabulary_size": "300", "epochs": "1", "layer_sizes": "4,4"}
    reporter = RecordingReporter()
    options = TrainOptions(preset="ptb-200", data=str(corpus), run=corpus.parent / "run", settings=settings, threads=1)
    run_training(options, reporter)
    (sizes,) = reporter.notes
    assert ", 300 in the vocabulary; " in sizes
    return Run(corpus.parent / "run")


def test_a_trained_vocabulary_has_the_wanted_size_and_merges(run: Run) -> None:
    vocabulary = run.vocabulary()
    assert len(vocabulary) == 300
    assert len(vocabulary.tokenization.merges) >= 300 - 257
    assert run.config().vocabulary_size == 300
    assert vocabulary.decode(vocabulary.encode(TEXTS["valid"])) == TEXTS["valid"]
    assert vocabulary.tokens[:3] != tuple(sorted(vocabulary.tokens))[:3]  # by falling count
    assert run.corpus().count_unknown("test") == 0


def test_an_export_compares_all_of_the_corpus_and_writes_tokenizer_json(run: Run) -> None:
    done = export_run(run, tokenizer=True)
    assert done.agreement is not None
    assert done.agreement.text == f"all of {Path(run.corpus_name()).name} and 2,000 odd texts"
    predictor = Predictor.load(done.path)
    assert predictor.artifact.parity["tokenizer"]["library"] == f"tokenizers {tokenizers.__version__}"
    assert done.tokenizer == run.path / "tokenizer.json"
    library = tokenizers.Tokenizer.from_file(str(done.tokenizer))
    for text in (*TEXTS.values(), *odd_texts(50, seed=2)):
        ids = predictor.vocabulary.encode(text)
        assert library.encode(text).ids == ids
        assert library.decode(ids, skip_special_tokens=False) == text


def test_a_folder_for_the_hub_has_the_same_tokenizer_json(run: Run, tmp_path: Path) -> None:
    folder = write_hub_folder(export_run(run, tokenizer=True).path, tmp_path)
    assert (folder / "tokenizer.json").read_bytes() == (run.path / "tokenizer.json").read_bytes()


def test_an_export_for_sherpa_onnx_has_the_tokens_of_its_recognizer(run: Run, tmp_path: Path) -> None:
    done = export_sherpa(run, tmp_path / "lm.onnx")
    assert done == SherpaExport(tmp_path / "lm.onnx", tmp_path / "lm.tokens.txt")
    assert len(done.tokens.read_text(encoding="utf-8").splitlines()) == 1 + 300
    named = export_sherpa(run, tmp_path / "named.onnx", tokens=done.tokens)
    assert named == SherpaExport(tmp_path / "named.onnx")
    assert named.path.read_bytes() == done.path.read_bytes()


def test_without_the_corpus_odd_texts_are_compared(run: Run) -> None:
    agreement = compare_ids(run.vocabulary(), (), "")
    assert (agreement.text, agreement.difference) == ("2,000 odd texts", "")
    assert agreement.tokens > 10_000


def test_a_planted_difference_refuses_the_export(run: Run, tmp_path: Path, monkeypatch: Any) -> None:
    ranked = BytePairs._rank

    def without_the_last_merge(self: BytePairs, left: str, right: str) -> int:
        rank = ranked(self, left, right)
        return self._none if rank == self._none - 1 else rank

    monkeypatch.setattr(BytePairs, "_rank", without_the_last_merge)
    with pytest.raises(ParityError, match=r"its tokens are not those of the library: .* by tokenizers") as caught:
        export_run(run, out=tmp_path / "model.onnx")
    assert caught.value.exit_code == 3
    assert not (tmp_path / "model.onnx").exists()


def test_odd_texts_are_the_same_each_time_and_of_many_scripts() -> None:
    texts = list(odd_texts(2000))
    assert texts == list(odd_texts(2000))
    assert len(set(texts)) > 1500
    whole = "".join(texts)
    whole.encode()
    for first, last in SCRIPTS.values():
        assert sum(first <= ord(character) <= last for character in whole) > 200


def test_other_rules_have_no_tokenizer_json() -> None:
    with pytest.raises(VocabularyError, match="the rule words has no tokenizer.json"):
        library_tokenizer(Vocabulary(["<eos>", "<unk>"], Tokenization("words")))


@pytest.mark.parametrize("text", ["a" * 5000, "aé" * 600])
def test_a_text_of_few_characters_is_learnt(tmp_path: Path, text: str) -> None:
    for split in TEXTS:
        (tmp_path / f"{split}.txt").write_text(text)
    corpus = load_corpus(str(tmp_path), "bpe", vocabulary_size=400)
    assert corpus.vocabulary.decode(corpus.ids["test"].tolist()) == text
    assert "gives" in corpus.notes[0]
    assert "tokens, not 400" in corpus.notes[0]


def test_vocabulary_sizes_out_of_range_are_refused() -> None:
    config = preset_named("ptb-200")
    for size in ("256", "0", "-1", str(2**21)):
        with pytest.raises(ConfigError, match="vocabulary_size is .*, expected 257 to 1,048,576"):
            config.with_settings({"tokenization": "bpe", "vocabulary_size": size})
    older = {key: value for key, value in config.to_json().items() if key != "vocabulary_size"}
    assert type(config).from_json(older) == config


def test_merges_give_the_same_vocabulary_each_time(corpus: Path) -> None:
    first, second = (load_corpus(str(corpus), "bpe", vocabulary_size=310).vocabulary for _ in range(2))
    assert first.tokens_json() == second.tokens_json()
    assert json.dumps(first.tokenization.to_json()) == json.dumps(second.tokenization.to_json())
