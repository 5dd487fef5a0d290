"""Whole words in JavaScript by a model of the rule `bpe`: the words, probabilities and exactness of Python."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from lmtool.runtime import Autocompletion, Predictor, Suggestion
from support.models.subwords import text_artifact
from support.web.javascript import NODE, WEB, require_packages, run_node
from support.web.typing import typed

TEXT = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()
PACKAGES = ["onnxruntime-node", "onnxruntime-web"]
LINES = [line for line in TEXT.split("\n") if len(line) > 90][:3]
PROSE = [line[:end] for line in LINES for end in range(len(line) + 1)]
ODD = [
    *("don'", "don't", "don't ", "a'", "'", "''", " '", "the test's", "the tests' ", "it's'", "O'N", "\u2019s"),
    *("  ", "a  ", " the", "a b ", "12", " 3.1", "1'", "1'a", "12a", "...", '"', "--", "--x", "(the", "[`", "foo('"),
    *("é", "naïve", "日本", "日本語 ", "日" * 11, "日" * 20 + "a", "😀", "a😀", "\u200d", "ünder", "\ufeff", "Ġ"),
    *("x" * 40, "the" + "x" * 70, "\tx", "a\r\n", "\r", "ab\n'", "\n", "a\ud800", "<unk>", "<un", "\0", "Th", "THE T"),
]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for name in PACKAGES:
        require_packages(NODE, name)
    file = tmp_path_factory.mktemp("words") / "bpe.onnx"
    file.write_bytes(text_artifact(TEXT))
    return file


@pytest.fixture(scope="module")
def expected(path: Path) -> dict[str, tuple[list[Suggestion], bool]]:
    """Text -> Python's suggestions, and whether they are exact."""
    autocompletion = Autocompletion(Predictor.load(path), 5)
    return {text: (autocompletion.suggestions(text), autocompletion.exact) for text in [*PROSE, *ODD]}


def differing(found: list[dict[str, Any]], texts: list[str], expected: dict[str, Any]) -> list[Any]:
    pairs = [(answer, *expected[text]) for text, answer in zip(texts, found, strict=True)]
    return [pair for pair in pairs if pair[0]["exact"] != pair[2] or not is_same(pair[0]["suggestions"], pair[1])]


def is_same(found: list[dict[str, Any]], expected: list[Suggestion]) -> bool:
    words = [(entry["text"], entry["start"], entry["shown"]) for entry in found]
    shares = pytest.approx([entry.probability for entry in expected], rel=1e-4)
    same = words == [(entry.text, entry.start, entry.shown) for entry in expected]
    return same and [entry["probability"] for entry in found] == shares


@pytest.mark.parametrize("package", PACKAGES)
def test_words_while_typing_are_those_of_python(path: Path, expected: dict[str, Any], package: str) -> None:
    texts = [*PROSE, *ODD]
    assert len(texts) > 300
    found = typed(path, texts, package=package)
    assert differing(found, texts, expected) == []
    assert {answer["exact"] for answer in found} == {False, True}
    assert sum(answer["exact"] for answer in found) > 200


@pytest.mark.parametrize(
    ("file", "right", "wrong"),
    [
        ("ranked_tokens.mjs", "return probability * this.#sorted;", "return 0;"),
        ("token_table.mjs", "found = tokenization.isSubword([tokens[left], tokens[right]]);", "found = true;"),
    ],
)
def test_a_mistake_is_noticed(
    path: Path, expected: dict[str, Any], tmp_path: Path, file: str, right: str, wrong: str
) -> None:
    shutil.copytree(WEB, tmp_path / "web", ignore=shutil.ignore_patterns("node_modules", "*.onnx"))
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "node_modules").symlink_to(NODE / "node_modules")
    module = tmp_path / "web" / file
    assert module.read_text().count(right) == 1
    module.write_text(module.read_text().replace(right, wrong))
    texts = [*PROSE[: len(LINES[0])], *ODD[:30]]
    assert differing(typed(path, texts, folder=tmp_path / "node"), texts, expected)


def test_a_keystroke_runs_the_tokens_that_it_runs_in_python(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["", *PROSE[:60], *reversed(PROSE[:60])]
    predictor = Predictor.load(path)
    autocompletion = Autocompletion(predictor, 5)  # runs what the empty text needs
    ran = [0]
    run = predictor.network.run

    def counted(token_ids: Any, *arguments: Any) -> Any:
        ran[-1] += token_ids.size
        return run(token_ids, *arguments)

    monkeypatch.setattr(predictor.network, "run", counted)
    for text in texts:
        autocompletion.suggestions(text)
        ran.append(0)
    found = [answer["tokensRun"] for answer in typed(path, texts)]
    assert found[0] > 0
    assert found[1:] == ran[1:-1]
    assert sum(found[62:]) == 0


def test_next_words_after_whole_ones_are_those_of_a_stream(path: Path) -> None:
    predictor = Predictor.load(path)
    texts = ["", "the tests", "the tests ", "the tests  ", "don't", "A test 12", "see (", "test'", "a\n", " ", "é "]
    for text, answer in zip(texts, typed(path, texts, method="nextWords"), strict=True):
        stream = predictor.stream()
        stream.feed(text)
        words, exact = stream.next_words(5)
        assert answer["exact"] == exact
        assert [entry["shown"] for entry in answer["suggestions"]] == [word for word, _ in words], text
        shares = [entry["probability"] for entry in answer["suggestions"]]
        assert shares == pytest.approx([share for _, share in words], rel=1e-4), text


def test_a_temperature_divides_the_logits_of_every_token(path: Path, tmp_path: Path) -> None:
    texts = ["", "th", "the t", "the tests ", "don'"]
    cooler = tmp_path / "cooler.onnx"
    cooler.write_bytes(text_artifact(TEXT, 0.7))
    autocompletion = Autocompletion(Predictor.load(cooler), 5)
    for text, answer in zip(texts, typed(path, texts, temperature=0.7), strict=True):
        assert is_same(answer["suggestions"], autocompletion.suggestions(text)), text
    for one, other in zip(typed(path, texts, temperature=0), typed(path, texts), strict=True):
        assert [entry["text"] for entry in one["suggestions"]] == [entry["text"] for entry in other["suggestions"]]
        assert [entry["probability"] for entry in one["suggestions"]] == [1, 0, 0, 0, 0]


def test_the_time_of_keystrokes_is_printed(path: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("the té\n\n a\n")
    finished = run_node(NODE / "keystrokes.mjs", path, tmp_path / "text.txt")
    title, *lines = finished.stdout.splitlines()
    assert re.fullmatch(r"onnxruntime-node 1\.30\.0: 8 keystrokes, \d+\.\d tokens each, \d searches cut", title)
    times = r"p50 \d+\.\d\d ms  p90 \d+\.\d\d ms  p99 \d+\.\d\d ms"
    assert re.fullmatch(rf"  time            {times}\n  processor time  {times}", "\n".join(lines))
    (tmp_path / "text.txt").write_text("")
    for arguments, reason in [
        ([path, tmp_path / "text.txt"], "the text is empty, expected lines to type"),
        ([path], "expected: node keystrokes.mjs model.onnx text.txt [onnxruntime-node | onnxruntime-web]"),
    ]:
        finished = run_node(NODE / "keystrokes.mjs", *arguments)
        assert (finished.returncode, finished.stdout) == (1, "")
        assert reason in finished.stderr
