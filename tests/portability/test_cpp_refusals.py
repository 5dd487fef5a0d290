"""The C++ example refuses invalid usage, text, artifacts and libraries with an error message of one line."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from lmtool.runtime import Predictor
from support.cpp import HEADER, Answer, answers, assert_same, build, execute, expected, header_folder, read_answers
from support.models.networks import artifact_of, network_of

Change = Callable[[onnx.ModelProto, dict[str, str]], None]

WORDS = ["<eos>", "<unk>", "the", "cat"]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    include = header_folder()
    return build(tmp_path_factory.getbasetemp() / "cpp", include)


def refusal(program: Path, *arguments: object, stdin: str | bytes = "") -> tuple[int, str, list[Answer]]:
    """The exit code, the message, which is one line, and the answers before it."""
    finished = execute(program, *arguments, stdin=stdin)
    message = finished.stderr.decode()
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    return finished.returncode, message, read_answers(finished.stdout.decode())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no model is named; usage: suggest [--count N]"),
        (["a", "b"], "'b' is one model too many"),
        (["a", "--beam", "4"], "the option '--beam' is not known"),
        (["a", "--count"], "--count is '', expected a whole number from 0"),
        (["a", "--count", "-1"], "--count is '-1'"),
        (["a", "--count", "3x"], "--count is '3x'"),
        (["a", "--threads", "0"], "--threads is '0', expected a whole number from 1 to 1024"),
        (["a", "--threads", "99999999999"], "--threads is '99999999999'"),
        (["--", "--help", "a"], "'a' is one model too many"),
    ],
)
def test_wrong_usage_is_refused(program: Path, arguments: list[str], message: str) -> None:
    code, found, _ = refusal(program, *arguments)
    assert code == 2
    assert message in found


def test_help_exits_with_0(program: Path) -> None:
    finished = execute(program, "--help")
    assert (finished.returncode, finished.stderr) == (0, b"")
    assert finished.stdout.startswith(b"usage: suggest ")


@pytest.mark.parametrize(
    ("line", "byte", "offset"),
    [
        (b"the \xff", "0xff", 4),
        (b"\x80", "0x80", 0),
        (b"a\xc3", "0xc3", 1),
        (b"\xe2\x82x", "0xe2", 0),
        (b"\xc0\xaf", "0xc0", 0),
        (b"\xe0\x80\xaf", "0xe0", 0),
        (b"\xed\xa0\x80", "0xed", 0),
        (b"ab \xf4\x90\x80\x80", "0xf4", 3),
        (b"\xf8\x88\x80\x80\x80", "0xf8", 0),
    ],
)
def test_text_that_is_not_utf_8_is_refused(
    program: Path, artifact_path: Path, predictor: Predictor, line: bytes, byte: str, offset: int
) -> None:
    code, message, before = refusal(program, artifact_path, stdin=b"the cat\n" + line + b"\nmore\n")
    assert code == 1
    assert f"line 2 is not UTF-8 text: byte {byte} at offset {offset}; convert it" in message
    assert_same(before, expected(predictor, ["the cat"]))


@pytest.mark.parametrize("letter", ["\u0100", "\u03a3", "\u4e2d", "\U0001f600"])
def test_letters_that_it_cannot_classify_are_refused_by_name(program: Path, tmp_path: Path, letter: str) -> None:
    network = network_of((4,), vocabulary=len(WORDS))
    path = tmp_path / "model.onnx"
    path.write_bytes(artifact_of(network, WORDS, "words"))
    code, message, before = refusal(program, path, stdin=f"the\nthe {letter}\n")
    assert code == 1
    assert f"line 2 holds U+{ord(letter):04X} as its code point 5; for an artifact whose rule is `words`" in message
    assert len(before) == 1


def changed(key: str, value: str | None) -> Change:
    def change(_: onnx.ModelProto, metadata: dict[str, str]) -> None:
        del metadata[key]
        if value is not None:
            metadata[key] = value

    return change


def rename_state(model: onnx.ModelProto, _: dict[str, str]) -> None:
    for node in model.graph.node:
        node.input[:] = ["memory" if name == "cell_1" else name for name in node.input]
    next(value for value in model.graph.input if value.name == "cell_1").name = "memory"


MODEL = '{"cell":%s,"embedding_size":5,"layer_sizes":%s,"tied":false}'


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed("lmtool.format", "2"), "its format is '2', this program reads '1'"),
        (changed("lmtool.format", None), "its metadata lacks lmtool.format"),
        (changed("lmtool.vocabulary", '["<eos>","the"'), "lmtool.vocabulary is not the JSON that was expected: no ']'"),
        (changed("lmtool.vocabulary", '["<eos>","\\ud800"]'), "half of a surrogate pair"),
        (changed("lmtool.vocabulary", '["<eos>",7]'), "no '\"' at offset 9"),
        (changed("lmtool.vocabulary", '["<eos>","a","a"]'), "its vocabulary holds 'a' twice"),
        (changed("lmtool.vocabulary", '["<eos>","a"]'), "its vocabulary of 2 tokens lacks its special token '<unk>'"),
        (changed("lmtool.vocabulary", '["<eos>","<unk>"]'), "the output 'logits' breaks the contract: found float32 "),
        (changed("lmtool.tokenization", '{"rule":"bytes"}'), "its tokenization rule is 'bytes', expected whitespace,"),
        (changed("lmtool.tokenization", "[]"), "lmtool.tokenization is not the JSON that was expected: no '{'"),
        (changed("lmtool.model", MODEL % ('"lstm"', "[7,4]")), "the input 'cell_1' breaks the contract: found float32"),
        (changed("lmtool.model", MODEL % ('"gru"', "[7,3]")), "the input 'cell_0' breaks the contract: found float32"),
        (changed("lmtool.model", MODEL % ('"mamba"', "[7,3]")), "its network has the cell 'mamba' and 2 layers"),
        (changed("lmtool.model", MODEL % ('"lstm"', "[7,-3]")), "no whole number from 1"),
        (rename_state, "the input 'cell_1' breaks the contract: found none, expected float32 [any, 3]"),
    ],
)
def test_an_artifact_that_breaks_the_contract_is_refused(
    program: Path, tmp_path: Path, change: Change, message: str
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(artifact_of(network_of((7, 3), vocabulary=len(WORDS)), WORDS, "words", change=change))
    code, found, before = refusal(program, path, stdin="the cat\n")
    assert (code, before) == (1, [])
    assert f"{path} cannot be used: " in found
    assert message in found


def with_wide_state(width: int) -> Change:
    """Add a second layer whose state of this width passes through unchanged."""

    def change(model: onnx.ModelProto, metadata: dict[str, str]) -> None:
        for values, name in ((model.graph.input, "hidden_1"), (model.graph.output, "next_hidden_1")):
            values.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", width]))
        model.graph.node.append(onnx.helper.make_node("Identity", ["hidden_1"], ["next_hidden_1"]))
        metadata["lmtool.model"] = MODEL % ('"rnn"', f"[7,{width}]")

    return change


@pytest.mark.parametrize("width", [9, 2**24 - 7, 2**24 - 6, 2**31, 2**61, 2**63 - 1])
def test_a_state_that_is_too_large_is_refused(program: Path, tmp_path: Path, width: int) -> None:
    path = tmp_path / "model.onnx"
    network = network_of((7,), cell="rnn", vocabulary=len(WORDS))
    path.write_bytes(artifact_of(network, WORDS, "words", change=with_wide_state(width)))
    if width + 7 <= 2**24:
        assert len(answers(program, path, stdin="the cat\n")) == 1
        return
    code, found, _ = refusal(program, path, stdin="the cat\n")
    assert code == 1
    assert f"a layer 1 of {width} units, with which its state is too large; expected 16777216 numbers at most" in found


def test_the_memory_of_all_layers_counts(program: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    change = changed("lmtool.model", MODEL % ('"lstm"', "[4194304,4194304,1]"))
    path.write_bytes(artifact_of(network_of((7, 3), vocabulary=len(WORDS)), WORDS, "words", change=change))
    assert "a layer 2 of 1 units, with which its state is too large" in refusal(program, path)[1]


HOSTILE = "\x1b]0;owned\x07\x9b2J\r\n\t\\"
ESCAPED = r"\x1b]0;owned\x07\x9b2J\x0d\n\t\\"


def name_an_output(model: onnx.ModelProto, _: dict[str, str]) -> None:
    model.graph.node.append(onnx.helper.make_node("Identity", ["logits"], [HOSTILE]))
    model.graph.output.append(onnx.helper.make_tensor_value_info(HOSTILE, onnx.TensorProto.FLOAT, None))


def name_a_node_of_an_unknown_type(model: onnx.ModelProto, _: dict[str, str]) -> None:
    model.graph.node.append(onnx.helper.make_node("Unheard", ["logits"], ["more"], name=HOSTILE))


def name_a_node_that_cannot_run(model: onnx.ModelProto, _: dict[str, str]) -> None:
    """Reshape a state of 3 numbers to 4 when the graph runs."""
    (last,) = [node for node in model.graph.node if "next_hidden_1" in node.output]
    last.output[:] = ["remembered" if name == "next_hidden_1" else name for name in last.output]
    model.graph.node.append(onnx.helper.make_node("Shape", ["token_ids"], ["sizes"]))
    model.graph.node.append(onnx.helper.make_node("Add", ["sizes", "sizes"], ["twice"]))
    model.graph.node.append(onnx.helper.make_node("Reshape", ["remembered", "twice"], ["next_hidden_1"], name=HOSTILE))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed("lmtool.format", HOSTILE), f"its format is '{ESCAPED}'"),
        (changed("lmtool.vocabulary", json.dumps([HOSTILE, HOSTILE])), f"its vocabulary holds '{ESCAPED}' twice"),
        (changed("lmtool.tokenization", json.dumps({"rule": HOSTILE})), f"its tokenization rule is '{ESCAPED}'"),
        (changed("lmtool.tokenization", json.dumps({"rule": "words", "unknown": HOSTILE})), f"token '{ESCAPED}'"),
        (changed("lmtool.model", MODEL % (json.dumps(HOSTILE), "[7,3]")), f"its network has the cell '{ESCAPED}'"),
        (changed("lmtool.model", '{"cell":"\\\x1b"}'), r"the unknown escape \\\x1b at"),
        (name_an_output, f"the output '{ESCAPED}' breaks the contract"),
        (name_a_node_of_an_unknown_type, r"cannot load the artifact: "),
        (name_a_node_that_cannot_run, r"cannot run the artifact: "),
    ],
)
def test_control_characters_of_a_file_are_escaped(program: Path, tmp_path: Path, change: Change, message: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(artifact_of(network_of((7, 3), vocabulary=len(WORDS)), WORDS, "words", change=change))
    code, found, _ = refusal(program, path, stdin="the cat\n")
    assert code == 1
    assert message in found
    assert r"\x1b" in found
    assert [letter for letter in found[:-1] if not letter.isprintable()] == []


def test_control_characters_of_arguments_are_escaped(program: Path) -> None:
    code, found, _ = refusal(program, f"--{HOSTILE}")
    assert (code, f"the option '--{ESCAPED}' is not known" in found) == (2, True)
    code, found, _ = refusal(program, os.fsdecode(b"bad-\xff-\xc2\x9b"))
    assert (code, r"bad-\xff-\x9b cannot be used" in found) == (1, True)


def test_files_that_are_not_artifacts_are_refused(program: Path, artifact_path: Path, tmp_path: Path) -> None:
    data = artifact_path.read_bytes()
    damaged = bytearray(data)
    damaged[len(data) // 2] ^= 1
    foreign = onnx.load(artifact_path)
    del foreign.metadata_props[:]
    for name, content, message in [
        ("empty", b"", "it has no lmtool.sha256, so it was not exported by lmtool"),
        ("foreign", foreign.SerializeToString(), "it has no lmtool.sha256"),
        ("cut", data[: len(data) // 2], "it has no lmtool.sha256"),
        ("damaged", bytes(damaged), "it is damaged: its bytes hash to "),
    ]:
        (tmp_path / name).write_bytes(content)
        assert refusal(program, tmp_path / name)[0] == 1
        assert message in refusal(program, tmp_path / name)[1]
    for path in (tmp_path, tmp_path / "missing"):
        code, found, _ = refusal(program, path)
        assert (code, f"{path} cannot be used: it cannot be read" in found) == (1, True)


def test_a_library_that_is_older_than_the_header_is_refused(tmp_path: Path, artifact_path: Path) -> None:
    newer = tmp_path / "include"
    newer.mkdir()
    original = header_folder() / HEADER
    (newer / HEADER).write_text(f'#include "{original}"\n#undef ORT_API_VERSION\n#define ORT_API_VERSION 9999\n')
    finished = execute(build(tmp_path / "newer", newer, "-O0"), artifact_path)
    assert finished.returncode == 1
    assert b"is older than the header, which is of API version 9999; compile with" in finished.stderr


def test_output_that_cannot_be_written_is_an_error(program: Path, artifact_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        finished = subprocess.run(
            [program, artifact_path], input=b"a\n", stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert (finished.returncode, finished.stderr) == (1, b"error: cannot write to standard output\n")
