"""Other exports: Triton repository, sherpa-onnx names, graph picture."""

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from lmtool.export import (
    ExportError,
    ParityError,
    SherpaExport,
    draw_graph,
    export_sherpa,
    exporter,
    triton_config,
    write_triton_repository,
)
from lmtool.export.formats.recognizer_tokens import ids_of, read_recognizer_tokens, recognizer_tokens, tokens_text
from lmtool.export.formats.sherpa import build_sherpa_model
from lmtool.model import LanguageModel, Run, TrainOptions, run_training
from lmtool.runtime import ArtifactError, OptionError, Predictor, Tokenization, Vocabulary
from lmtool.runtime.text.byte_alphabet import bytes_of, token_of
from support.models.networks import artifact_of, network_of, random_inputs, run_model
from support.models.subwords import WRITING_MERGES, bpe_vocabulary
from support.models.transducer import recognize, write_transducer
from support.runs.reporters import RecordingReporter
from support.runs.settings import SETTINGS


def test_a_triton_repository_keeps_every_state_by_name(run: Run, tmp_path: Path) -> None:
    path = write_triton_repository(run.artifact("fp32"), tmp_path, "tiny")
    assert (path / "1" / "model.onnx").read_bytes() == run.artifact("fp32").read_bytes()
    text = (path / "config.pbtxt").read_text()
    for name, width in (("cell_0", 7), ("cell_1", 3), ("hidden_0", 7), ("hidden_1", 3)):
        assert f'input_name: "{name}"' in text
        assert f'output_name: "next_{name}"' in text
        assert f'initial_state {{ name: "zeros" data_type: TYPE_FP32 dims: [ {width} ] zero_data: true }}' in text
    with pytest.raises(OptionError, match="name is 'a/b', expected a file name"):
        write_triton_repository(run.artifact("fp32"), tmp_path, "a/b")


def test_the_triton_configuration_is_what_the_server_publishes(predictor: Predictor) -> None:
    config = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="tritonclient[grpc] is not installed")
    from google.protobuf import text_format

    parsed = text_format.Parse(triton_config(predictor.artifact, "tiny"), config.ModelConfig())
    assert [(state.input_name, list(state.dims)) for state in parsed.sequence_batching.state] == [
        (name, [width]) for name, width in predictor.artifact.architecture.states.items()
    ]
    assert all(state.initial_state[0].zero_data for state in parsed.sequence_batching.state)
    assert list(parsed.output[0].dims) == [-1, len(predictor.vocabulary)]


def test_sherpa_names_take_stacked_states_and_give_log_probabilities() -> None:
    network = network_of((6, 6))
    vocabulary = Vocabulary(["<eos>", "<unk>", *"abcdefghi"], Tokenization())
    model = build_sherpa_model(network, vocabulary, 17)
    assert [value.name for value in model.graph.input] == ["x", "h0", "c0"]
    assert [value.name for value in model.graph.output] == ["log_softmax", "next_h0", "next_c0"]
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert (metadata["num_layers"], metadata["hidden_size"], metadata["sos_id"]) == ("2", "6", "0")
    tokens, state, feeds = random_inputs(network, 3, 4)
    stacked = {name: np.stack([feeds[f"{ours}_{layer}"] for layer in (0, 1)]) for name, ours in SHERPA_STATES.items()}
    scores, hidden, cell = run_model(model, tokens, {"x": tokens, **stacked})
    with torch.inference_mode():
        expected, after = network(torch.from_numpy(tokens), state)
    np.testing.assert_allclose(scores, expected[:, -1].log_softmax(1).numpy(), atol=1e-5)
    np.testing.assert_allclose(hidden, torch.stack([layer[0] for layer in after]).numpy(), atol=1e-5)
    np.testing.assert_allclose(cell, torch.stack([layer[1] for layer in after]).numpy(), atol=1e-5)
    for sizes, kind in (((7, 3), "lstm"), ((6, 6), "gru")):
        with pytest.raises(ExportError, match="stacks the states of LSTM layers of one size"):
            build_sherpa_model(network_of(sizes, cell=kind), vocabulary, 17)


SHERPA_STATES = {"h0": "hidden", "c0": "cell"}


RECOGNIZED = ["<blk>", "a", "<eos>", *"bcdefgh", "<unk>"]
SAME = Vocabulary(RECOGNIZED, Tokenization())
missing = pytest.mark.skipif(find_spec("sherpa_onnx") is None, reason="sherpa-onnx is not installed")


def recognizing(test: Callable[..., None]) -> Callable[..., None]:
    return pytest.mark.portability(missing(test))


