"""`lmtool score`: each line at once, in flat memory; colours; lines of every kind."""

import io
import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from lmtool.runtime import Predictor, StorageError
from lmtool.runtime.io.lines import read_lines
from support.corpora import sentences
from support.processes.commands import (
    fresh_command,
    json_lines_of,
    json_output_of,
    lmtool,
    output_of,
    run_fresh,
)


def test_each_argument_and_each_line_has_a_score(project: Path) -> None:
    predictor = Predictor.load(project / "runs/tiny/model.onnx")
    scores = json_lines_of("score", stdin="the cat\na dog saw zebras\r\n", cwd=project)
    assert [score["text"] for score in scores] == ["the cat", "a dog saw zebras"]
    assert scores[0]["log_prob"] == predictor.score("the cat").log_prob
    assert scores[1]["unknown"] == 1
    assert scores == json_lines_of("score", "the cat", "a dog saw zebras", cwd=project)
    assert json_output_of("score", "--end", "the cat", cwd=project)["tokens"] == ["the", "cat", "<eos>"]
    assert output_of("score", "--per-token", "the cat", cwd=project).count("\n") == 3
    assert output_of("score", "--per-word", "the cat", cwd=project).endswith("'cat'\n")
    ranks = json_output_of("score", "--ranks", "the cat", cwd=project)["ranks"]
    rows = output_of("score", "--ranks", "the cat", cwd=project).splitlines()[1:]
    assert [row.split()[1:] for row in rows] == [[str(ranks[0]), "'the'"], [str(ranks[1]), "'cat'"]]
    assert output_of("score", cwd=project) == ""
    assert json_output_of("score", "", cwd=project)["perplexity"] == 1
    assert output_of("score", "", cwd=project).split() == ["0.000", "perplexity", "1.00", "unknown", "0"]
    assert "known perplexity" not in output_of("score", "zebra", cwd=project)


def test_texts_with_many_unknown_words_are_pointed_out(artifact_path: Path) -> None:
    finished = lmtool("score", "--model", artifact_path, "the cat saw zebras", "the cat", "zzz qqq")
    assert "unknown 1 (known perplexity " in finished.stdout
    assert "warning: unknown tokens in text 1: 1 of 4 (the vocabulary has" in finished.stderr
    assert "warning: 2 of 3 texts have a quarter or more unknown tokens" in finished.stderr
    assert lmtool("score", "--model", artifact_path, "the cat saw a dog zebras").stderr == ""
    for command in ("suggest", "generate"):
        finished = lmtool(command, "--model", artifact_path, "zzz qqq the")
        assert "warning: unknown tokens before: 2 of 3 (" in finished.stderr


def test_a_line_is_answered_before_the_next_one_comes(artifact_path: Path) -> None:
    with _streaming(artifact_path, "--json") as process:
        for line in ("the cat", "", "a dog" * 1000):
            assert _answer(process, f"{line}\n".encode())["text"] == line
        assert _answer(process, b"the cat\r")["text"] == "the cat"
        assert _answer(process, b"\nthe dog\n")["text"] == "the dog"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130


def test_lines_that_come_together_are_answered_before_the_next_ones(artifact_path: Path, predictor: Predictor) -> None:
    lines = [*sentences(300, seed=4).splitlines(), "zebra", ""]
    with _streaming(artifact_path, "--json") as process:
        for _ in range(2):
            answers = [_answer(process, "".join(f"{line}\n" for line in lines).encode())]
            answers += [json.loads(process.stdout.readline()) for _ in lines[1:]]  # type: ignore[union-attr]
            assert [answer["text"] for answer in answers] == lines
            assert [answer["token_log_probs"] for answer in answers] == [
                list(predictor.score(line).token_log_probs) for line in lines
            ]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130


def test_lines_before_bad_bytes_are_answered(artifact_path: Path) -> None:
    with _streaming(artifact_path, "--json") as process:
        out, errors = process.communicate(b"the cat\nthe caf\xe9\nthe dog\n", timeout=60)
    assert (process.returncode, [json.loads(line)["text"] for line in out.splitlines()]) == (1, ["the cat"])
    assert b"error: line 2 of standard input is not UTF-8 text: byte 0xe9 at offset 7" in errors
    with pytest.raises(StorageError, match="line 2 of it is binary data"):
        list(read_lines(io.BytesIO(b"the cat\n\0\n"), "it"))


def test_a_line_may_begin_like_another_format(artifact_path: Path) -> None:
    finished = lmtool("score", "--model", artifact_path, stdin="the cat\n%PDF-1.7 was saved\n")
    assert (finished.returncode, len(finished.stdout.splitlines())) == (0, 2), finished.stderr


def test_a_closed_pipe_ends_it_without_a_message(artifact_path: Path) -> None:
    with _streaming(artifact_path) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        process.stdin.write(b"the cat\nthe dog\n")
        process.stdin.close()
        assert (process.wait(60), process.stderr.read()) == (141, b"")


def _streaming(artifact: Path, *options: str) -> "subprocess.Popen[bytes]":
    command = fresh_command("score", "--model", artifact, *options)
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _answer(process: "subprocess.Popen[bytes]", line: bytes) -> dict[str, object]:
    assert process.stdin
    assert process.stdout
    process.stdin.write(line)
    process.stdin.flush()
    answer: dict[str, object] = json.loads(process.stdout.readline())
    return answer


def all_lines(file: io.BytesIO) -> list[str]:
    return [line for lines in read_lines(file, "it") for line in lines]


class Blocks(io.BytesIO):
    """A file that gives at most three bytes at a time."""

    def read1(self, size: int | None = -1, /) -> bytes:
        return super().read1(3)


@pytest.mark.parametrize("file", [io.BytesIO, Blocks])
def test_lines_end_with_every_newline_wherever_the_text_is_cut(file: type[io.BytesIO]) -> None:
    text = "a\n\nb\r\nc\rd\r\r\n\u2028\x0b\x85e\x0cf\n" + "long " * 10 + "\r\n\r\nend"
    assert all_lines(file(text.encode())) == re.split("\r\n|\r|\n", text)
    assert all_lines(file(b"")) == []
    assert all_lines(file(b"\n\r\n")) == ["", ""]


def test_a_line_without_end_is_refused_before_it_fills_the_memory() -> None:
    text = b"short\n" + b"x" * 100
    lines = read_lines(Blocks(text), "it", most_bytes=50)
    assert [next(lines), next(lines)] == [[], ["short"]]
    with pytest.raises(StorageError, match="a line of it is longer than 50 bytes"):
        list(lines)
    lines = read_lines(io.BytesIO(text), "it", most_bytes=50)
    assert next(lines) == ["short"]
    with pytest.raises(StorageError, match="a line of it is longer than 50 bytes"):
        next(lines)


def test_heat_colours_the_text_on_a_terminal_only(project: Path) -> None:
    plain = output_of("score", "the cat saw zebras", cwd=project)
    assert output_of("score", "--heat", "the cat saw zebras", cwd=project) == plain
    environment = {**os.environ, "FORCE_COLOR": "1", "TERM": "xterm-256color"}
    hot = run_fresh("score", "--heat", "--end", "the cat saw zebras", cwd=project, env=environment)
    legend, line = hot.stdout.splitlines()
    for word in ("the", " cat", " saw", " zebras"):
        assert re.search(rf"\x1b\[[0-9;]+m{word}\x1b\[0m", line)
    assert "<2" in legend
    finished = run_fresh("score", "--heat", "the cat", "--json", cwd=project, env=environment)
    assert json.loads(finished.stdout) == json_output_of("score", "the cat", cwd=project)
