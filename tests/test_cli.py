"""Every command as a user types it: results, JSON, exit codes, and messages instead of tracebacks."""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import write_corpus
from lmtool.model import Run
from lmtool.runtime import CacheOptions, Predictor
from tiny import SETTINGS

TRAIN = ["train", "--preset", "ptb-200", "--threads", "1"]
TRAIN += [argument for key, value in SETTINGS.items() for argument in ("--set", f"{key}={value}")]


def lmtool(
    *arguments: object, cwd: Path | None = None, stdin: str = "", **options: Any
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lmtool.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, input=stdin, capture_output=True, text=True, timeout=120, **options)


def done(*arguments: object, **options: Any) -> str:
    finished = lmtool(*arguments, **options)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def as_json(*arguments: object, **options: Any) -> Any:
    return json.loads(done(*arguments, "--json", **options))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, run: Run) -> Path:
    """A folder with one finished run, as after `train` and two exports."""
    folder = tmp_path_factory.mktemp("place")
    shutil.copytree(run.path, folder / "runs" / "tiny")
    os.utime(folder / "runs" / "tiny" / "model.onnx")
    return folder


def test_help_is_instant_and_names_every_command() -> None:
    text = done("--help")
    for command in [
        "train",
        "evaluate",
        "export",
        "verify",
        "info",
        "embeddings",
        "generate",
        "suggest",
        "score",
        "bench",
        "data",
        "demo",
    ]:
        assert command in text
    assert done("--version").startswith("lmtool 0.")


def test_train_export_and_use_in_an_empty_folder(tmp_path: Path) -> None:
    data = write_corpus(tmp_path / "data")
    trained = as_json(*TRAIN, "--data", data, "--epochs", 1, "--seed", 3, cwd=tmp_path)
    assert trained["epoch"] == 1
    assert trained["test_perplexity"] < trained["unigram_perplexity"]
    assert Path(trained["run"]).parent == Path("runs")
    exported = as_json("export", "--onnx", cwd=tmp_path)
    assert exported["path"] == f"{trained['run']}/model.onnx"
    assert exported["parity"]["passed"] is True
    assert as_json("info", cwd=tmp_path)["training"]["seed"] == 3
    own = as_json("evaluate", cwd=tmp_path)["perplexity"]
    artifact = as_json("evaluate", "--model", exported["path"], cwd=tmp_path)["perplexity"]
    assert own == pytest.approx(trained["test_perplexity"], rel=1e-5)
    assert artifact == pytest.approx(own, rel=1e-5)
    assert "perplexity" in done("evaluate", "--data", data, "--split", "valid", cwd=tmp_path)


def test_progress_is_on_stderr_and_the_result_on_stdout(tmp_path: Path) -> None:
    finished = lmtool(*TRAIN, "--data", write_corpus(tmp_path / "data"), "--epochs", 1, cwd=tmp_path)
    assert finished.returncode == 0
    assert "tokens/s" in finished.stderr
    assert "valid perplexity" in finished.stderr
    assert finished.stdout.count("\n") == 1
    assert "perplexity" in finished.stdout


def test_verify_passes_and_fails(place: Path, tmp_path: Path, corpus_folder: Path) -> None:
    assert "parity of fp32 on cpu: passed" in done("verify", cwd=place)
    done(*TRAIN, "--data", corpus_folder, "--run", "other", "--seed", 9, "--epochs", 1, cwd=tmp_path)
    finished = lmtool("verify", "--model", place / "runs/tiny/model.onnx", "--run", "other", "--json", cwd=tmp_path)
    assert finished.returncode == 3
    assert json.loads(finished.stdout)["passed"] is False


def test_info_shows_layers_and_parameters(place: Path) -> None:
    found = as_json("info", cwd=place)
    size = found["vocabulary"]["size"]
    rows = {row["name"]: row["parameters"] for row in found["layers"]}
    assert rows == {
        "embedding": size * 5,
        "lstm 0": 4 * 7 * (5 + 7 + 1),
        "lstm 1": 4 * 3 * (7 + 3 + 1),
        "projection": 3 * size + size,
    }
    assert [row["type"] for row in found["layers"]] == ["Embedding", "LSTM", "LSTM", "Linear"]
    assert [row["shape"] for row in found["layers"]] == [f"[batch, time, {width}]" for width in (5, 7, 3, size)]
    assert found["parameters"] == {"total": sum(rows.values()), "trainable": sum(rows.values())}
    text = done("info", "--run", "runs/tiny", cwd=place)
    table = [" ".join(line.split()) for line in text.splitlines()[2:]]
    assert table[0] == "layer type output shape parameters"
    assert table[2] == "lstm 0 LSTM [batch, time, 7] 364"
    assert f"total parameters {sum(rows.values()):,}" in table
    assert f"trainable parameters {sum(rows.values()):,}" in table
    assert "cell_0 [batch, 7]" in text


