"""Errors that users cause: a message and an exit code, no traceback, and no lost files."""

import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.corpora import write_corpus
from support.faults.injection import hide_package, write_to_full_device
from support.processes.commands import json_lines_of, lmtool, output_of, run_fresh

DIVERGE = [argument for pair in ("learning_rate=1e9", "clip_norm=1e9") for argument in ("--set", pair)]


BAD = [
    (["train", "--data", "none"], 1, "there is no file or folder 'none'"),
    (["train", "--data", "empty"], 1, "holds no text"),
    (["train", "--set", "layer_sizes=0"], 2, "layer_sizes is 0, expected sizes of 1 to"),
    (["train", "--set", "layer_sizes=8,0"], 2, "layer_sizes is 8,0, expected sizes"),
    (["train", "--data", "one-word"], 1, "only the token 'a'"),
    (["train", "--data", "latin1"], 1, "is not UTF-8"),
    (["train", "--data", "utf16/train.txt"], 1, "utf16/train.txt is UTF-16 text, .* iconv -f utf-16 -t utf-8"),
    (["train", "--data", "short"], 1, "what fits: --set"),
    (["train", "--preset", "none"], 2, "no preset 'none' .all of them: lmtool presets."),
    (["train", "--set", "epoch=1"], 2, "did you mean 'epochs'. .all of them: lmtool settings. $"),
    (["train", "--set", "epochs"], 2, "not of the form KEY=VALUE"),
    (["train", "--set", "epochs", "3"], 2, "a setting is one argument: --set epochs=3 $"),
    (["train", "--epochs", "x"], 2, "--epochs"),
    (["train", "--resume"], 1, "there is no run in"),
    (["train", "--resume", "--run", "none"], 1, "holds no run"),
    (["train", "--device", "tpu"], 2, "device 'tpu' is not known"),
    (["train", "--threads", "0"], 2, "threads is 0"),
    (["train", "--checkpoint-minutes", "0"], 2, "time between checkpoints is 0 minutes, expected more than 0"),
    (["train", "--run", "a-file/run", "--data", "good"], 1, "cannot make the folder a-file/run"),
    (["import", "a-file"], 2, "Missing option '--run'"),
    (["import", "none.pt", "--run", "new"], 1, "cannot read none.pt: No such file"),
    (["import", "a-file", "--run", "new"], 1, "a-file is no file of weights that this version reads"),
    (["import", "a-file", "--run", "new", "--layout", "none"], 2, "there is no layout 'none', expected one of word"),
    (["import", "a-file", "--run", "new", "--module", "x"], 2, "not of the form KEY=VALUE"),
    (["export", "--onnx"], 1, "there is no run in"),
    (["export"], 1, "there is no run in"),
    (["export", "--onnx", "--sherpa"], 2, "choose one of --onnx and --sherpa"),
    (["export", "--onnx", "--run", "none"], 1, "holds no run"),
    (["verify"], 1, "there is no exported model"),
    (["verify", "--model", "a-file"], 1, "a-file .* cannot be used"),
    (["info", "--model", "none.onnx"], 1, "cannot read none.onnx: No such file"),
    (["info", "--model", "a-file"], 1, "cannot be used"),
    (["info", "--run", "none"], 1, "holds no run"),
    (["info", "--run", "none", "--model", "a-file"], 2, "not both"),
    (["embeddings"], 1, "there is no run in"),
    (["embeddings", "--run", "none"], 1, "holds no run"),
    (["embeddings", "--near", "the", "--out", "a.png"], 2, "nothing is drawn"),
    (["evaluate"], 1, "there is no run in"),
    (["evaluate", "--model", "a-file"], 1, "cannot be used"),
    (["generate", "--model", "empty"], 1, "cannot read empty: Is a directory"),
    (["suggest", "the"], 1, "there is no exported model"),
    (["score", "the"], 1, "there is no exported model"),
    (["bench"], 1, "there is no exported model"),
    (["bench", "--provider", "none"], 2, "provider 'none' is not known"),
    (["bench", "--threads", "0"], 2, "threads is 0"),
    (["bench", "--against", "tf"], 2, "runtime 'tf' is not known, expected one of torch"),
    (["bench", "--fail-if-slower", "10%"], 2, "goes with --before PYTHON"),
    (["bench", "--compare", "none.json"], 1, "cannot read none.json"),
    (["bench", "--compare", "a-file"], 1, "a-file holds no results: it is not JSON"),
    (["bench", "--compare", "a-file", "--fail-if-slower", "10"], 2, "'10' is no percentage"),
    (["bench", "--batch", "0"], 2, "size below 1"),
    (["bench", "--model", "a-file"], 1, "cannot be used"),
    (["bench", "--model", "a-file", "--input", "x"], 2, "'x' is not of the form NAME=SHAPE"),
    (["bench", "--model", "a-file", "--state", "h=hn"], 1, "cannot be examined"),
    (["data", "prepare", "none", "--out", "out"], 1, "there is no file or folder 'none'"),
    (["data", "prepare", "good", "--out", ""], 2, "it is empty, expected a path"),
    (["data", "prepare", "good", "--out", "good"], 1, "good is the folder of the text itself; choose another folder"),
    (["train", "--run", ""], 2, "it is empty, expected a path"),
    (["train", "--preset", ""], 2, "there is no preset ''"),
    (["info", "--model", ""], 2, "it is empty, expected a path"),
    (["data", "prepare", "good", "--out", "a-file"], 1, "cannot make the folder a-file"),
    (["none"], 2, "none"),
    (["train", "--data", ""], 1, "there is no file or folder ''"),
    (["train", "--set", "preset=none"], 2, "there is no setting 'preset'"),
    (
        ["train", "--data", "good", "--set", "learning_rate=1e9", "--epochs", "1", "--run", "diverged", *DIVERGE],
        1,
        "lower",
    ),
    (["export", "--onnx", "--precision", "fp8"], 2, "precision 'fp8' is not exported"),
    (["export", "--onnx", "--opset", "11"], 2, "opset is 11, expected 17 to 21"),
    (["train", "--data", "x" * 5000], 1, "there is no file or folder 'xxx"),
    (["train", "--data", "good", "--set", "layer_sizes=1000000000"], 2, "expected sizes of 1 to 65,536"),
    (["train", "--data", "rare"], 1, "no token seen 3 times or more; .*; keep rarer ones: --set min_count=1"),
    (["evaluate", "--threads", "0"], 2, "threads is 0"),
    (["evaluate", "--provider", "cuda"], 2, "a provider runs an artifact"),
    (["evaluate", "--cache", "500"], 2, "a cache goes with an artifact"),
    (["evaluate", "--cache-theta", "1"], 2, "goes with --cache SIZE"),
    (["evaluate", "--model", "a-file", "--cache", "0"], 2, "the cache's size is 0"),
    (["evaluate", "--ignore-case"], 2, "--ignore-case: goes with --typing"),
    (["evaluate", "--typing", "--cache", "9"], 2, "without a cache; leave it out"),
    (["evaluate", "--typing", "--run", "good"], 1, "good holds no exported model; write one: lmtool export --run good"),
    (["suggest", "--run", "god", "the"], 1, "there is no folder god, expected the folder of a run"),
    (["export", "--sherpa", "--precision", "int8"], 2, "does not go with --sherpa"),
    (["export", "--tokens", "tokens.txt"], 2, "goes with --sherpa only"),
    (["suggest", "--run", "run", "--model", "a-file", "the"], 2, "name a run or an artifact, not both"),
    (["train", "--epochs", "one"], 2, "'--epochs': found 'one', expected a whole number, such as 10"),
    (["generate", "--temperature", "hot"], 2, "found 'hot', expected a number, such as 0.5"),
    (["generate", "--count", "0"], 2, "found 0, expected 1 or more"),
    (["serve", "--port", "1.5"], 2, "found '1.5', expected a whole number"),
    (["info", "--run", "none", "--graph", "a.png"], 2, "a run has no graph"),
    (["train", "--data", "good", "--set", "precision=tf32"], 2, "precision is 'tf32', which only CUDA"),
    (["info", "run"], 2, "without its option, expected --model run/model.onnx or --run run"),
    (["evaluate", "run", "--json"], 2, "without its option, expected --run run or --model run/model.onnx"),
    (["verify", "run"], 2, "expected --model run/model.onnx or --run run"),
    (["export", "run"], 2, "expected --run run $"),
    (["serve", "run"], 2, "expected --model run/model.onnx $"),
    (["bench", "a b.onnx"], 2, "expected --model 'a b.onnx' $"),
    (["train", "good"], 2, "expected --data good or --run good $"),
    (["train", "a-file"], 2, "expected --data a-file $"),
    (["demo", "x" * 5000], 2, "the argument 'xxx.* is unexpected; this command takes options only"),
    (["score", "--model", "run", "the"], 2, "run is a folder, expected an ONNX file: run/model.onnx"),
    (["info", "--run", "run/model.onnx"], 2, "run/model.onnx is a file, expected a run folder: run $"),
    (["train", "--init", "a-file"], 2, "a-file is a file, expected a run folder $"),
    (["generate", "a-file"], 1, "a-file is taken as the text itself, .*: < a-file error: there is no exported model"),
]


