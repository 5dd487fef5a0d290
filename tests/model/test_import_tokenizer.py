"""`tokenizer.json` becomes a vocabulary of rule bpe where that gives the same ids, and is refused where it does not."""

import json
from pathlib import Path
from typing import Any

import pytest
from lmtool.model import ImportOptions, import_weights
from lmtool.model.foreign.tokenizer_json import read_tokenizer
from lmtool.model.tokenizer.hugging_face import library_tokenizer, write_tokenizer_json
from lmtool.runtime import OptionError, VocabularyError
from safetensors.torch import save_model
from support.models.subwords import bpe_vocabulary
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn

VOCABULARY = bpe_vocabulary()


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    write_tokenizer_json(VOCABULARY, tmp_path / "tokenizer.json")
    return tmp_path / "tokenizer.json"


def test_an_exported_tokenizer_is_read_again(exported: Path) -> None:
    vocabulary = read_tokenizer(exported)
    assert vocabulary.tokens == VOCABULARY.tokens
    assert vocabulary.tokenization == VOCABULARY.tokenization


def test_a_tokenizer_beside_the_weights_is_taken(exported: Path) -> None:
    size, folder = len(VOCABULARY), exported.parent
    program = nn.ModuleDict({"embed": nn.Embedding(size, 5), "rnn": nn.GRU(5, 7), "fc": nn.Linear(7, size)})
    save_model(program, str(folder / "weights.safetensors"))
    done = import_weights(ImportOptions(folder / "weights.safetensors", folder / "run"))
    assert done.vocabulary.tokenization.rule == "bpe"
    assert "which lies beside the weights" in done.notes[0]
    with pytest.raises(OptionError, match="rule bpe, which brings its special tokens"):
        import_weights(ImportOptions(folder / "weights.safetensors", folder / "other", unknown="<unk>"))


def changed(tokenizer: Tokenizer, **parts: Any) -> str:
    value = json.loads(tokenizer.to_str())
    return json.dumps({**value, **parts})


def gpt2() -> str:
    """Cuts text by other rules."""
    tokenizer = library_tokenizer(VOCABULARY)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return str(tokenizer.to_str())


def with_special_tokens() -> str:
    tokenizer = library_tokenizer(VOCABULARY)
    tokenizer.post_processor = processors.TemplateProcessing(single="<unk> $A", special_tokens=[("<unk>", 1)])
    return str(tokenizer.to_str())


MORE = {"id": len(VOCABULARY), "content": "[PAD]", "special": True}
MORE |= dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
REFUSED = {
    "gpt2": (gpt2(), "of 2,000 odd texts, .* has the ids .* here, .* by tokenizers"),
    "special tokens": (with_special_tokens(), "of 2,000 odd texts, .* adds no special tokens"),
    "another token": (
        changed(library_tokenizer(VOCABULARY), added_tokens=[MORE]),
        r"holds '\[PAD\]', which is no byte",
    ),
    "words": (Tokenizer(models.WordLevel({"a": 0}, "a")).to_str(), "has a model of type WordLevel, expected BPE"),
    "ids": (Tokenizer(models.BPE({"a": 0, "b": 2}, [])).to_str(), "has 2 tokens, but their ids are not 0 to 1"),
    "json": ("{", "is not JSON"),
    "list": ("[]", "has a model of type list"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_tokenizers_are_refused_with_what_does_not_fit(tmp_path: Path, case: str) -> None:
    text, message = REFUSED[case]
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(VocabularyError, match=message):
        read_tokenizer(tmp_path / "tokenizer.json")