def write_language_model(model: onnx.ModelProto, folder: Path, without: str = "") -> Path:
    """Write the export to a file, without one entry of its metadata."""
    entries = {entry.key: entry.value for entry in model.metadata_props if entry.key != without}
    onnx.helper.set_model_props(model, entries)
    onnx.save(model, folder / "lm.onnx")
    return folder / "lm.onnx"


def recognized(
    model: onnx.ModelProto, folder: Path, scales: list[float], symbols: list[str] = RECOGNIZED
) -> list[dict[str, Any]]:
    """Decode noise in sherpa-onnx with the export as language model, at each scale."""
    path = write_language_model(model, write_transducer(folder, symbols))
    finished = recognize(folder, path, scales)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


def log_probabilities(network: LanguageModel, vocabulary: Vocabulary, tokens: list[str]) -> np.ndarray:
    """Log-probability of each token given those before it; the first follows an end of sentence."""
    ids = [vocabulary.id(token) for token in tokens]
    with torch.inference_mode():
        logits, _ = network(torch.tensor([[vocabulary.end_of_sentence_id, *ids[:-1]]]), network.initial_state(1))
    return logits[0].log_softmax(1)[range(len(ids)), ids].numpy()


@recognizing
def test_sherpa_onnx_reads_the_same_log_probabilities_from_the_export(tmp_path: Path) -> None:
    network = network_of((6, 6))
    [decoded] = recognized(build_sherpa_model(network, SAME, 17), tmp_path, [0.5])
    assert len(set(decoded["tokens"])) > 2
    np.testing.assert_allclose(decoded["lm_probs"], log_probabilities(network, SAME, decoded["tokens"]), atol=1e-5)


@recognizing
def test_sherpa_onnx_reads_them_from_an_export_for_its_own_token_ids(tmp_path: Path) -> None:
    vocabulary = Vocabulary(["h", "<unk>", "d", "a", "elsewhere", "<eos>", "b", "c"], Tokenization())
    network = network_of((6, 6), vocabulary=len(vocabulary))
    [decoded] = recognized(build_sherpa_model(network, vocabulary, 17, ids_of(RECOGNIZED, vocabulary)), tmp_path, [0.5])
    assert {token in vocabulary for token in decoded["tokens"]} == {True, False}
    expected = log_probabilities(network, vocabulary, decoded["tokens"])
    np.testing.assert_allclose(decoded["lm_probs"], expected, atol=1e-5)


@recognizing
def test_sherpa_onnx_reads_the_tokens_and_the_text_of_parts_of_words(tmp_path: Path) -> None:
    vocabulary = bpe_vocabulary(WRITING_MERGES)
    network = network_of((6, 6), vocabulary=len(vocabulary))
    symbols = recognizer_tokens(vocabulary)
    model = build_sherpa_model(network, vocabulary, 17, ids_of(symbols, vocabulary))
    [decoded] = recognized(model, tmp_path, [1], symbols)
    assert (tmp_path / "tokens.txt").read_text(encoding="utf-8") == tokens_text(symbols)
    tokens = [vocabulary.tokens[symbols.index(symbol) - 1] for symbol in decoded["tokens"]]
    assert len(set(tokens)) > 2
    assert decoded["text"] == vocabulary.tokenization.join(tokens)
    np.testing.assert_allclose(decoded["lm_probs"], log_probabilities(network, vocabulary, tokens), atol=1e-5)


@recognizing
def test_the_export_decides_what_sherpa_onnx_recognizes(tmp_path: Path) -> None:
    network = network_of((6, 6))
    with torch.no_grad():
        network.projection.bias[SAME.id("d")] += 8
    model = build_sherpa_model(network, SAME, 17)
    unheard, decided = (decoded["tokens"] for decoded in recognized(model, tmp_path, [0, 100]))
    assert len(decided) == len(unheard) > 0
    assert "d" not in unheard
    assert set(decided) == {"d"}


@recognizing
@pytest.mark.parametrize("name", ["num_layers", "hidden_size", "sos_id"])
def test_sherpa_onnx_asks_for_the_metadata_of_the_export(name: str, tmp_path: Path) -> None:
    model = build_sherpa_model(network_of((6, 6)), SAME, 17)
    path = write_language_model(model, write_transducer(tmp_path, RECOGNIZED), without=name)
    finished = recognize(tmp_path, path, [1])
    assert finished.returncode != 0
    assert f"'{name}' does not exist in the metadata" in finished.stderr