def test_export_writes_a_triton_repository_and_info_a_picture(place: Path, tmp_path: Path) -> None:
    out, repository = tmp_path / "model.onnx", tmp_path / "repository"
    found = as_json("export", "--onnx", "--precision", "w8", "--out", out, "--triton", repository, cwd=place)
    assert found["triton"] == str(repository / "lmtool")
    assert (repository / "lmtool" / "1" / "model.onnx").read_bytes() == out.read_bytes()
    done("info", "--model", out, "--graph", tmp_path / "graph.png")
    assert (tmp_path / "graph.png").read_bytes().startswith(b"\x89PNG")
    finished = lmtool("export", "--sherpa", cwd=place)
    assert finished.returncode == 1
    assert "LSTM layers of one size" in finished.stderr


def test_embeddings_draws_a_map_or_lists_near_words(place: Path, tmp_path: Path) -> None:
    drawn = as_json("embeddings", "--words", 12, cwd=place)
    assert drawn == {"run": "runs/tiny", "path": "runs/tiny/embeddings.png", "words": 12}
    assert (place / drawn["path"]).read_bytes().startswith(b"\x89PNG")
    out = tmp_path / "map.png"
    assert done("embeddings", "--words", 12, "--out", out, cwd=place) == f"{out}: 12 words\n"
    assert out.read_bytes() == (place / drawn["path"]).read_bytes()
    assert lmtool("embeddings", "--words", 2, cwd=place).returncode == 2
    near = as_json("embeddings", "--near", "cat", "--near", "the", "--count", 3, cwd=place)["near"]
    assert {word: len(found) for word, found in near.items()} == {"cat": 3, "the": 3}
    text = done("embeddings", "--near", "cat", "--count", 3, cwd=place)
    first, *others = text.splitlines()
    assert first == "'cat'"
    assert [line.split() for line in others] == [
        [f"{found['similarity']:.3f}", repr(found["word"])] for found in near["cat"]
    ]
    finished = lmtool("embeddings", "--near", "the", "--near", "marcet", cwd=place)
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert "'marcet' is not among" in finished.stderr
    assert "nearest spellings: 'market'" in finished.stderr


