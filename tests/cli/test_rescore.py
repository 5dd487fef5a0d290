"""`lmtool rescore`: formats, order, tuning, and what is said about bad lists."""

import io
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from lmtool.cli.rescoring.nbest_files import JsonLists, KaldiLists, ListReader, NbestList, read_lists
from lmtool.cli.rescoring.references import read_references, require_references, word_errors
from lmtool.runtime import Hypothesis, Predictor, Rescorer, StorageError
from support.processes.commands import fresh_command, lmtool, output_of

LISTS: dict[str, list[tuple[str, float]]] = {
    "one": [("the cat saw a dog", -5.0), ("the cat sold a dog", -4.75), ("the cat", -4.5)],
    "silent-2": [],
    "two": [("zebra", -1)],
    "three": [("the news", 2.0), ("the news", 2.0), ("", 1.0)],
}


def as_json(lists: dict[str, list[tuple[str, float]]] = LISTS) -> str:
    objects = [
        {"id": name, "hypotheses": [{"text": text, "score": score} for text, score in hypotheses]}
        for name, hypotheses in lists.items()
    ]
    return "".join(f"{json.dumps(each)}\n" for each in objects)


def expected(predictor: Predictor, weight: float = 1.0, word_bonus: float = 0.0) -> dict[str, list[Hypothesis]]:
    rescorer = Rescorer(predictor, weight=weight, word_bonus=word_bonus)
    return {
        name: rescorer.rescore([Hypothesis(*hypothesis) for hypothesis in hypotheses])
        for name, hypotheses in LISTS.items()
    }


def as_output(best: dict[str, list[Hypothesis]]) -> list[dict[str, Any]]:
    return [
        {"id": name, "text": each[0].text if each else "", "score": each[0].score if each else None}
        for name, each in best.items()
    ]


def test_the_best_or_all_are_written_in_order(artifact_path: Path, predictor: Predictor, tmp_path: Path) -> None:
    model = ("--model", artifact_path)
    finished = lmtool("rescore", *model, stdin=as_json())
    assert list(map(json.loads, finished.stdout.splitlines())) == as_output(expected(predictor))
    assert finished.stderr == "warning: 1 of 4 lists have no hypotheses\n"
    (tmp_path / "nbest.jsonl").write_text(as_json())
    options = ("--weight", 0.25, "--word-bonus", -1.5, "--all")
    written = output_of("rescore", tmp_path / "nbest.jsonl", *model, *options).splitlines()
    found = {each["id"]: [Hypothesis(**one) for one in each["hypotheses"]] for each in map(json.loads, written)}
    assert found == expected(predictor, 0.25, -1.5)


def test_kaldi_lists_have_their_scores_in_a_second_file(tmp_path: Path) -> None:
    lists = {name: hypotheses for name, hypotheses in LISTS.items() if hypotheses}
    rows = [(f"{name}-{n}", *each) for name, own in lists.items() for n, each in enumerate(own, 1)]
    words = "".join(f"{key} {text}\n" for key, text, _ in rows)
    for sign in (1, -1):
        scores = "".join(f"{key}\t{sign * score}\n" for key, _, score in rows)
        reader = KaldiLists(io.BytesIO(scores.encode()), "scores", sign)
        assert read(reader, words) == read(JsonLists(1), as_json(lists))


def read(reader: ListReader, text: str) -> list[NbestList]:
    return [nbest for group in read_lists(io.BytesIO(text.encode()), "lists", reader) for nbest in group]


GOOD = '{"id": "a", "hypotheses": [{"text": "the", "score": 1}], "other": 2}'
BAD_LINES = {
    "no": 'line 3 of lists is not JSON: .*; expected {"id".*, or --scores with Kaldi\'s lists',
    "[1]": r"line 3 of lists is \[1\], expected",
    '{"hypotheses": []}': 'line 3 of lists has no "id", expected a string',
    '{"id": 7, "hypotheses": []}': 'has "id": 7, expected a string',
    '{"id": "b"}': 'has no "hypotheses", expected a list',
    '{"id": "b", "hypotheses": {}}': 'has "hypotheses": {}, expected a list',
    '{"id": "b", "hypotheses": ["the"]}': "hypothesis 1 in line 3 of lists is 'the', expected {\"text\"",
    '{"id": "b", "hypotheses": [{"score": 1}]}': 'has no "text", expected a string',
    '{"id": "b", "hypotheses": [{"text": "a", "score": 1}, {"text": ""}]}': '2 in .* has no "score", expected',
    '{"id": "b", "hypotheses": [{"text": "a", "score": NaN}]}': "line 3 of lists is JSON with NaN, expected finite",
    '{"id": "b", "hypotheses": [{"text": "a", "score": "1"}]}': "has \"score\": '1', expected a number",
    '{"id": "b", "hypotheses": [{"text": "a", "score": true}]}': 'has "score": True, expected a number',
    '{"id": "a", "hypotheses": []}': "line 3 of lists completes a second list of 'a', expected one list of each id",
}


@pytest.mark.parametrize("line", BAD_LINES)
def test_a_bad_line_is_named_after_the_lists_before_it(line: str) -> None:
    groups = read_lists(io.BytesIO(f"{GOOD}\n\n{line}\n{GOOD}\n".encode()), "lists", JsonLists(1))
    assert next(groups) == [NbestList("a", [Hypothesis("the", 1)])]
    with pytest.raises(StorageError, match=BAD_LINES[line]):
        next(groups)


