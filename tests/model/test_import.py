"""Weights of other programs become runs: by their names and shapes, with the numbers of the modules they come from."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lmtool.model import (
    ConfigError,
    DataError,
    Imported,
    ImportOptions,
    Run,
    RunError,
    TrainOptions,
    WeightsError,
    import_weights,
    run_training,
)
from lmtool.model.foreign.layouts import LAYOUTS
from lmtool.runtime import LmtoolError, OptionError, VocabularyError
from safetensors.torch import save_model
from support.foreign.programs import TOKENS, Program, one_module, several_modules, with_weight_dropout
from support.runs.reporters import RecordingReporter
from torch import Tensor

Weights = dict[str, Tensor]
AWD = ("encoder", "rnns", "decoder")
FASTAI = ("0.encoder", "0.rnns", "1.decoder")


def imported(tmp_path: Path, saved: Any, **options: Any) -> Imported:
    """Import what is saved, with the vocabulary of its program."""
    file, words = tmp_path / "weights.pt", tmp_path / "tokens.txt"
    torch.save(saved, file)  # noqa: TID251 (as other programs do)
    words.write_text("".join(f"{token}\n" for token in TOKENS))
    return import_weights(ImportOptions(**{"weights": file, "run": tmp_path / "run", "vocabulary": words, **options}))


def assert_same_numbers(program: Program, run: Path) -> None:
    """The run computes what the modules do, to rounding."""
    token_ids = torch.from_numpy(np.random.default_rng(1).integers(0, len(TOKENS), (3, 9)))
    network, _ = Run(run).trained()
    with torch.inference_mode():
        logits, _ = network(token_ids, network.initial_state(3))
        torch.testing.assert_close(logits, program.eval()(token_ids), atol=1e-5, rtol=0)


def weights_of(program: Program) -> Weights:
    return dict(program.state_dict())


def dropped(raw: str, keeps_copy: bool) -> Callable[[Program], Weights]:
    return lambda program: with_weight_dropout(weights_of(program), raw, keeps_copy=keeps_copy)


def fastai_with_copy(program: Program) -> Weights:
    weights = with_weight_dropout(weights_of(program), "{layer}", keeps_copy=True)
    return {"0.encoder_dp.emb.weight": weights["0.encoder.weight"].clone(), **weights}


def prefixed(prefix: str) -> Callable[[Program], Weights]:
    return lambda program: {f"{prefix}{name}": tensor for name, tensor in weights_of(program).items()}


EXAMPLES = ("encoder", "rnn", "decoder")
LM = "word_language_model"
CASES: dict[str, tuple[str, Program, Callable[[Program], Weights]]] = {
    "examples lstm": (LM, one_module("lstm", EXAMPLES), weights_of),
    "examples gru": (LM, one_module("gru", EXAMPLES), weights_of),
    "examples rnn": (LM, one_module("rnn", EXAMPLES), weights_of),
    "examples tied": (LM, one_module("lstm", EXAMPLES, 5, tied=True), weights_of),
    "awd": ("awd-lstm-lm", several_modules("lstm", AWD, (7, 3, 5), tied=True), dropped("{layer}.module", False)),
    "awd without weight dropout": ("awd-lstm-lm", several_modules("gru", AWD, (7, 5), tied=True), weights_of),
    "fastai": ("fastai", several_modules("lstm", FASTAI, (7, 5), tied=True), dropped("{layer}", False)),
    "fastai with copies": ("fastai", several_modules("lstm", FASTAI, (7, 5), tied=True), fastai_with_copy),
    "icefall": ("icefall", one_module("lstm", ("input_embedding", "rnn", "output_linear"), layers=3), weights_of),
    "several modules": ("pytorch", several_modules("lstm", ("embed", "lstms", "fc"), (7, 3)), weights_of),
    "below a prefix": (
        "pytorch",
        one_module("gru", ("lm.word_embeddings", "lm.gru", "lm.head")),
        prefixed("module.model."),
    ),
    "cells": (
        "pytorch",
        several_modules("lstm", ("embed", "cells", "fc"), (7, 3)),
        lambda program: {name.replace("_l0", ""): tensor for name, tensor in weights_of(program).items()},
    ),
    "without biases": ("pytorch", one_module("lstm", ("embedding", "lstm", "out"), bias=False), weights_of),
}


@pytest.mark.parametrize("case", CASES)
def test_a_run_computes_what_the_modules_compute(tmp_path: Path, case: str) -> None:
    layout, program, saved = CASES[case]
    settings = {"cell": "rnn"} if case.endswith("rnn") else {}
    done = imported(tmp_path, saved(program), settings=settings)
    assert done.layout == layout
    assert done.architecture.tied == case.startswith(("awd", "fastai", "examples tied"))
    assert_same_numbers(program, done.run)


def test_the_comparison_finds_planted_mistakes(tmp_path: Path) -> None:
    """The positive control: gates in another order, layers or biases exchanged."""
    program = one_module("lstm", EXAMPLES)
    weights = weights_of(program)
    faults = {
        "gates": {"rnn.weight_hh_l1": torch.cat([weights["rnn.weight_hh_l1"].chunk(4)[at] for at in (0, 2, 1, 3)])},
        "layers": {f"rnn.bias_ih_l{at}": weights[f"rnn.bias_ih_l{1 - at}"] for at in (0, 1)},
        "bias": {"decoder.bias": torch.zeros(11)},
    }
    for name, fault in faults.items():
        (folder := tmp_path / name).mkdir()
        with pytest.raises(AssertionError, match="not close"):
            assert_same_numbers(program, imported(folder, weights | fault).run)


@pytest.mark.parametrize("case", ["examples lstm", "fastai", "icefall"])
def test_the_widest_layout_reads_what_others_read(tmp_path: Path, case: str) -> None:
    """So it does not matter that two layouts fit."""
    _, program, saved = CASES[case]
    done = imported(tmp_path, saved(program), layout="pytorch")
    assert_same_numbers(program, done.run)


@pytest.mark.parametrize("tied", [False, True])
def test_safetensors_are_read_also_where_they_hold_a_tied_matrix_once(tmp_path: Path, tied: bool) -> None:
    program = one_module("lstm", EXAMPLES, 5, tied=tied)
    save_model(program, str(tmp_path / "weights.safetensors"))
    done = imported(tmp_path, {}, weights=tmp_path / "weights.safetensors")
    assert done.architecture.tied == tied
    assert_same_numbers(program, done.run)


def test_checkpoints_of_other_programs_hold_more_than_weights(tmp_path: Path) -> None:
    program = one_module("lstm", EXAMPLES)
    state = {index: {"exp_avg": parameter} for index, parameter in enumerate(program.parameters())}
    checkpoint = {"epoch": 3, "model": program.state_dict(), "optimizer": {"state": state, "param_groups": [{"lr": 1}]}}
    assert_same_numbers(program, imported(tmp_path, checkpoint).run)


def test_half_precision_is_read(tmp_path: Path) -> None:
    weights = {name: tensor.to(torch.bfloat16) for name, tensor in weights_of(one_module("gru", EXAMPLES)).items()}
    network, _ = Run(imported(tmp_path, weights).run).trained()
    assert network.embedding.weight.dtype == torch.float32
    assert network.embedding.weight.equal(weights["encoder.weight"].float())


def test_modules_with_unknown_names_are_named(tmp_path: Path) -> None:
    program = several_modules("lstm", ("words", "net", "last"), (5, 5))
    weights = weights_of(program)
    weights = {name.replace("net.0", "upper").replace("net.1", "lower"): tensor for name, tensor in weights.items()}
    with pytest.raises(WeightsError, match="order of the layers is not known.*--module layers=lower,upper"):
        imported(tmp_path, weights)
    names = {"layers": "upper,lower"}
    with pytest.raises(WeightsError, match=r"no place for words.weight.*--module proj(?s:.*)upper.weight_ih_l0"):
        imported(tmp_path, weights, modules=names)
    done = imported(tmp_path, weights, modules={**names, "embedding": "words", "projection": "last"})
    assert_same_numbers(program, done.run)
    with pytest.raises(OptionError, match="no module 'none' for projection; modules: last"):
        imported(tmp_path, weights, modules={"projection": "none"})
    with pytest.raises(OptionError, match="'head' is no part of a network, expected one of embedding, layers, proj"):
        imported(tmp_path, weights, modules={"head": "last"})


def replaced(**tensors: Tensor | None) -> Callable[[Weights], Weights]:
    """The weights with these tensors instead; None removes one. `__` stands for a dot."""

    def change(weights: Weights) -> Weights:
        new = {name.replace("__", "."): tensor for name, tensor in tensors.items()}
        return {name: tensor for name, tensor in {**weights, **new}.items() if tensor is not None}

    return change


REFUSED: dict[str, tuple[Callable[[Weights], Weights], str]] = {
    "missing": (replaced(rnn__weight_ih_l1=None), "layer 1 of rnn lacks weight_ih"),
    "missing bias": (replaced(rnn__bias_hh_l0=None), "layer 0 of rnn lacks bias_hh"),
    "no projection": (replaced(decoder__weight=None, decoder__bias=None), "the projection is missing"),
    "foreign": (
        replaced(attention__weight=torch.ones(7, 7)),
        r"no place for attention.weight(?s:.*)weight \[7, 7\]",
    ),
    "two": (replaced(embed__weight=torch.ones(11, 5)), "encoder.weight, embed.weight may each be the embedding"),
    "bidirectional": (replaced(rnn__weight_ih_l0_reverse=torch.ones(28, 5)), "bidirectional: it reads the text's end"),
    "proj_size": (replaced(rnn__weight_hr_l0=torch.ones(3, 7)), r"weight_hr_l0' \[3, 7\]: its LSTM has a projection"),
    "shape": (replaced(decoder__weight=torch.ones(11, 6)), r"the projection is \[11, 6\], expected \[11, 7\]"),
    "layer": (
        replaced(rnn__weight_ih_l1=torch.ones(28, 6)),
        r"input weight of layer 2 is \[28, 6\], expected \[28",
    ),
    "gates": (
        replaced(rnn__weight_hh_l0=torch.ones(35, 7)),
        r"\[35, 7\], \[28, 7\], expected 4 \(lstm\), 3 ",
    ),
    "rank": (replaced(encoder__weight=torch.ones(11, 5, 1)), r"the embedding is \[11, 5, 1\], expected a matrix"),
    "numbers": (
        replaced(decoder__bias=torch.full((11,), torch.nan)),
        "'decoder.bias' holds numbers that are not fi",
    ),
    "integers": (
        replaced(decoder__bias=torch.ones(11, dtype=torch.int64)),
        "'decoder.bias' is torch.int64, expect",
    ),
    "vocabulary": (replaced(encoder__weight=torch.ones(10, 5)), r"the projection is \[11, 7\], expected \[10, 7\]"),
    "no layers": (lambda _: {"fc.weight": torch.ones(3, 3)}, r"no recurrent layer(?s:.*)fc.weight \[3, 3\]"),
    "nothing": (lambda _: {}, "no named tensors, expected a state_dict"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_networks_are_refused_by_name(tmp_path: Path, case: str) -> None:
    change, message = REFUSED[case]
    with pytest.raises(WeightsError, match=message):
        imported(tmp_path, change(weights_of(one_module("lstm", EXAMPLES))))
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_layout_that_does_not_fit_says_why(tmp_path: Path) -> None:
    weights = weights_of(one_module("lstm", EXAMPLES))
    with pytest.raises(WeightsError, match="fits no layout of icefall; icefall: it has no place for encoder.weight"):
        imported(tmp_path, weights, layout="icefall")
    for name in ("theano", "keras"):
        with pytest.raises(OptionError):
            imported(tmp_path, weights, layout=name)


def test_of_two_networks_in_a_file_none_is_taken(tmp_path: Path) -> None:
    weights = weights_of(one_module("lstm", EXAMPLES))
    with pytest.raises(WeightsError, match=r"2 networks, model, model_avg; save one of them: torch.save\("):
        imported(tmp_path, {"model": weights, "model_avg": weights})


def test_an_rnn_of_one_gate_needs_the_word_of_the_user(tmp_path: Path) -> None:
    """tanh and relu have the same weights."""
    with pytest.raises(WeightsError, match="tanh or of relu, which weights do not tell; if it is tanh.*--set cell=rnn"):
        imported(tmp_path, weights_of(one_module("rnn", EXAMPLES)))


def test_a_pickled_module_is_refused_with_the_two_lines_that_convert_it(tmp_path: Path) -> None:
    program = one_module("lstm", EXAMPLES, 5, tied=True)
    pickled = tmp_path / "model.pt"
    torch.save([program, "optimizer"], pickled)  # noqa: TID251 (as other programs do)
    with pytest.raises(WeightsError, match=r"the object .*Program, not only tensors, and reading it") as caught:
        imported(tmp_path, {}, weights=pickled)
    lines = [line.strip() for line in str(caught.value).splitlines()[1:]]
    assert len(lines) == 2
    environment = {"PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=tmp_path, env=environment, check=True)
    assert_same_numbers(program, imported(tmp_path, {}, weights=tmp_path / "weights.safetensors").run)


@pytest.mark.parametrize(
    "data", [b"", b"\x80\x02.", b"no weights at all", b"PK\x03\x04" + b"\0" * 60, b'\x08\0\0\0\0\0\0\0{"a":{}}']
)
def test_files_of_other_kinds_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(WeightsError, match="no file of weights|no safetensors file|no named"):
        imported(tmp_path, {}, weights=tmp_path / "file")


def test_a_file_that_no_artifact_can_hold_is_refused_before_it_is_read(tmp_path: Path) -> None:
    rows, path = 2**27, tmp_path / "large.safetensors"
    shapes = {
        "encoder.weight": [rows, 5],
        "rnn.weight_ih_l0": [28, 5],
        "rnn.weight_hh_l0": [28, 7],
        "decoder.bias": [rows],
    }
    end, header = 0, {}
    for name, shape in shapes.items():
        start, end = end, end + 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    data = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(data).to_bytes(8, "little") + data)
        file.truncate(8 + len(data) + end)  # sparse
    with pytest.raises(WeightsError, match="bytes in float32, one ONNX file holds at most 2,130,706,432"):
        imported(tmp_path, {}, weights=path)


def test_an_imported_run_has_no_corpus_and_can_be_tuned(tmp_path: Path, corpus_folder: Path) -> None:
    program = one_module("gru", EXAMPLES, layers=1)
    done = imported(tmp_path, weights_of(program), settings={"learning_rate": "0.01", "tokenization": "whitespace"})
    run = Run(done.run)
    assert run.imported() is not None
    assert run.training_facts(run.trained()[1])["imported_layout"] == LM
    assert "imported" in run.summary().format()
    with pytest.raises(DataError, match="was imported, so its corpus is not known; name .* train --init"):
        run.corpus()
    with pytest.raises(DataError, match="was imported, so its corpus is not known"):
        run_training(TrainOptions(run=run.path, resume=True), RecordingReporter())
    with pytest.raises(RunError, match="holds a run already"):
        imported(tmp_path, weights_of(program))
    options = TrainOptions(
        init=run.path, data=str(corpus_folder), run=tmp_path / "tuned", settings={"epochs": "1"}, threads=1
    )
    tuned = run_training(options, RecordingReporter())
    origin = Run(tuned.run).origin()
    assert origin is not None
    assert origin["imported_file"] == "weights.pt"
    config = Run(tuned.run).config()
    assert (config.learning_rate, config.dropout, config.batch_size) == (0.01, 0.6, 16)
    facts = Run(tuned.run).training_facts(Run(tuned.run).trained()[1])
    assert facts["origin_imported_sha256"] == origin["imported_sha256"]


def test_the_learning_rate_of_an_imported_run_adapts_to_the_new_text(tmp_path: Path, corpus_folder: Path) -> None:
    done = imported(
        tmp_path, weights_of(one_module("gru", EXAMPLES, layers=1)), settings={"tokenization": "whitespace"}
    )
    reporter = RecordingReporter()
    options = TrainOptions(
        init=done.run, data=str(corpus_folder), run=tmp_path / "tuned", settings={"epochs": "1"}, threads=1
    )
    run_training(options, reporter)
    assert "learning_rate=0.01 (another value: " in reporter.notes[-1]


def test_settings_that_the_weights_decide_are_refused(tmp_path: Path) -> None:
    weights = weights_of(one_module("lstm", EXAMPLES))
    with pytest.raises(ConfigError, match="cell is gru, but the weights and the vocabulary of the file have lstm"):
        imported(tmp_path, weights, settings={"cell": "gru"})


VOCABULARIES: dict[str, tuple[str, str, dict[str, Any], type[LmtoolError], str]] = {
    "short": ("v.txt", "<eos>\n<unk>\nthe\n", {}, VocabularyError, "v.txt has 3 tokens, the network 11 rows"),
    "twice": ("v.txt", "<eos>\n<unk>\nthe\nthe\n", {}, VocabularyError, "holds 'the' twice"),
    "no unknown": ("v.txt", "<eos>\nthe\n", {}, OptionError, "which of the 2 tokens is the unknown.*--unknown TOKEN"),
    "two ends": ("v.txt", "<eos>\n</s>\n<unk>\n", {}, OptionError, "found '<eos>' and '</s>'; name it: --end-of-sent"),
    "not there": ("v.txt", "<eos>\n<unk>\n", {"unknown": "[UNK]"}, OptionError, r"--unknown '\[UNK\]' is no token"),
    "ids": (
        "v.json",
        '{"<eos>": 0, "<unk>": 2}',
        {},
        VocabularyError,
        "2 tokens, expected each id from 0 to 1 once",
    ),
    "kind": (
        "v.json",
        '"text"',
        {},
        VocabularyError,
        "expected a list of tokens, or an object of",
    ),
    "json": ("v.json", "{", {}, VocabularyError, "is not JSON"),
    "merges": ("v.txt", "<eos>\n<unk>\n", {"settings": {"tokenization": "bpe"}}, VocabularyError, "is not JSON"),
}


@pytest.mark.parametrize("case", VOCABULARIES)
def test_vocabularies_that_do_not_fit_are_refused(tmp_path: Path, case: str) -> None:
    name, text, options, error, message = VOCABULARIES[case]
    (tmp_path / name).write_text(text)
    with pytest.raises(error, match=message):
        imported(tmp_path, weights_of(one_module("lstm", EXAMPLES)), vocabulary=tmp_path / name, **options)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("v.txt", "\r\n".join(TOKENS)),
        ("tokens.txt", "".join(f"{token} {index}\n" for index, token in reversed(list(enumerate(TOKENS))))),
        ("v.json", json.dumps(TOKENS)),
        ("word_index.json", json.dumps({token: index for index, token in enumerate(TOKENS)})),
    ],
)
def test_a_vocabulary_has_one_of_four_forms(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    done = imported(tmp_path, weights_of(one_module("lstm", EXAMPLES)), vocabulary=tmp_path / name)
    assert done.vocabulary.tokens == TOKENS
    assert done.vocabulary.tokenization.specials == ("<eos>", "<unk>")
    assert done.notes[0].startswith("tokenization whitespace: text must be split as in the training")


def test_a_vocabulary_of_characters_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "characters.json"
    path.write_text(json.dumps(["\n", " ", *"abcdefghi"]))
    done = imported(tmp_path, weights_of(one_module("lstm", EXAMPLES)), vocabulary=path, unknown=" ")
    assert done.vocabulary.tokenization.rule == "characters"
    assert done.vocabulary.encode("a b?\n") == [2, 1, 3, 1, 0]


def test_without_a_vocabulary_tokens_are_numbers(tmp_path: Path) -> None:
    done = imported(tmp_path, weights_of(one_module("lstm", EXAMPLES)), vocabulary=None)
    assert done.vocabulary.encode("3 10") == [3, 10]
    assert "text needs --vocabulary FILE" in done.notes[0]


def test_every_layout_has_a_case() -> None:
    assert {layout.name for layout in LAYOUTS} == {layout for layout, *_ in CASES.values()}