def without(module: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command where a package is not installed."""
    code = f"import sys; sys.modules[{module!r}] = None; from lmtool.cli import main; main()"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def test_a_missing_package_is_named_with_its_extra(place: Path) -> None:
    finished = without("sklearn", "embeddings", cwd=place)
    assert finished.returncode == 1
    assert "this command needs sklearn; pip install 'lmtool[report]'" in finished.stderr
    assert "Traceback" not in finished.stderr
    assert without("sklearn", "embeddings", "--near", "the", cwd=place).returncode == 0
    finished = without("tensorboard", "train", "--tensorboard", "--run", "new", cwd=place)
    assert finished.returncode == 1
    assert "this command needs tensorboard; pip install 'lmtool[tensorboard]'" in finished.stderr
    assert not (place / "new").exists()


def test_generate_writes_on_from_the_prompt(place: Path) -> None:
    text = done("generate", "--seed", 4, "--max-tokens", 12, "the", "cat", cwd=place)
    assert text == done("generate", "--seed", 4, "--max-tokens", 12, stdin="the cat\n", cwd=place)
    found = as_json("generate", "--seed", 4, "--max-tokens", 12, "the cat", cwd=place)
    assert text == found["prompt"] + found["text"] + "\n"
    stream = Predictor.load(place / "runs/tiny/model.onnx").stream()
    stream.feed("the cat")
    assert found["text"] == "".join(stream.generate(12, temperature=0.8, seed=4))


def test_suggest_and_score(place: Path) -> None:
    predictor = Predictor.load(place / "runs/tiny/model.onnx")
    stream = predictor.stream()
    stream.feed("the cat")
    expected = [{"token": word, "probability": probability} for word, probability in stream.suggest(3)]
    assert as_json("suggest", "the cat", "-k", 3, cwd=place)["suggestions"] == expected
    assert done("suggest", "the cat", cwd=place).count("%") == 5
    scores = as_json("score", stdin="the cat\na dog saw zebras\n", cwd=place)["scores"]
    assert [score["text"] for score in scores] == ["the cat", "a dog saw zebras"]
    assert scores[0]["log_prob"] == predictor.score("the cat").log_prob
    assert scores[1]["unknown"] == 1
    assert as_json("score", "--end", "the cat", cwd=place)["scores"][0]["tokens"] == ["the", "cat", "<eos>"]
    assert done("score", "--per-token", "the cat", cwd=place).count("\n") == 3
    assert done("score", cwd=place) == ""


def test_an_artifact_is_evaluated_with_a_cache(place: Path, corpus_folder: Path) -> None:
    arguments = ["evaluate", "--model", "runs/tiny/model.onnx", "--data", corpus_folder, "--split", "valid"]
    plain = as_json(*arguments, cwd=place)
    cached = as_json(*arguments, "--cache", 30, "--cache-theta", 0.5, "--cache-weight", 0.2, cwd=place)
    options = CacheOptions(size=30, theta=0.5, weight=0.2)
    predictor = Predictor.load(place / "runs/tiny/model.onnx")
    ids = np.array(predictor.vocabulary.encode((corpus_folder / "valid.txt").read_text()))
    assert cached["perplexity"] == predictor.perplexity(ids, cache=options)
    assert cached["perplexity"] != plain["perplexity"]
    assert (cached["cache"], plain["cache"]) == ({"size": 30, "theta": 0.5, "weight": 0.2}, None)
    assert "cache of 30 (theta 0.4, weight 0.15)" in done(*arguments, "--cache", 30, cwd=place)


def test_a_word_is_completed_and_a_text_stopped(place: Path) -> None:
    stream = Predictor.load(place / "runs/tiny/model.onnx").stream()
    stream.feed("the cat")
    expected = [{"token": word, "probability": probability} for word, probability in stream.suggest(5, prefix="s")]
    assert as_json("suggest", "the cat", "--prefix", "s", cwd=place)["suggestions"] == expected
    assert done("suggest", "the cat", "--prefix", "zz", cwd=place) == ""
    arguments = ["generate", "the cat", "--seed", 4, "--stop", "the", "--stop", "<eos>", "--repetition-penalty", 1.5]
    pieces = stream.generate(50, temperature=0.8, seed=4, stop=["the", "<eos>"], repetition_penalty=1.5)
    assert as_json(*arguments, cwd=place)["text"] == "".join(pieces)
    finished = lmtool("generate", "the cat", "--stop", "zebra", cwd=place)
    assert finished.returncode == 2
    assert "stop holds 'zebra'" in finished.stderr


def test_heat_colours_the_text_on_a_terminal_only(place: Path) -> None:
    plain = done("score", "the cat saw zebras", cwd=place)
    assert done("score", "--heat", "the cat saw zebras", cwd=place) == plain
    environment = {**os.environ, "FORCE_COLOR": "1", "TERM": "xterm-256color"}
    hot = done("score", "--heat", "--end", "the cat saw zebras", cwd=place, env=environment)
    line, legend = hot.splitlines()
    for word in ("the", " cat", " saw", " zebras"):
        assert re.search(rf"\x1b\[[0-9;]+m{word}\x1b\[0m", line)
    assert "<2" in legend
    assert as_json("score", "--heat", "the cat", cwd=place, env=environment) == as_json("score", "the cat", cwd=place)


def test_data_is_listed_and_prepared(tmp_path: Path) -> None:
    assert "pydocs" in as_json("data", "list")["corpora"]
    data = write_corpus(tmp_path / "data")
    assert set(as_json("data", "prepare", data, "--out", tmp_path / "out")["bytes"]) == {"train", "valid", "test"}
    assert (tmp_path / "out" / "test.txt").read_text() == (data / "test.txt").read_text()


DIVERGE = [argument for pair in ("learning_rate=1e9", "clip_norm=1e9") for argument in ("--set", pair)]
BAD = [
    (["train", "--data", "none"], 1, "there is no folder 'none'"),
    (["train", "--data", "empty"], 1, "holds no text"),
    (["train", "--data", "one-word"], 1, "only the token 'a'"),
    (["train", "--data", "latin1"], 1, "is not UTF-8"),
    (["train", "--data", "short"], 1, "what fits: --set"),
    (["train", "--preset", "none"], 2, "no preset 'none', expected one of quick"),
    (["train", "--set", "epoch=1"], 2, "did you mean 'epochs'"),
    (["train", "--set", "epochs"], 2, "not of the form KEY=VALUE"),
    (["train", "--epochs", "x"], 2, "--epochs"),
    (["train", "--resume"], 1, "there is no run in"),
    (["train", "--resume", "--run", "none"], 1, "holds no run"),
    (["train", "--device", "tpu"], 2, "device 'tpu' is not known"),
    (["train", "--threads", "0"], 2, "threads is 0"),
    (["train", "--checkpoint-minutes", "0"], 2, "time between checkpoints is 0 minutes, expected more than 0"),
    (["train", "--run", "a-file/run", "--data", "good"], 1, "cannot make the folder a-file/run"),
    (["export", "--onnx"], 1, "there is no run in"),
    (["export"], 2, "--onnx"),
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
    (["bench", "--batch", "0"], 2, "size below 1"),
    (["bench", "--model", "a-file"], 1, "cannot be used"),
    (["data", "prepare", "none", "--out", "out"], 1, "there is no folder 'none'"),
    (["data", "prepare", "good", "--out", "a-file"], 1, "cannot make the folder a-file"),
    (["none"], 2, "none"),
    (["train", "--data", ""], 1, "there is no folder ''"),
    (["train", "--set", "preset=none"], 2, "there is no setting 'preset'"),
    (
        ["train", "--data", "good", "--set", "learning_rate=1e9", "--epochs", "1", "--run", "diverged", *DIVERGE],
        1,
        "lower",
    ),
    (["export", "--onnx", "--precision", "fp8"], 2, "precision 'fp8' is not known"),
    (["export", "--onnx", "--opset", "11"], 2, "opset is 11, expected 17 to 21"),
    (["train", "--data", "x" * 5000], 1, "there is no folder 'xxx"),
    (["train", "--data", "good", "--set", "layer_sizes=1000000000"], 2, "expected sizes of 1 to 65,536"),
    (["train", "--data", "rare"], 1, "no tokens seen 3 times; .*; keep rarer ones: --set min_count=1"),
    (["evaluate", "--threads", "0"], 2, "threads is 0"),
    (["evaluate", "--provider", "cuda"], 2, "a provider runs an artifact"),
    (["evaluate", "--cache", "500"], 2, "a cache goes with an artifact"),
    (["evaluate", "--cache-theta", "1"], 2, "goes with --cache SIZE"),
    (["evaluate", "--model", "a-file", "--cache", "0"], 2, "the cache's size is 0"),
    (["export", "--sherpa", "--precision", "int8"], 2, "goes with --onnx only"),
    (["info", "--run", "none", "--graph", "a.png"], 2, "a run has no graph"),
    (["train", "--data", "good", "--set", "precision=tf32"], 2, "precision is 'tf32', which only CUDA"),
]


@pytest.fixture(scope="module")
def wrong_place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which everything is wrong."""
    folder = tmp_path_factory.mktemp("wrong")
    for name in ("empty", "one-word", "latin1", "short"):
        (folder / name).mkdir()
    write_corpus(folder / "good")
    write_corpus(folder / "short", (20, 3, 3))
    write_corpus(folder / "latin1")
    write_corpus(folder / "rare")
    (folder / "rare" / "train.txt").write_text("every word here stands once\n")
    (folder / "latin1" / "train.txt").write_bytes(b"caf\xe9\n")
    for split in ("train", "valid", "test"):
        (folder / "one-word" / f"{split}.txt").write_text("a a a\n")
    (folder / "a-file").write_text("text\n")
    return folder


@pytest.mark.parametrize(("arguments", "code", "message"), BAD, ids=lambda value: str(value)[:40])
def test_what_a_user_can_cause_gets_a_message(wrong_place: Path, arguments: list[str], code: int, message: str) -> None:
    before = sorted(path for path in wrong_place.rglob("*") if "diverged" not in path.parts)
    finished = lmtool(*arguments, cwd=wrong_place)
    assert finished.returncode == code, finished.stderr
    assert "Traceback" not in finished.stderr
    assert re.search(message, re.sub(r"[\s│]+", " ", finished.stderr)), finished.stderr
    assert finished.stdout == ""
    assert sorted(path for path in wrong_place.rglob("*") if "diverged" not in path.parts) == before


def test_options_and_input_that_fit_no_text(place: Path, tmp_path: Path) -> None:
    finished = lmtool("generate", "--seed", "-1", "the", cwd=place)
    assert finished.returncode == 2
    assert "seed is -1" in finished.stderr
    command = [sys.executable, "-m", "lmtool.cli", "score"]
    raw = subprocess.run(command, cwd=place, input=b"caf\xe9\n", capture_output=True, check=False)
    assert raw.returncode == 1
    assert b"standard input is not UTF-8 text: byte 0xe9 at offset 3" in raw.stderr
    odd = as_json("score", stdin="the\u2028cat\n\na dog", cwd=place)["scores"]
    assert [found["text"] for found in odd] == ["the\u2028cat", "", "a dog"]
    lonely = tmp_path / "lonely.onnx"
    lonely.write_bytes((place / "runs/tiny/model.onnx").read_bytes())
    finished = lmtool("evaluate", "--model", lonely)
    assert finished.returncode == 1
    assert "lies in no run folder" in finished.stderr


def test_output_that_nobody_takes_is_no_traceback(place: Path) -> None:
    for arguments in (["info"], ["generate", "the"], ["score", "--json", "the"]):
        with Path("/dev/full").open("w") as full:
            command = [sys.executable, "-m", "lmtool.cli", *arguments]
            finished = subprocess.run(command, cwd=place, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        assert finished.returncode == 1
        assert "cannot write to standard output: No space left on device" in finished.stderr
        assert "Traceback" not in finished.stderr
    piped = f"set -o pipefail; {sys.executable} -m lmtool.cli generate --max-tokens 2000 the | true"
    finished = subprocess.run(["bash", "-c", piped], cwd=place, capture_output=True, text=True, check=False)
    assert finished.returncode == 141
    assert "Traceback" not in finished.stderr


def test_verify_without_its_run_says_which_option_helps(place: Path, tmp_path: Path) -> None:
    lonely = tmp_path / "model.onnx"
    lonely.write_bytes((place / "runs/tiny/model.onnx").read_bytes())
    finished = lmtool("verify", "--model", lonely)
    assert finished.returncode == 1
    assert "no PyTorch original beside" in finished.stderr
    assert "--run DIR" in finished.stderr
    assert "passed" in done("verify", "--model", lonely, "--run", place / "runs/tiny")


def test_what_a_killed_export_left_behind_is_no_model(place: Path) -> None:
    left = place / "runs" / "tiny" / ".model.onnx.0123abcd.tmp"
    for path in (left, left.with_suffix(".onnx")):
        path.write_bytes(b"half a file")
        assert "perplexity" in done("score", "the cat", cwd=place)
        path.unlink()


def test_the_model_that_is_taken_is_named(place: Path) -> None:
    assert "model: runs/tiny/model.onnx" in lmtool("suggest", "the", cwd=place).stderr


def test_a_missing_provider_is_a_gate(place: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime carries CUDA")
    finished = lmtool("bench", "--provider", "cuda", cwd=place)
    assert finished.returncode == 3
    assert "'cuda' is not available: onnxruntime" in finished.stderr
    assert "pip install 'lmtool[gpu]'" in finished.stderr


def test_a_resumed_run_with_other_settings_is_refused(place: Path) -> None:
    finished = lmtool("train", "--resume", "--set", "dropout=0.5", cwd=place)
    assert finished.returncode == 1
    assert "dropout was 0.0, is 0.5" in finished.stderr


def file_limit(size: int) -> Any:
    """Let no file of the child process grow over `size` bytes, as on a full disk."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_full_disk_leaves_nothing_half_written(place: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    finished = lmtool("export", "--onnx", cwd=place, preexec_fn=file_limit(2000))
    assert finished.returncode == 1
    assert "cannot write" in finished.stderr
    assert "Traceback" not in finished.stderr
    after = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    changed = [path for path in after if before.get(path) != after[path]]
    assert [path for path in changed if path.name != "parity.fp32.json"] == []
    data = write_corpus(tmp_path / "data", (100, 10, 10))  # its token ids fit
    finished = lmtool(*TRAIN, "--data", data, "--run", "run", cwd=tmp_path, preexec_fn=file_limit(6000))
    assert finished.returncode == 1
    assert "latest.safetensors" in finished.stderr
    assert "Traceback" not in finished.stderr
    assert not [path for path in (tmp_path / "run").rglob("*") if ".tmp" in path.name]
    assert not Run(tmp_path / "run").latest.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_really_full_file_system_leaves_the_old_artifact(place: Path, tmp_path: Path) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(tmp_path)], check=False)
    if mounted.returncode != 0:
        pytest.skip("this machine does not let a test mount a file system")
    try:
        out = tmp_path / "model.onnx"
        done("export", "--onnx", "--out", out, cwd=place)
        good = out.read_bytes()
        free = os.statvfs(tmp_path)
        (tmp_path / "filler").write_bytes(b"0" * (free.f_bavail * free.f_bsize - 4096))
        finished = lmtool("export", "--onnx", "--out", out, "--opset", 18, cwd=place)
        assert finished.returncode == 1
        assert "No space left on device" in finished.stderr
        assert out.read_bytes() == good
        assert sorted(os.listdir(tmp_path)) == ["filler", "model.onnx", "parity.fp32.json"]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
