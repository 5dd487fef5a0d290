"""Texts as people have them: one file, Windows' line ends and encodings, a folder with a picture in it."""

import json
import re
from pathlib import Path

import pytest
from lmtool.runtime import Predictor
from support.models.subwords import LOUD, WRITING_MERGES, bpe_artifact
from support.processes.commands import json_output_of, lmtool, output_of


def test_a_file_is_evaluated_whole(project: Path, corpus_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "test.txt"
    path.write_bytes((corpus_folder / "test.txt").read_bytes().replace(b"\n", b"\r\n"))
    of_split = json_output_of("evaluate", "--data", corpus_folder, "--split", "test", cwd=project)
    for arguments in ([], ["--split", "all"]):
        of_file = json_output_of("evaluate", "--data", path, *arguments, cwd=project)
        assert (of_file["split"], of_file["perplexity"]) == ("all", of_split["perplexity"])
    last_lines = json_output_of("evaluate", "--data", path, "--split", "test", cwd=project)
    assert 1 < last_lines["tokens"] < of_file["tokens"] // 10
    every_split = json_output_of("evaluate", "--split", "all", cwd=project)
    assert every_split["tokens"] > 10 * of_split["tokens"]


def test_a_text_unlike_that_of_the_training_is_pointed_out(project: Path, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("quite other words\n" * 9)
    for where in (["--run", "runs/tiny"], ["--model", "runs/tiny/model.onnx"]):
        own = lmtool("evaluate", *where, cwd=project)
        other = lmtool("evaluate", *where, "--data", tmp_path / "other.txt", cwd=project)
        assert "unlike the training text" not in own.stderr
        assert re.search(r"warning: the text takes \S+ bits per byte, the model's own test text \S+, so", other.stderr)


def test_a_text_is_typed_against_the_export_of_a_run(project: Path, corpus_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "test.txt"
    path.write_bytes((corpus_folder / "test.txt").read_bytes().replace(b"\n", b"\r\n"))
    of_split = json_output_of("evaluate", "--typing", "--run", "runs/tiny", cwd=project)
    assert of_split["what"] == "runs/tiny/model.onnx"
    assert 0 < of_split["top1"] < of_split["top3"] < of_split["top5"] < 1
    assert of_split["letters"] == len((corpus_folder / "test.txt").read_text())
    assert of_split["keystrokes_saved"] == 1 - of_split["keystrokes"] / of_split["letters"]
    of_file = json_output_of("evaluate", "--typing", "--data", path, cwd=project)
    assert {name for name in of_file if of_file[name] != of_split[name]} <= {"corpus", "split", "p50_ms", "p99_ms"}
    text = output_of("evaluate", "--typing", "--lines", 2, "--data", path, cwd=project)
    assert [line.partition(":")[0] for line in text.splitlines()][1:] == [
        "words suggested before their first letter",
        "keystrokes saved with 3 suggestions",
        "time to the suggestions of a keystroke",
    ]


def test_line_ends_of_standard_input_give_the_same_scores(project: Path) -> None:
    lines = ["the cat saw the news", "a dog sold bonds"]
    expected = output_of("score", "--end", stdin="\n".join(lines), cwd=project)
    for end in ("\r\n", "\r"):
        data = "".join(f"{line}{end}" for line in lines).encode()
        finished = lmtool("score", "--end", stdin=data, cwd=project)
        assert (finished.returncode, finished.stdout) == (0, expected)


@pytest.mark.parametrize("command", ["generate", "suggest", "score"])
def test_standard_input_that_is_no_text_is_refused_with_the_fix(project: Path, command: str) -> None:
    finished = lmtool(command, stdin="the cat\n".encode("utf-16"), cwd=project)
    assert finished.returncode == 1
    assert "UTF-16 text, expected UTF-8 text; convert it, with: iconv -f utf-16 -t utf-8" in finished.stderr


def test_train_says_what_it_reads_and_which_rule_it_takes(tmp_path: Path) -> None:
    folder = tmp_path / "my [text]"
    folder.mkdir()
    (folder / "notes.log").write_text("".join(f"Line {number}, and more of it.\n" for number in range(200)))
    (folder / "a [b].png").write_bytes(b"\x89PNG\r\n\x1a\n")
    settings = ("layer_sizes=8", "embedding_size=8", "batch_size=4", "steps=8", "epochs=1")
    arguments = [argument for setting in settings for argument in ("--set", setting)]
    finished = lmtool("train", "--data", folder, *arguments, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr.splitlines()[0] == "skipped a [b].png: a picture; it holds no text"
    assert finished.stderr.splitlines()[1].startswith("tokenization bpe: ")
    assert "skipped a [b].png: a picture" in lmtool("evaluate", "--data", folder, cwd=tmp_path).stderr


def test_parts_of_words_are_written_as_words_are(tmp_path: Path) -> None:
    """Words that never appear, a stop of any text, and a space at the end of the prompt, of one text and of several."""
    model, words = tmp_path / "bpe.onnx", tmp_path / "words.txt"
    model.write_bytes(bpe_artifact(WRITING_MERGES, LOUD))
    words.write_text("the\nt\n")
    predictor = Predictor.load(model)
    stream = predictor.stream()
    stream.feed("theory ")
    options = {"never": ["The", "t", "o"], "stop": "e-", "temperature": 0.8}
    expected = ["".join(stream.fork().generate(40, seed=seed, **options)) for seed in (3, [3, 1])]
    given = ["--model", model, "--seed", 3, "--max-tokens", 40, "--never", "o", "--never-file", words, "--stop", "e-"]
    assert output_of("generate", "theory ", *given, cwd=tmp_path) == f"theory {expected[0]}\n"
    lines = output_of("generate", "theory ", *given, "--count", 2, "--json", cwd=tmp_path).splitlines()
    assert [json.loads(line)["text"] for line in lines] == expected