@pytest.fixture(scope="module")
def invalid_inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of invalid files."""
    folder = tmp_path_factory.mktemp("wrong")
    for name in ("empty", "one-word", "latin1", "short", "utf16"):
        (folder / name).mkdir()
    write_corpus(folder / "good")
    write_corpus(folder / "short", (20, 3, 3))
    write_corpus(folder / "latin1")
    write_corpus(folder / "rare")
    (folder / "rare" / "train.txt").write_text("every word here stands once\n")
    (folder / "latin1" / "train.txt").write_bytes(b"caf\xe9\n")
    (folder / "utf16" / "train.txt").write_bytes("the cat\n".encode("utf-16"))
    for split in ("train", "valid", "test"):
        (folder / "one-word" / f"{split}.txt").write_text("a a a\n")
    (folder / "a-file").write_text("text\n")
    (folder / "run").mkdir()
    for name in ("config.json", "model.onnx"):
        (folder / "run" / name).touch()
    return folder


@pytest.mark.parametrize(("arguments", "code", "message"), BAD, ids=lambda value: str(value)[:40])
def test_user_errors_give_a_message(invalid_inputs: Path, arguments: list[str], code: int, message: str) -> None:
    before = sorted(path for path in invalid_inputs.rglob("*") if "diverged" not in path.parts)
    finished = lmtool(*arguments, cwd=invalid_inputs)
    assert finished.returncode == code, finished.stderr
    assert "Traceback" not in finished.stderr
    assert re.search(message, re.sub(r"[\s│]+", " ", finished.stderr)), finished.stderr
    assert finished.stdout == ""
    assert sorted(path for path in invalid_inputs.rglob("*") if "diverged" not in path.parts) == before


def test_a_missing_package_is_named_with_its_extra(project: Path) -> None:
    finished = lmtool("embeddings", cwd=project, prepare=functools.partial(hide_package, "sklearn"))
    assert finished.returncode == 1
    assert "this command needs sklearn; pip install 'lmtool[report]'" in finished.stderr
    assert "Traceback" not in finished.stderr
    near = lmtool("embeddings", "--near", "the", cwd=project, prepare=functools.partial(hide_package, "sklearn"))
    assert near.returncode == 0
    hidden = functools.partial(hide_package, "tensorboard")
    finished = lmtool("train", "--tensorboard", "--run", "new", cwd=project, prepare=hidden)
    assert finished.returncode == 1
    assert "this command needs tensorboard; pip install 'lmtool[tensorboard]'" in finished.stderr
    (project / "model.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    hidden = functools.partial(hide_package, "h5py")
    finished = lmtool("import", "model.h5", "--run", "new", cwd=project, prepare=hidden)
    assert finished.returncode == 1
    assert "this command needs h5py; pip install 'lmtool[keras]'" in finished.stderr
    assert not (project / "new").exists()
    finished = run_fresh("bench", without="jinja2", cwd=project)
    assert finished.returncode == 1
    assert "this command needs jinja2; pip install 'lmtool[report]'" in finished.stderr
    assert "parity" not in finished.stderr  # it failed before measuring


def test_invalid_numbers_and_input_text(project: Path, tmp_path: Path) -> None:
    finished = lmtool("generate", "--seed", "-1", "the", cwd=project)
    assert finished.returncode == 2
    assert "seed is -1" in finished.stderr
    finished = lmtool("suggest", "--count", "0", "the", cwd=project)
    assert finished.returncode == 2
    assert "error: the number of suggestions is 0, expected 1 or more" in finished.stderr
    finished = lmtool("score", cwd=project, stdin=b"caf\xe9\n")
    assert finished.returncode == 1
    assert "line 1 of standard input is not UTF-8 text: byte 0xe9 at offset 3" in finished.stderr
    odd = json_lines_of("score", stdin="the\u2028cat\n\na dog", cwd=project)
    assert [score["text"] for score in odd] == ["the\u2028cat", "", "a dog"]
    lonely = tmp_path / "lonely.onnx"
    lonely.write_bytes((project / "runs/tiny/model.onnx").read_bytes())
    finished = lmtool("evaluate", "--model", lonely)
    assert finished.returncode == 1
    assert "lies in no run folder" in finished.stderr


@pytest.mark.parametrize("name", ["map.jpg", "map", "map.png.svg"])
def test_pictures_must_be_named_png(project: Path, tmp_path: Path, name: str) -> None:
    for arguments in (["embeddings", "--words", 12, "--out"], ["info", "--graph"]):
        finished = lmtool(*arguments, tmp_path / name, cwd=project)
        assert finished.returncode == 2
        assert f"cannot draw into {tmp_path / name}: pictures are PNG files" in finished.stderr
        assert finished.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [["info"], ["generate", "the"], ["score", "--json", "the"], ["--help"], ["train", "-h"], ["-V"], ["data", "list"]],
    ids=" ".join,
)
def test_output_that_cannot_be_written_is_one_line(project: Path, arguments: list[str]) -> None:
    finished = lmtool(*arguments, cwd=project, prepare=write_to_full_device)
    message = "error: cannot write to standard output: No space left on device\n"
    assert (finished.returncode, re.sub(r"^model: runs/tiny/model.onnx \(.*\)\n", "", finished.stderr)) == (1, message)


def test_output_without_reader_ends_the_command(project: Path) -> None:
    piped = f"set -o pipefail; {sys.executable} -m lmtool.cli generate --max-tokens 2000 the | true"
    finished = subprocess.run(["bash", "-c", piped], cwd=project, capture_output=True, text=True, check=False)
    assert finished.returncode == 141
    assert "Traceback" not in finished.stderr


def test_verify_without_its_run_names_the_option_that_helps(project: Path, tmp_path: Path) -> None:
    lonely = tmp_path / "model.onnx"
    lonely.write_bytes((project / "runs/tiny/model.onnx").read_bytes())
    finished = lmtool("verify", "--model", lonely)
    assert finished.returncode == 1
    assert "no PyTorch original beside" in finished.stderr
    assert "--run DIR" in finished.stderr
    assert "passed" in output_of("verify", "--model", lonely, "--run", project / "runs/tiny")


def test_a_missing_provider_fails_with_code_3(project: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime carries CUDA")
    finished = lmtool("bench", "--provider", "cuda", cwd=project)
    assert finished.returncode == 3
    assert "'cuda' is not available: onnxruntime" in finished.stderr
    assert "pip install 'lmtool[gpu]'" in finished.stderr


def test_a_resumed_run_with_other_settings_is_refused(project: Path) -> None:
    finished = lmtool("train", "--resume", "--set", "dropout=0.5", cwd=project)
    assert finished.returncode == 1
    assert "dropout was 0.0, is 0.5" in finished.stderr
