"""Every command on the command line: results, JSON and progress."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from lmtool import __version__
from lmtool.runtime import CacheOptions, Predictor
from support.corpora import write_corpus
from support.models.subwords import text_artifact
from support.processes.commands import TRAIN, json_output_of, lmtool, output_of, run_fresh


def test_help_is_instant_and_names_every_command() -> None:
    text = output_of("--help")
    for command in [
        "train",
        "import",
        "evaluate",
        "export",
        "verify",
        "doctor",
        "info",
        "embeddings",
        "generate",
        "suggest",
        "score",
        "rescore",
        "serve",
        "bench",
        "data",
        "demo",
        "presets",
        "settings",
    ]:
        assert command in text
    assert text == output_of("-h")
    served = output_of("serve", "-h")
    assert served.index("--never ") < served.index("--never-file ")
    for command in (["train"], ["serve"], ["data"], ["data", "list"]):
        assert output_of(*command, "-h") == output_of(*command, "--help")
    assert output_of("--version") == output_of("-V") == f"lmtool {__version__}\n"


def test_the_version_needs_no_installation(tmp_path: Path) -> None:
    """The package as a folder on PYTHONPATH, with another number than that of the installed one."""
    folder, root = tmp_path / "lmtool", Path(__file__).parents[2]
    folder.mkdir()
    text = (root / "package" / "__init__.py").read_text()
    (folder / "__init__.py").write_text(text.replace(f'__version__ = "{__version__}"', '__version__ = "9.8.7"'))
    for room in ("cli", "model", "export", "runtime", "serve", "bench"):
        (folder / room).symlink_to(root / room)
    finished = run_fresh("--version", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert (finished.stdout, finished.stderr) == ("lmtool 9.8.7\n", "")


def test_train_export_and_use_in_an_empty_folder(tmp_path: Path) -> None:
    data = write_corpus(tmp_path / "data")
    trained = json_output_of(*TRAIN, "--data", data, "--epochs", 1, "--seed", 3, cwd=tmp_path)
    assert trained["epoch"] == 1
    assert trained["test_perplexity"] < trained["unigram_perplexity"]
    assert Path(trained["run"]).parent == Path("runs")
    exported = json_output_of("export", cwd=tmp_path)
    assert exported["path"] == f"{trained['run']}/model.onnx"
    assert exported["parity"]["passed"] is True
    assert json_output_of("info", cwd=tmp_path)["training"]["seed"] == 3
    own = json_output_of("evaluate", cwd=tmp_path)["perplexity"]
    artifact = json_output_of("evaluate", "--model", exported["path"], cwd=tmp_path)["perplexity"]
    assert own == pytest.approx(trained["test_perplexity"], rel=1e-5)
    assert artifact == pytest.approx(own, rel=1e-5)
    assert "perplexity" in output_of("evaluate", "--data", data, "--split", "valid", cwd=tmp_path)


def test_an_export_that_is_older_than_its_run_is_pointed_out(project: Path, tmp_path: Path) -> None:
    shutil.copytree(project, tmp_path, dirs_exist_ok=True)
    older = "runs/tiny/model.onnx is older than the weights of its run; export again: lmtool export --run runs/tiny\n"
    trained = lmtool("train", "--resume", "--epochs", 5, "--threads", 1, cwd=tmp_path)
    assert older in trained.stderr
    assert f"{older[:-1]} --precision int8\n".replace("model.onnx", "model.int8.onnx") in trained.stderr
    assert f"warning: {older}" in lmtool("suggest", "the", cwd=tmp_path).stderr


def test_progress_is_on_stderr_and_the_result_on_stdout(tmp_path: Path) -> None:
    finished = lmtool(*TRAIN, "--data", write_corpus(tmp_path / "data"), "--epochs", 1, cwd=tmp_path)
    assert finished.returncode == 0
    assert "tokens/s" in finished.stderr
    assert "valid perplexity" in finished.stderr
    assert finished.stdout.count("\n") == 1
    assert "perplexity" in finished.stdout


def test_a_perplexity_that_rises_is_pointed_out(tmp_path: Path) -> None:
    data = write_corpus(tmp_path / "data")
    (data / "train.txt").write_text("the cat saw the fish\na dog sold a house\n" * 100)
    finished = lmtool(*TRAIN, "--data", data, "--epochs", 8, cwd=tmp_path)
    best = finished.stdout.partition("best epoch ")[2].partition(",")[0]
    assert int(best) < 8
    assert (
        f"the perplexity on valid rose after epoch {best}, whose weights are kept; where that of train fell,"
        in finished.stderr
    )


def test_verify_passes_and_fails(project: Path, tmp_path: Path, corpus_folder: Path) -> None:
    assert "parity of fp32 on cpu: passed" in output_of("verify", cwd=project)
    output_of(*TRAIN, "--data", corpus_folder, "--run", "other", "--seed", 9, "--epochs", 1, cwd=tmp_path)
    finished = lmtool("verify", "--model", project / "runs/tiny/model.onnx", "--run", "other", "--json", cwd=tmp_path)
    assert finished.returncode == 3
    assert json.loads(finished.stdout)["passed"] is False


def test_info_shows_layers_and_parameters(project: Path) -> None:
    summary = json_output_of("info", cwd=project)
    size = summary["vocabulary"]["size"]
    rows = {row["name"]: row["parameters"] for row in summary["layers"]}
    assert rows == {
        "embedding": size * 5,
        "lstm 0": 4 * 7 * (5 + 7 + 1),
        "lstm 1": 4 * 3 * (7 + 3 + 1),
        "projection": 3 * size + size,
    }
    assert [row["type"] for row in summary["layers"]] == ["Embedding", "LSTM", "LSTM", "Linear"]
    assert [row["shape"] for row in summary["layers"]] == [f"[batch, time, {width}]" for width in (5, 7, 3, size)]
    assert summary["parameters"] == {"total": sum(rows.values()), "trainable": sum(rows.values())}
    text = output_of("info", "--run", "runs/tiny", cwd=project)
    table = [" ".join(line.split()) for line in text.splitlines()[2:]]
    assert table[0] == "layer type output shape parameters"
    assert table[2] == "lstm 0 LSTM [batch, time, 7] 364"
    assert f"total parameters {sum(rows.values()):,}" in table
    assert f"trainable parameters {sum(rows.values()):,}" in table
    assert "cell_0 [batch, 7]" in text
    for shown in (text, output_of("info", cwd=project)):
        assert not re.search(r"[{}]|\d{5}\.\d|\d\.\d{7}|True|False|None", shown)


def test_export_writes_a_card_and_folders_and_info_a_picture(project: Path, tmp_path: Path) -> None:
    out, repository, hub = tmp_path / "model.onnx", tmp_path / "repository", tmp_path / "hub"
    arguments = ["--precision", "int8", "--out", out, "--triton", repository, "--card", "--hub", hub]
    result = json_output_of("export", "--onnx", *arguments, cwd=project)
    assert result["triton"] == str(repository / "lmtool")
    assert (result["card"], result["hub"]) == (str(tmp_path / "README.md"), str(hub))
    assert (hub / "onnx" / "model_int8.onnx").read_bytes() == out.read_bytes()
    assert (repository / "lmtool" / "1" / "model.onnx").read_bytes() == out.read_bytes()
    output_of("info", "--model", out, "--graph", tmp_path / "graph.PNG")
    assert (tmp_path / "graph.PNG").read_bytes().startswith(b"\x89PNG")
    finished = lmtool("export", "--sherpa", cwd=project)
    assert finished.returncode == 1
    assert "LSTM layers of one size" in finished.stderr


def test_embeddings_draws_a_map_or_lists_near_words(project: Path, tmp_path: Path) -> None:
    drawn = json_output_of("embeddings", "--words", 12, cwd=project)
    assert drawn == {"run": "runs/tiny", "path": "runs/tiny/embeddings.png", "words": 12}
    assert (project / drawn["path"]).read_bytes().startswith(b"\x89PNG")
    out = tmp_path / "map.png"
    assert output_of("embeddings", "--words", 12, "--out", out, cwd=project) == f"{out}: 12 words\n"
    assert out.read_bytes() == (project / drawn["path"]).read_bytes()
    assert lmtool("embeddings", "--words", 2, cwd=project).returncode == 2
    near = json_output_of("embeddings", "--near", "cat", "--near", "the", "--count", 3, cwd=project)["near"]
    assert {word: len(neighbours) for word, neighbours in near.items()} == {"cat": 3, "the": 3}
    text = output_of("embeddings", "--near", "cat", "--count", 3, cwd=project)
    first, *others = text.splitlines()
    assert first == "'cat'"
    assert [line.split() for line in others] == [
        [f"{neighbour['similarity']:.3f}", repr(neighbour["word"])] for neighbour in near["cat"]
    ]
    finished = lmtool("embeddings", "--near", "the", "--near", "marcet", cwd=project)
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert "'marcet' is not among" in finished.stderr
    assert "nearest spellings: 'market'" in finished.stderr


def test_generate_continues_the_prompt(project: Path) -> None:
    text = output_of("generate", "--seed", 4, "--max-tokens", 12, "the", "cat", cwd=project)
    assert text == output_of("generate", "--seed", 4, "--max-tokens", 12, stdin="the cat\n", cwd=project)
    result = json_output_of("generate", "--seed", 4, "--max-tokens", 12, "the cat", cwd=project)
    assert text == result["prompt"] + result["text"] + "\n"
    stream = Predictor.load(project / "runs/tiny/model.onnx").stream()
    stream.feed("the cat")
    assert result["text"] == "".join(stream.generate(12, temperature=0.8, seed=4))


def test_generate_writes_many_texts_in_order(project: Path) -> None:
    arguments = ["generate", "the cat ", "--seed", 4, "--max-tokens", 3, "--stop", "saw"]
    lines = output_of(*arguments, "--count", 140, "--json", cwd=project).splitlines()
    predictor = Predictor.load(project / "runs/tiny/model.onnx")
    assert len(lines) == 140
    for number in (0, 1, 139):
        stream = predictor.stream()
        stream.feed("the cat ")
        seed = [4, number] if number else 4
        text = "".join(stream.generate(3, temperature=0.8, seed=seed, stop=["saw"]))
        assert json.loads(lines[number]) == {"prompt": "the cat ", "text": text}
    one, two = (output_of(*arguments, *count, cwd=project) for count in ([], ["--count", 2]))
    second = json.loads(lines[1])
    assert two == f"{one}---\n{second['prompt']}{second['text']}\n"
    finished = lmtool("generate", "--count", 0, cwd=project)
    assert finished.returncode == 2
    assert "--count" in finished.stderr


def test_generate_writes_many_texts_one_by_one_where_batches_change_numbers(
    project: Path, dynamic_int8_path: Path
) -> None:
    arguments = ["--model", dynamic_int8_path, "--seed", 4, "--max-tokens", 5, "--count", 3, "--json"]
    stream = Predictor.load(dynamic_int8_path).stream()
    stream.feed("the cat ")
    texts = ["".join(stream.fork().generate(5, temperature=0.8, seed=seed)) for seed in (4, [4, 1], [4, 2])]
    lines = output_of("generate", "the cat ", *arguments, cwd=project).splitlines()
    assert [json.loads(line)["text"] for line in lines] == texts


def test_suggest(project: Path) -> None:
    predictor = Predictor.load(project / "runs/tiny/model.onnx")
    stream = predictor.stream()
    stream.feed("the cat")
    expected = [{"token": word, "probability": probability} for word, probability in stream.suggest(3)]
    assert json_output_of("suggest", "the cat", "-k", 3, cwd=project)["suggestions"] == expected
    assert output_of("suggest", "the cat", cwd=project).count("%") == 5
    assert json_output_of("suggest", "the cat", "-k", 3, "--run", "runs/tiny", cwd=project)["suggestions"] == expected


def test_a_word_that_looks_unfinished_is_pointed_out(project: Path, tmp_path: Path) -> None:
    for text in ("the mar", "mar", "the market", "the mar ", "a"):
        finished = lmtool("suggest", text, cwd=project)
        assert ("hint: 'mar' is taken as a whole word; to complete it" in finished.stderr) == text.endswith("mar")
    (tmp_path / "bpe.onnx").write_bytes(text_artifact("The market opens. The market sells.\n" * 9))
    predictor = Predictor.load(tmp_path / "bpe.onnx")
    for text in ("The marke", "The  marke", "The market", "The"):
        finished = lmtool("suggest", text, "--model", tmp_path / "bpe.onnx", "--json")
        assert ("give it as --prefix: market" in finished.stderr) == text.endswith("marke")
        stream = predictor.stream()
        stream.feed(text)
        assert [entry["token"] for entry in json.loads(finished.stdout)["suggestions"]] == [
            word for word, _ in stream.suggest(5)
        ]


def test_an_artifact_is_evaluated_with_a_cache(project: Path, corpus_folder: Path) -> None:
    arguments = ["evaluate", "--model", "runs/tiny/model.onnx", "--data", corpus_folder, "--split", "valid"]
    plain = json_output_of(*arguments, cwd=project)
    cached = json_output_of(*arguments, "--cache", 30, "--cache-theta", 0.5, "--cache-weight", 0.2, cwd=project)
    options = CacheOptions(size=30, theta=0.5, weight=0.2)
    predictor = Predictor.load(project / "runs/tiny/model.onnx")
    ids = np.array(predictor.vocabulary.encode((corpus_folder / "valid.txt").read_text()))
    assert cached["perplexity"] == predictor.perplexity(ids, cache=options)
    assert cached["perplexity"] != plain["perplexity"]
    assert (cached["cache"], plain["cache"]) == ({"size": 30, "theta": 0.5, "weight": 0.2}, None)
    assert "cache of 30 (theta 0.4, weight 0.15)" in output_of(*arguments, "--cache", 30, cwd=project)


def test_completion_of_a_word_and_stop_words(project: Path) -> None:
    stream = Predictor.load(project / "runs/tiny/model.onnx").stream()
    stream.feed("the cat")
    expected = [{"token": word, "probability": probability} for word, probability in stream.suggest(5, prefix="s")]
    assert json_output_of("suggest", "the cat", "--prefix", "s", cwd=project)["suggestions"] == expected
    assert output_of("suggest", "the cat", "--prefix", "zz", cwd=project) == ""
    arguments = ["generate", "the cat", "--seed", 4, "--stop", "the", "--stop", "<eos>", "--repetition-penalty", 1.5]
    pieces = stream.generate(50, temperature=0.8, seed=4, stop=["the", "<eos>"], repetition_penalty=1.5)
    assert json_output_of(*arguments, cwd=project)["text"] == "".join(pieces)
    finished = lmtool("generate", "the cat", "--stop", "zebra", cwd=project)
    assert finished.returncode == 2
    assert "stop holds 'zebra'" in finished.stderr


def test_words_that_never_appear_and_prompts_that_end_in_a_space(project: Path) -> None:
    (project / "never.txt").write_text("THE\nSaw zebra\r\n")
    never = ["--never", "Cat", "--never-file", "never.txt"]
    shown = json_output_of("suggest", "the", "-k", 99, *never, cwd=project)["suggestions"]
    assert {entry["token"] for entry in shown} & {"the", "saw", "cat", "<eos>", "<unk>"} == set()
    written = json_output_of("generate", "a dog ", "--seed", 1, "--max-tokens", 40, *never, cwd=project)
    assert not {*written["text"].split()} & {"the", "saw", "cat"}
    assert written["text"][0] != " "
    returned = output_of("generate", "--seed", 1, stdin="a dog\r\n", cwd=project)
    assert returned == output_of("generate", "--seed", 1, stdin="a dog\n", cwd=project)
    finished = lmtool("suggest", "the", "--never", "two words", cwd=project)
    assert finished.returncode == 2
    assert "'two words' is not a word" in finished.stderr


def test_data_is_listed_and_prepared(tmp_path: Path) -> None:
    assert "pydocs" in json_output_of("data", "list")["corpora"]
    data = write_corpus(tmp_path / "data")
    assert set(json_output_of("data", "prepare", data, "--out", tmp_path / "out")["bytes"]) == {
        "train",
        "valid",
        "test",
    }
    assert (tmp_path / "out" / "test.txt").read_text() == (data / "test.txt").read_text()


def test_the_default_model_is_named_on_stderr(project: Path) -> None:
    assert "model: runs/tiny/model.onnx" in lmtool("suggest", "the", cwd=project).stderr