def test_a_sherpa_export_is_verified_before_it_is_written(
    tmp_path: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**SETTINGS, "layer_sizes": "4,4", "epochs": "1"}
    run_training(
        TrainOptions("ptb-200", str(corpus_folder), tmp_path / "run", settings=settings, threads=1), RecordingReporter()
    )
    done = export_sherpa(Run(tmp_path / "run"))
    assert done == SherpaExport(tmp_path / "run" / "sherpa" / "model.onnx")
    assert [file.name for file in done.path.parent.iterdir()] == ["model.onnx"]
    tokens = tmp_path / "tokens.txt"
    tokens.write_text("<blk> 0\nthe 2\n 1\ncat\t3\n")
    model = onnx.load(export_sherpa(Run(tmp_path / "run"), tmp_path / "theirs.onnx", tokens=tokens).path)
    assert [dim.dim_value for dim in model.graph.output[0].type.tensor_type.shape.dim] == [0, 4]
    monkeypatch.setattr(exporter, "SHERPA_BOUND", 0.0)
    with pytest.raises(ParityError, match="the sherpa export of .* differs from the original by"):
        export_sherpa(Run(tmp_path / "run"), tmp_path / "never.onnx")
    assert not (tmp_path / "never.onnx").exists()


def test_a_sherpa_export_scores_parts_of_words_as_the_predictor(tmp_path: Path) -> None:
    vocabulary = bpe_vocabulary()
    network = network_of((6, 6), vocabulary=len(vocabulary))
    predictor = Predictor.load(artifact_of(network, list(vocabulary.tokens), vocabulary.tokenization))
    (tmp_path / "own.txt").write_text(tokens_text(recognizer_tokens(vocabulary)), encoding="utf-8")
    symbols = read_recognizer_tokens(tmp_path / "own.txt")
    ids = ids_of(symbols, vocabulary)
    assert ids[1:] == [
        vocabulary.unknown_id if b" " in bytes_of(token)[1:] else index for index, token in enumerate(vocabulary.tokens)
    ]
    model = build_sherpa_model(network, vocabulary, 17, ids)
    text = "the cat, th\u4e2d \U0001f600\u0435 \u0435 \x00\x7f e\u0301\n"
    expected = predictor.score(text).token_log_probs
    tokens = [ids.index(index, 1) for index in vocabulary.encode(text)]
    state = dict.fromkeys(SHERPA_STATES, np.zeros((2, 1, 6), np.float32))
    for token, following, log_prob in zip([0, *tokens], tokens, expected, strict=False):
        scores, *after = run_model(model, np.array([[token]]), {"x": np.array([[token]]), **state})
        state = dict(zip(SHERPA_STATES, after, strict=True))
        assert scores[0, following] == pytest.approx(log_prob, abs=1e-5)


@pytest.mark.parametrize(
    "symbols",
    [
        ["<blk>", "<sos/eos>", "\u2581the", "th", "<0xE4>", "\u00e9", "\u2581", "<unk>", "\u2581\u0435", "#0"],
        [
            *("<blk>", "<sos/eos>", "\u2581the", "th", "\u018b", "\u0169\u014f", "\u2581", "<unk>"),
            *("\u2581\u0176\u015b", "#0"),
        ],
    ],
)
def test_both_forms_of_a_recognizers_parts_of_words_are_read(symbols: list[str]) -> None:
    vocabulary = bpe_vocabulary()
    tokens = [*("\u010a", "<unk>", "\u0120the", "th"), token_of(b"\xe4"), token_of(b"\xc3\xa9"), "\u0120", "<unk>"]
    assert ids_of(symbols, vocabulary) == list(map(vocabulary.id, [*tokens, token_of(" \u0435".encode()), "<unk>"]))
    with pytest.raises(ExportError, match="2 of the recognizer's 12 tokens .'_th', 'zz', .*are not among the 297"):
        ids_of([*symbols, "_th", "zz"], vocabulary)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<blk> 0\nthe one\n", "tokens.txt, line 2: found 'the one', expected a symbol, a space and its id"),
        ("", "tokens.txt, line 1: found '', expected a symbol"),
        ("<blk> 0\nthe 1\ncat 1\n", "tokens.txt has 3 lines, expected each id from 0 to 2 once"),
        (
            "the 0\n_th 1\n<unk> 2\n",
            "none of the recognizer's 3 tokens .'_th', .*is in the vocabulary of 4;",
        ),
    ],
)
def test_other_tokens_than_a_recognizers_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "tokens.txt").write_text(text)
    vocabulary = Vocabulary(["the", "<eos>", "cat", "<unk>"], Tokenization())
    with pytest.raises(ExportError, match=message):
        ids_of(read_recognizer_tokens(tmp_path / "tokens.txt"), vocabulary)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_graph_is_drawn(run: Run, tmp_path: Path, precision: str) -> None:
    nodes = draw_graph(run.artifact(precision), tmp_path / "graph.png")
    assert nodes == len(onnx.load(run.artifact(precision)).graph.node)
    assert (tmp_path / "graph.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ArtifactError, match="is no ONNX model"):
        draw_graph(tmp_path / "text.onnx", tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
