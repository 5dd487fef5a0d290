"""The node example: onnxruntime's npm packages compared with Python, by test vectors and suggestions."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from lmtool.export import export_run
from lmtool.model import Run
from lmtool.runtime import Autocompletion, Predictor
from support.models.networks import artifact_of, network_of
from support.models.subwords import bpe_artifact
from support.web.javascript import NODE, evaluate, require_packages, run_node
from support.web.typing import typed

WORDS = ["<eos>", "<unk>", "the", "(", ")", ".", "foo", "for", "os.path", "don't", "don"]
CHARACTERS = ["\n", "\ufffd", "a", "b", " ", "'", "\t"]
PACKAGES = ["onnxruntime-node", "onnxruntime-web"]
WITHIN = 1e-4

WRITTEN = """
import { Artifact } from "../web/artifact.mjs";
import { Autocompletion } from "../web/autocompletion.mjs";
import { Predictor } from "../web/predictor.mjs";
import { Writing } from "../web/writing.mjs";
const ort = await import("onnxruntime-node");
const artifact = await Artifact.read(readFileSync(given.path), given.path);
const predictor = await Predictor.create(ort, artifact);
const autocompletion = new Autocompletion(predictor);
const written = [];
for (const text of given.texts) {
  const writing = await Writing.begin(predictor, autocompletion, text, given.seed);
  let more = "";
  for (let count = 0; count < given.count; count++) more += await writing.next(given.temperature);
  written.push(more);
}
give(written);
"""


@pytest.fixture(scope="module", autouse=True)
def _packages() -> None:
    for name in PACKAGES:
        require_packages(NODE, name)


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory, run: Run) -> dict[str, Path]:
    """Artifacts of the trained run, and untrained ones of other tokenization rules."""
    folder = tmp_path_factory.mktemp("artifacts")
    made = {precision: run.artifact(precision) for precision in ("fp32", "int8")}
    for rule, tokens in {"words": WORDS, "words-2": WORDS, "characters": CHARACTERS}.items():
        made[rule] = folder / f"{rule}.onnx"
        made[rule].write_bytes(artifact_of(network_of((7, 3), vocabulary=len(tokens)), tokens, rule))
    made["bpe"] = folder / "bpe.onnx"
    made["bpe"].write_bytes(bpe_artifact())
    return made


WORD_TEXTS = ["", "THE Fo", "(fo", "os.", "don'", "foo.", "foo(", "zz", "the foo for .", "the caf\u00e9 (don\u2019t"]
TEXTS = {
    "words": [*WORD_TEXTS, "Don"],
    "words-2": [*WORD_TEXTS, "Don", "the fo\u00ado", "see \u201cfo", "the \u0130", "a fo\r"],
    "characters": ["", "a", "ab a", "ab' ", "ab\n", "\u6f22a"],
    "bpe": ["", "The", "the ", "the cat", "the cat's  ", "a\r\n", "\u4e2d\U0001f600", "x\ud800"],
}
SENTENCE = "the old market saw a dog\nthe cat "


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("name", ["fp32", "int8", "words", "words-2", "characters", "bpe"])
def test_suggestions_while_typing_equal_those_of_python(artifacts: dict[str, Path], package: str, name: str) -> None:
    texts = TEXTS.get(name, [SENTENCE[:end] for end in range(len(SENTENCE) + 1)])
    predictor = Predictor.load(artifacts[name])
    autocompletion = Autocompletion(predictor, 5)
    for text, found in zip(texts, typed(artifacts[name], texts, package=package), strict=True):
        expected = autocompletion.suggestions(text)
        shares = [entry["probability"] for entry in found["suggestions"]]
        assert shares == pytest.approx([entry.probability for entry in expected], abs=WITHIN), text
        assert [(entry["text"], entry["start"]) for entry in found["suggestions"]] == [
            (entry.text, entry.start) for entry in expected
        ], text


def test_a_keystroke_runs_only_a_finished_word(artifacts: dict[str, Path]) -> None:
    line = "the old market saw"
    texts = [line[:end] for end in [*range(len(line) + 1), *range(len(line), -1, -1)]]
    texts += ["the  old ma", "the old trader "]
    ran = [found["tokensRun"] for found in typed(artifacts["fp32"], texts)]
    assert [(text, count) for text, count in zip(texts, ran, strict=True) if count] == [
        *(("", 1), ("the", 1), ("the old", 1), ("the old market", 1), ("the old market saw", 1), ("the old trader ", 1))
    ]


def test_a_long_text_is_read_in_parts_and_only_recent_states_are_cached(artifacts: dict[str, Path]) -> None:
    page = "the old market saw " * 300
    texts = [page, *(page[:end] for end in range(0, 19 * 30, 19)), page, "the "]
    found = typed(artifacts["fp32"], texts)
    autocompletion = Autocompletion(Predictor.load(artifacts["fp32"]), 5)
    for text, answer in zip(texts, found, strict=True):
        expected = [entry.probability for entry in autocompletion.suggestions(text)]
        assert [entry["probability"] for entry in answer["suggestions"]] == pytest.approx(expected, abs=WITHIN)
    assert [answer["tokensRun"] for answer in found[:4]] == [1201, 0, 4, 4]
    assert found[-2]["tokensRun"] == 0


@pytest.mark.parametrize(("temperature", "seed"), [(0, None), (0.8, 3), (1.3, 0)])
@pytest.mark.parametrize("name", ["fp32", "words", "words-2", "characters", "bpe"])
def test_a_seed_writes_the_same_text(
    artifacts: dict[str, Path], name: str, temperature: float, seed: int | None
) -> None:
    predictor = Predictor.load(artifacts[name])
    texts = ["", "the foo ", "the don't (", "a\n", "ab 'b", "the   "]
    if name == "fp32":
        texts = ["", "the cat", "a dog saw\n"]
    given = {"path": str(artifacts[name]), "texts": texts, "count": 12, "temperature": temperature, "seed": seed}
    expected = []
    for text in texts:
        stream = predictor.stream()
        stream.feed(text)
        expected.append("".join(stream.generate(12, temperature=temperature, seed=seed)))
    assert evaluate(WRITTEN, given, NODE) == expected


def test_generation_first_completes_the_begun_word(artifacts: dict[str, Path]) -> None:
    given = {
        "path": str(artifacts["words"]),
        "texts": ["the fo", "THE Os.p"],
        "count": 1,
        "temperature": 0,
        "seed": None,
    }
    first, second = evaluate(WRITTEN, given, NODE)
    assert first in ("o", "r")
    assert second == "ath"


@pytest.mark.parametrize("name", ["fp32", "int8"])
def test_the_command_prints_the_output_of_lmtool_suggest(artifacts: dict[str, Path], name: str) -> None:
    stream = Predictor.load(artifacts[name]).stream()
    stream.feed("the old market")
    expected = [f"{share:7.2%}  {word!r}" for word, share in stream.suggest(5)]
    finished = run_node(NODE / "suggest.mjs", artifacts[name], "the old", "market")
    assert (finished.stdout.splitlines(), finished.stderr) == (expected, "")


def test_the_command_writes_no_device_id_unless_it_may(
    artifacts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in {*os.environ} - {"PATH"}:  # in continuous integration onnxruntime is silent
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    for written in (False, True):  # the second time is the positive control
        assert run_node(NODE / "suggest.mjs", artifacts["fp32"], "the").returncode == 0
        assert any(tmp_path.rglob("deviceid")) == written
        monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")


@pytest.mark.parametrize("rule", ["characters", "bpe"])
def test_the_command_quotes_as_python_does(artifacts: dict[str, Path], rule: str) -> None:
    finished = run_node(NODE / "suggest.mjs", artifacts[rule], "ab")
    stream = Predictor.load(artifacts[rule]).stream()
    stream.feed("ab")
    words, exact = stream.next_words(5)
    assert ("the search was cut" in finished.stderr) is not exact
    assert [line.split("%  ")[-1] for line in finished.stdout.splitlines()] == [repr(word) for word, _ in words]


def test_errors_of_the_command(tmp_path: Path) -> None:
    (tmp_path / "notes.onnx").write_text("not a model")
    for arguments, reason in [
        ([], "found no model, expected: node suggest.mjs model.onnx"),
        ([tmp_path / "none.onnx"], "no such file"),
        ([tmp_path / "notes.onnx"], "it is no ONNX file, or is damaged"),
    ]:
        finished = run_node(NODE / "suggest.mjs", *arguments)
        assert (finished.returncode, finished.stdout) == (1, "")
        assert reason in finished.stderr
        assert "    at " not in finished.stderr


def test_the_example_is_thirty_lines() -> None:
    assert len((NODE / "suggest.mjs").read_text().splitlines()) <= 30


def write_tensor(path: Path, name: str, values: np.ndarray) -> None:
    path.write_bytes(onnx.numpy_helper.from_array(np.ascontiguousarray(values), name).SerializeToString())


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, run: Run) -> Path:
    """A folder with an artifact and its test vectors."""
    return export_run(run, out=tmp_path_factory.mktemp("vectors") / "model.onnx", test_vectors=True).path.parent


@pytest.fixture
def vectors(exported: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(exported, tmp_path / "copy"))


@pytest.mark.parametrize("package", PACKAGES)
def test_both_packages_compute_the_test_vectors(exported: Path, package: str) -> None:
    finished = run_node(NODE / "check.mjs", exported, package)
    assert (finished.returncode, finished.stderr) == (0, "")
    title, *lines = finished.stdout.splitlines()
    assert title == f"{package} 1.30.0, model.onnx, 30 sets of test vectors, bound 0.00001"
    errors = {name: float(error) for name, error in map(str.split, lines)}
    assert sorted(errors) == ["logits", "next_cell_0", "next_cell_1", "next_hidden_0", "next_hidden_1"]
    assert max(errors.values()) < 1e-5


@pytest.mark.parametrize(("name", "change"), [("logits", 1e-3), ("next_cell_1", np.nan), ("next_hidden_0", None)])
def test_a_difference_exits_with_1(vectors: Path, name: str, change: float | None) -> None:
    for path in (vectors / "test_data_set_4").glob("output_*.pb"):
        tensor = onnx.load_tensor(path)
        if tensor.name == name:
            values = onnx.numpy_helper.to_array(tensor)
            write_tensor(path, name, values[:1] if change is None else (values + change).astype(np.float32))
    finished = run_node(NODE / "check.mjs", vectors)
    assert (finished.returncode, finished.stderr) == (1, "")
    assert [line.split()[0] for line in finished.stdout.splitlines() if "above the bound" in line] == [name]


def test_errors_of_the_check(vectors: Path) -> None:
    def failed(*arguments: object) -> str:
        finished = run_node(NODE / "check.mjs", *arguments)
        assert (finished.returncode, finished.stdout) == (1, "")
        return finished.stderr

    assert "expected: node check.mjs FOLDER [onnxruntime-node | onnxruntime-web]" in failed()
    assert "expected: node check.mjs FOLDER" in failed(vectors, "tensorflow")
    assert "no such file" in failed(vectors / "none")
    for path in (vectors / "test_data_set_3").glob("output_*.pb"):
        path.unlink()
    assert "has no output_K.pb" in failed(vectors)
    listed = json.loads((vectors / "test_vectors.json").read_text())
    (vectors / "test_vectors.json").write_text(json.dumps({**listed, "sha256": "0" * 64}))
    assert "the test vectors were made with 0000" in failed(vectors)
    (vectors / "test_vectors.json").write_text(json.dumps({**listed, "format": 2}))
    assert "has the format 2 and 30 sets, expected 1" in failed(vectors)