@pytest.mark.parametrize(
    ("words", "scores", "message"),
    [
        ("a-1 the\nb the\n", "a-1 1\nb 1\n", "line 2 of lists begins with 'b', expected an utterance's id"),
        ("a-1 the\na-1 the\n", "a-1 1\na-1 1\n", "line 2 of lists has 'a-1' a second time"),
        ("a-1 the\nb-1 the\na-2 the\nc-1\n", "a-1 1\nb-1 1\na-2 1\nc-1 1\n", "a second list of 'a'"),
        ("a-1 the\na-2 a\n", "a-1 1\n\na-3 1\n", "line 3 of scores has 'a-3', expected a score of 'a-2', as in line 2"),
        ("a-1 the\na-2 a\n", "a-1 1\n", "scores ends, expected a score of 'a-2', as in line 2 of lists"),
        ("a-1 the\n", "a-1 1\na-2 1\n", "line 2 of scores has 'a-2', expected its end"),
        ("a-1 the\n", "a-1 nan\n", "line 1 of scores has the score 'nan', expected a finite number"),
        ("a-1 the\n", "a-1\n", "line 1 of scores has the score '', expected a finite number"),
    ],
)
def test_bad_kaldi_lists_are_refused(words: str, scores: str, message: str) -> None:
    with pytest.raises(StorageError, match=message):
        read(KaldiLists(io.BytesIO(scores.encode()), "scores", 1), words)


def test_what_is_before_a_bad_line_is_written(artifact_path: Path, predictor: Predictor) -> None:
    finished = lmtool("rescore", "--model", artifact_path, stdin=f"{as_json()}{{}}\n{GOOD}\n")
    assert list(map(json.loads, finished.stdout.splitlines())) == as_output(expected(predictor))
    assert finished.returncode == 1
    assert finished.stderr == 'error: line 5 of standard input has no "id", expected a string\n'


def test_a_list_is_answered_before_the_next_one_comes(artifact_path: Path) -> None:
    command = fresh_command("rescore", "--model", artifact_path)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for name in ("a", "b"):
            process.stdin.write(GOOD.replace('"a"', f'"{name}"').encode() + b"\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["id"] == name


REFERENCES = {"one": "the cat sold a dog", "silent-2": "the fish", "two": "a dog", "three": "the news"}


def test_weights_are_tuned_on_references(artifact_path: Path, tmp_path: Path) -> None:
    pytest.importorskip("jiwer")
    references = {**REFERENCES, "of no list": "\u2028"}
    (tmp_path / "references").write_text("".join(f"{name} {text}\n" for name, text in references.items()))
    finished = lmtool("rescore", "--model", artifact_path, "--tune", tmp_path / "references", stdin=as_json())
    assert finished.returncode == 0, finished.stderr
    rates, weights, warning = finished.stderr.splitlines()
    assert rates == "errors in 11 words: alone 7 (63.64%), rescored 4 (36.36%), best possible 4 (36.36%)"
    options = weights.removeprefix("for other lists: ").split()
    assert [options[0], options[2]] == ["--weight", "--word-bonus"]
    assert warning == "warning: 1 of 4 lists have no hypotheses"
    again = lmtool("rescore", "--model", artifact_path, *options, stdin=as_json())
    assert again.stdout == finished.stdout
    assert json.loads(again.stdout.splitlines()[0])["text"] == "the cat sold a dog"
    refused = lmtool("rescore", "--model", artifact_path, "--tune", tmp_path / "references", "--weight", 2)
    assert refused.returncode == 2
    assert "finds both, expected neither --weight nor --word-bonus" in refused.stderr


def test_references_are_json_lines_or_kaldis(tmp_path: Path) -> None:
    path = tmp_path / "references"
    path.write_text("".join(f"{json.dumps({'id': name, 'text': text})}\n\n" for name, text in REFERENCES.items()))
    assert read_references(path) == REFERENCES
    for text, message in {
        "a the\n\na the\n": "line 3 of .* has a second reference of 'a'",
        '{"id": "a"}\n': 'line 1 of .* has no "text"',
        "{\n": "line 1 of .* is not JSON",
    }.items():
        path.write_text(text)
        with pytest.raises(StorageError, match=message):
            read_references(path)


@pytest.mark.parametrize(
    ("references", "message"),
    [({"b": "the"}, "FILE has no reference of 'a'"), ({"a": ""}, "in FILE have no words")],
)
def test_references_that_cannot_count_errors_are_refused(references: dict[str, str], message: str) -> None:
    with pytest.raises(StorageError, match=message):
        require_references([NbestList("a", [Hypothesis("the", 1)])], references, "FILE")
    with pytest.raises(StorageError, match="there are no lists, expected some with references in FILE"):
        require_references([], references, "FILE")


@pytest.mark.parametrize(
    ("reference", "texts", "errors"),
    [
        ("the cat saw", ["the cat saw", "", "cat  saw", "the\tbat saw a dog", "saw the cat"], [0, 3, 1, 3, 2]),
        ("", ["", "a b"], [0, 2]),
    ],
)
def test_word_errors_are_counted(reference: str, texts: Sequence[str], errors: list[int]) -> None:
    pytest.importorskip("jiwer")
    assert word_errors(reference, texts).tolist() == errors
