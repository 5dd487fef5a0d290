"""Text cases beside an artifact: the same for the same vocabulary, and true of it."""

import hashlib
import json
import re
from pathlib import Path

from lmtool.export import export_run
from lmtool.export.test_vectors.text_cases import NAME, text_cases
from lmtool.model import Run
from lmtool.runtime import Artifact, Vocabulary
from support.models.subwords import bpe_vocabulary

PINNED = "a03b6380263226134cb164d76106ce2377b665eaa4a92ea3497b17f22d682c2c"

PRESENT = [
    *("[a-z][\u0300-\u036f]", "[\u0400-\u04ff]", "[\u0370-\u03ff]", "[\u0600-\u06ff]", "[\u0590-\u05ff]"),
    *("[\u0900-\u097f]", "[\u0e00-\u0e7f]", "[\u4e00-\u9fff]", "[\u3041-\u30ff]", "[\uac00-\ud7a3]", "\u200d", "\x00"),
    *("\r\n", "[A-Z]"),
]


def test_subwords_never_change() -> None:
    """The rule uses no table of Unicode, so every version of Python and of lmtool gives these ids."""
    cases = text_cases(bpe_vocabulary())
    assert hashlib.sha256(json.dumps(cases).encode()).hexdigest() == PINNED
    texts = [case["text"] for case in cases["texts"]]
    assert len(texts) >= 2000
    for pattern in PRESENT:
        assert sum(re.search(pattern, text) is not None for text in texts) > 10, pattern
    assert any("x" * 65 in text for text in texts)
    assert all(re.search("[\ud800-\udfff]", case["text"]) for case in cases["halves"])
    assert all("decoded" not in case for case in cases["texts"])
    assert any("\ufffd" in case["decoded"] for case in cases["ids"])


def test_an_export_writes_them_beside_the_test_vectors(run: Run, tmp_path: Path) -> None:
    path = export_run(run, out=tmp_path / "model.onnx", test_vectors=True).path
    found = json.loads((tmp_path / NAME).read_text())
    artifact = Artifact.read(path)
    assert (found["artifact"], found["sha256"]) == (path.name, artifact.sha256)
    vocabulary = Vocabulary.from_json(found["vocabulary"], found["tokenization"])
    assert vocabulary.tokens == artifact.vocabulary.tokens
    assert vocabulary.tokenization == artifact.vocabulary.tokenization
    for case in [*found["texts"], *found["halves"]]:
        assert vocabulary.encode(case["text"]) == case["ids"]
        assert vocabulary.decode(case["ids"]) == case.get("decoded", case["text"])
