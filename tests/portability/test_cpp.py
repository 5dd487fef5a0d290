"""The C++ example beside the Python predictor: the same tokens, words, probabilities and log-probabilities."""

import os
import random
import re
import subprocess
from pathlib import Path

import onnx
import onnxruntime
import pytest
from lmtool.model import Run
from lmtool.runtime import Predictor, Tokenization
from support.corpora import sentences
from support.cpp import Answer, answers, assert_same, build, execute, expected, header_folder, read_answers
from support.models.networks import artifact_of, network_of
from support.models.subwords import DOUBLING_MERGES, LOUD, LOUD_BYTES, WRITING_MERGES, bpe_artifact, text_artifact
from support.prose import PROSE, SAME

LINES = ["the cat saw the fish", "a dog", "", "the zebra sold  two\tshares ", "every stock liked the news \\n", ""]
RULES = ["whitespace", "words", "words-2", "characters"]
WORDS = ["<eos>", "<unk>", "the", "cat", "it's", "os.path", ",", "\u00e9t\u00e9", "a", "-", "\u2019", "don\u2019t"]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    include = header_folder()
    return build(tmp_path_factory.getbasetemp() / "cpp", include)


@pytest.fixture(scope="module")
def checked_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same program with sanitizers for memory errors and undefined behaviour."""
    include = header_folder()
    folder = tmp_path_factory.mktemp("cpp")
    flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    empty = folder / "empty.cpp"
    empty.write_text("int main() {}\n")
    tried = subprocess.run(["g++", *flags, empty, "-o", folder / "empty"], capture_output=True, check=False)
    if tried.returncode != 0 or execute(folder / "empty").returncode != 0:
        pytest.skip("this g++ has no sanitizers")
    return build(folder / "checked", include, " ".join(["-g", "-O1", *flags]))


def saved(folder: Path, artifact: bytes) -> tuple[Path, Predictor]:
    path = folder / "model.onnx"
    path.write_bytes(artifact)
    return path, Predictor.load(path)


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_trained_model_agrees_with_python(program: Path, run: Run, precision: str, separate: bool) -> None:
    path = run.artifact(precision)
    predictor = Predictor.load(path)
    lines = [*LINES, *sentences(20, seed=9).splitlines()]
    options = ["--separate"] if separate else []
    found = answers(program, path, *options, stdin="\n".join(lines))
    assert_same(found, expected(predictor, lines, separate=separate))
    if separate:
        assert_same(
            answers(program, path, *options, "--count", 0, stdin="\n".join(lines)),
            [of_score(predictor, line) for line in lines],
        )


def of_score(predictor: Predictor, line: str) -> Answer:
    score = predictor.score(line)
    return Answer(score.log_prob, score.perplexity, len(score.tokens), score.unknown, line, [])


@pytest.mark.parametrize(
    ("cell", "precision"),
    [("lstm", "fp32"), ("gru", "fp32"), ("rnn", "fp32"), ("lstm", "int8"), ("gru", "int8"), ("rnn", "int8")],
)
def test_cells_and_precisions_agree_with_python(program: Path, tmp_path: Path, cell: str, precision: str) -> None:
    network = network_of((7, 3), cell=cell, vocabulary=len(WORDS))
    path, predictor = saved(tmp_path, artifact_of(network, WORDS, "words", precision))
    lines = ["The CAT, it's\u00a0os.path -", "don\u2019t \u2019 \u00c9T\u00c9", "the"]
    found = answers(program, path, "--count", 99, "--threads", 2, stdin="\n".join(lines))
    assert_same(found, expected(predictor, lines, count=99))
    assert len(found[0].words) == len(WORDS) - 2
    assert not {"<unk>", "<eos>"} & dict(found[0].words).keys()


def test_words_of_any_text_agree_with_python(checked_program: Path, tmp_path: Path) -> None:
    path, predictor = saved(tmp_path, bpe_artifact(WRITING_MERGES, [*LOUD, *LOUD_BYTES]))
    lines = ["The cat, don't", "", "  \u4e2d\u6587 \U0001f600 \u05d0\u0e01", "e\u0301t\u00e9\x00\t", "x" * 100, "the  "]
    found = answers(checked_program, path, stdin="\n".join(lines))
    assert_same(found, expected(predictor, lines))
    assert "theory" in {word for answer in found for word, _ in answer.words}


@pytest.mark.parametrize("is_random", [False, True])
def test_the_search_for_words_agrees_with_python(program: Path, tmp_path: Path, is_random: bool) -> None:
    artifact = bpe_artifact(WRITING_MERGES, [*LOUD, *LOUD_BYTES]) if is_random else text_artifact(TEXT)
    path, predictor = saved(tmp_path, artifact)
    line = next(line for line in TEXT.split("\n") if len(line) > 70)
    texts = [*BEGUN, *(line[:end] for end in range(1, len(line), 3))]
    for count in (5, 40):
        finished = execute(program, path, "--separate", "--count", count, stdin="\n".join(texts))
        assert_same(read_answers(finished.stdout.decode()), expected(predictor, texts, count, separate=True))
        cut = [int(number) - 1 for number in re.findall(r"line (\d+): the search was cut", finished.stderr.decode())]
        assert cut == [number for number, text in enumerate(texts) if not is_exact(predictor, text, count)]
        assert bool(cut) == (is_random and count == 40)


def test_tokens_that_no_text_has_take_no_time(program: Path, tmp_path: Path) -> None:
    path, predictor = saved(tmp_path, bpe_artifact(DOUBLING_MERGES, ["a", "aa", "a" * 2**17]))
    assert_same(answers(program, path, stdin="a"), expected(predictor, ["a"]))


TEXT = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
BEGUN = [
    *("don'", "don't", "don't ", "a'", "'", "''", " '", "it's'", "O'N", "\u2019s", "  ", "a  ", "a" + " " * 40),
    *(" the", "12", " 3.1", "1'", "12a", "...", '"', "--", "--x", "(the", "<unk>", "\tx"),
    *("\u00e9", "\u65e5\u672c", "\U0001f600"),
]


def is_exact(predictor: Predictor, text: str, count: int) -> bool:
    stream = predictor.stream()
    stream.feed(text)
    return stream.next_words(count).exact


def test_lines_are_one_text_unless_they_are_separate(program: Path, artifact_path: Path) -> None:
    (_, following) = answers(program, artifact_path, stdin="the cat saw\nthe fish\n")
    (_, separate) = answers(program, artifact_path, "--separate", stdin="the cat saw\nthe fish\n")
    (alone,) = answers(program, artifact_path, stdin="the fish\n")
    assert separate == alone
    assert abs(following.log_prob - alone.log_prob) > 1e-3


def test_long_and_many_empty_lines_agree_with_python(program: Path, artifact_path: Path, predictor: Predictor) -> None:
    lines = ["the cat " * 200, *[""] * 1100, "a dog saw the fish", "the " * 128, "the " * 129]
    for count in (0, 3):
        found = answers(program, artifact_path, "--count", count, stdin="\n".join(lines))
        assert_same(found, expected(predictor, lines, count))


@pytest.mark.parametrize(
    ("stdin", "lines"),
    [
        ("", []),
        ("\n", [""]),
        ("the cat\na dog\n", ["the cat", "a dog"]),
        ("the cat\na dog", ["the cat", "a dog"]),
        ("the cat\r\na dog\r\n", ["the cat", "a dog"]),
        ("the cat\ra dog\r\r\n\n", ["the cat", "a dog", "", ""]),
        ("\ufeffthe cat\n\ufeff", ["the cat", "\ufeff"]),
        ("the\0cat\n", ["the\0cat"]),
        ("\n\n\nthe cat", ["", "", "", "the cat"]),
    ],
)
def test_every_line_end_is_a_newline(
    program: Path, artifact_path: Path, predictor: Predictor, stdin: str, lines: list[str]
) -> None:
    assert_same(answers(program, artifact_path, stdin=stdin), expected(predictor, lines))


def vocabulary_for(rule: str, lines: list[str]) -> list[str]:
    """Four of five tokens of the lines, so that another splitting gives other ids and other unknown counts."""
    tokenization = Tokenization.of_rule(rule)
    tokens = sorted({token for line in lines for token in tokenization.split(line)} - set(tokenization.specials))
    return [*tokenization.specials, *(token for index, token in enumerate(tokens) if index % 5)]


def readable(code_point: int) -> bool:
    """Whether the program accepts the character under the rules for words."""
    return code_point <= 0xFF or 0x2000 <= code_point <= 0x206F or chr(code_point).isspace()


@pytest.mark.parametrize("rule", RULES)
def test_every_code_point_is_split_as_in_python(program: Path, tmp_path: Path, rule: str) -> None:
    others = [0x100, 0x180E, 0x200B, 0x4E2D, 0xD7FF, 0xE000, 0xFEFF, 0xFFFD, 0xFFFF, 0x10000, 0x1F600, 0x10FFFF]
    points = [point for point in range(0x3100) if point not in (0x0A, 0x0D) and readable(point)]
    points += [point for point in others if rule not in ("words", "words-2")]
    lines = ["start"]
    for point in points:
        letter = chr(point)
        lines += [f"b{letter}7", letter, f"{letter}{letter} _{letter}B '{letter}'"]
    tokens = vocabulary_for(rule, lines)
    network = network_of((4,), vocabulary=len(tokens))
    path, predictor = saved(tmp_path, artifact_of(network, tokens, rule))
    found = answers(program, path, "--separate", "--count", 1, stdin="\n".join(lines))
    assert_same(found, expected(predictor, lines, count=1, separate=True))


@pytest.mark.parametrize("rule", RULES)
def test_random_text_is_split_as_in_python(program: Path, tmp_path: Path, rule: str) -> None:
    draw = random.Random(1)
    pieces = [*"abZ_9'.-,! \t\u2019\u00a0\u00c4\u00d7\\", "<unk>", "<eos>", "<UNK>", "<un", "\x85", "\u2014"]
    pieces += [*"\"'(:/@+~#=>|\u200d\u00ad\u201c", "://", "--", "12:3"]
    lines = ["".join(draw.choices(pieces, k=draw.randrange(12))) for _ in range(600)]
    tokens = vocabulary_for(rule, lines)
    network = network_of((4,), vocabulary=len(tokens))
    path, predictor = saved(tmp_path, artifact_of(network, tokens, rule))
    found = answers(program, path, "--count", 2, stdin="\n".join(lines))
    assert_same(found, expected(predictor, lines, count=2))


def test_prose_is_split_as_in_python(program: Path, tmp_path: Path) -> None:
    texts = [text for text, _ in [*PROSE.values(), *SAME.values()]]
    lines = [text for text in texts if all(map(readable, map(ord, text))) and not {"\n", "\r"} & {*text}]
    assert len(lines) > 10
    tokens = vocabulary_for("words-2", lines)
    network = network_of((4,), vocabulary=len(tokens))
    path, predictor = saved(tmp_path, artifact_of(network, tokens, "words-2"))
    assert_same(answers(program, path, stdin="\n".join(lines)), expected(predictor, lines))


def test_tokens_are_printed_without_loss(program: Path, tmp_path: Path) -> None:
    tokens = ["\n", "\ufffd", "\t", "\\", "\0", "\x7f", '"', "/", "\b", "\f", "\r", "\u00e9", "\u4e2d", "\U0001f600"]
    network = network_of((4,), vocabulary=len(tokens))
    path, predictor = saved(tmp_path, artifact_of(network, tokens, "characters"))
    found = answers(program, path, "--count", 20, stdin='\U0001f600"\u4e2d\\')
    assert_same(found, expected(predictor, ['\U0001f600"\u4e2d\\'], count=20))
    assert {token for token, _ in found[0].words} == set(tokens) - {"\n", "\ufffd"}
    assert found[0].unknown == 0


def test_a_graph_without_logits_to_keep_agrees_with_python(program: Path, tmp_path: Path) -> None:
    def drop_option(model: onnx.ModelProto, _: dict[str, str]) -> None:
        (option,) = [value for value in model.graph.input if value.name == "logits_to_keep"]
        model.graph.input.remove(option)

    network = network_of((7, 3), vocabulary=len(WORDS))
    path, predictor = saved(tmp_path, artifact_of(network, WORDS, "words", change=drop_option))
    lines = ["the cat it's", "", "a - the", "the " * 300]
    for count in (0, 4):
        found = answers(program, path, "--count", count, stdin="\n".join(lines))
        assert_same(found, expected(predictor, lines, count))


def test_an_answer_comes_before_the_next_line(program: Path, artifact_path: Path, predictor: Predictor) -> None:
    with subprocess.Popen([program, artifact_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"the cat\n")
        process.stdin.flush()
        rows = [process.stdout.readline().decode() for _ in range(6)]
        assert_same(read_answers("".join(rows)), expected(predictor, ["the cat"]))
        process.stdin.close()
        assert process.wait(60) == 0


def test_no_device_id_is_written_unless_it_may(
    program: Path, artifact_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sends = tuple(map(int, onnxruntime.__version__.split(".")[:2])) >= (1, 29)
    for name in list(os.environ):  # in continuous integration onnxruntime is silent
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    for written in (False, sends):  # the second time is the positive control
        assert execute(program, artifact_path, stdin="the").returncode == 0
        assert any(tmp_path.rglob("deviceid")) == written
        monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")


def test_sanitizers_report_no_memory_errors(checked_program: Path, artifact_path: Path, predictor: Predictor) -> None:
    lines = [*LINES, "the cat " * 200, *[""] * 600, "a dog"]
    for count in (0, 5):
        found = answers(checked_program, artifact_path, "--count", count, stdin="\n".join(lines))
        assert_same(found, expected(predictor, lines, count))
    separate = answers(checked_program, artifact_path, "--separate", stdin="\n".join(lines))
    assert_same(separate, expected(predictor, lines, separate=True))
    for model, stdin in ((artifact_path, b"the\n\xff\n"), (artifact_path.parent, b""), (__file__, b"")):
        finished = execute(checked_program, model, stdin=stdin)
        assert finished.returncode == 1
        assert finished.stderr.startswith(b"error: ")
        assert finished.stderr.count(b"\n") == 1
