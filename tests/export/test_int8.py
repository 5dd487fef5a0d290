"""int8 artifacts: exact integer sums, the same bits in every batch, chunking and evaluator, on every processor."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from lmtool.export import BuildOptions, build_model, measure_batch_invariance, verify_artifact
from lmtool.export.foreign.foreign_model import all_graphs
from lmtool.export.int8_matrix import LARGEST, Int8Matrix
from lmtool.export.unsigned_weights import unsigned_weights
from lmtool.model import PRESETS, LanguageModel, Run
from lmtool.model.network import state_tensors
from lmtool.runtime import CELLS, PROVIDERS, Architecture, Artifact, ArtifactError, Predictor, State
from lmtool.runtime.artifact.weights import LARGEST_PAIR, largest_pair
from lmtool.runtime.session.session import SessionOptions, plain_session, start_session
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from support.models.networks import TOLERANCES, artifact_of, network_of, random_inputs, run_model
from support.models.older_files import older_file
from support.scale import FULL, scaled

SIZES = [((7, 3), False), ((7, 5), True), ((1,), False), ((2, 3, 4), False)]
INT16_LARGEST = 2**15 - 1


def matrices_of(model: onnx.ModelProto) -> list[np.ndarray]:
    tensors = [numpy_helper.to_array(tensor) for graph in all_graphs(model) for tensor in graph.initializer]
    return [tensor for tensor in tensors if tensor.dtype == np.int8]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("sizes", "tied"), SIZES)
@pytest.mark.parametrize("opset", [17, 21])
def test_int8_is_close_to_torch(cell: str, sizes: tuple[int, ...], tied: bool, opset: int) -> None:
    network = network_of(sizes, tied=tied, cell=cell)
    model = build_model(network, BuildOptions("int8", opset))
    tokens, state, feeds = random_inputs(network, 3, 5)
    logits, *states = run_model(model, tokens, feeds)
    with torch.inference_mode():
        expected, after = network(torch.from_numpy(tokens), state)
    assert 0 < np.abs(logits - expected.numpy()).max() < TOLERANCES["int8"]
    for (_, theirs), ours in zip(sorted(state_tensors(after).items()), states, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), atol=TOLERANCES["int8"])


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("sizes", "tied"), SIZES)
def test_logits_are_equal_to_the_bit_in_every_evaluator(cell: str, sizes: tuple[int, ...], tied: bool) -> None:
    """onnx.reference computes in numpy; the sessions differ in graph optimizations and in the products' kernels."""
    network = network_of(sizes, tied=tied, cell=cell)
    model = build_model(network, BuildOptions("int8"))
    data = model.SerializeToString()
    tokens, _, feeds = random_inputs(network, 4, 6)
    inputs = {"token_ids": tokens, **feeds}
    expected = ReferenceEvaluator(model).run(["logits"], {**inputs, "logits_to_keep": np.array([0])})[0]
    sessions = [plain_session(data), plain_session(unsigned_weights(data))]
    sessions += [
        start_session(data, PROVIDERS["cpu"], SessionOptions(threads), level, guard_saturation=guarded)
        for threads in (1, 2)
        for level in ("ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL")
        for guarded in (True, False)
    ]
    for session in sessions:
        np.testing.assert_array_equal(session.run(["logits"], inputs)[0], expected)


def words_of(network: LanguageModel) -> list[str]:
    return ["<eos>", "<unk>", *(f"w{index}" for index in range(network.vocabulary_size - 2))]


@scaled
@pytest.mark.parametrize("cell", CELLS)
def test_rows_and_chunks_have_the_same_bits(cell: str) -> None:
    network = network_of((33, 24), vocabulary=300, cell=cell)
    predictor = Predictor.load(artifact_of(network, words_of(network), "whitespace", "int8"), threads=2)
    random = np.random.default_rng(0)
    for batch in (1, 2, 3, 5, 8, 16, 17, 64, *((256,) if FULL else ())):
        rows = random.integers(0, 300, (batch, 9))
        start = predictor.step(rows[:, ::-1], predictor.initial_state(batch))[1]
        logits, after = predictor.step(rows, start)
        for row in {0, batch // 2, batch - 1}:
            state = State(start.model_sha256, tuple(tensor[row : row + 1] for tensor in start.tensors))
            parts = []
            for piece in np.split(rows[row : row + 1], [1, 2, 6], axis=1):
                part, state = predictor.step(piece, state)
                parts.append(part)
            np.testing.assert_array_equal(np.concatenate(parts, axis=1)[0], logits[row])
            for ours, theirs in zip(state.tensors, after.tensors, strict=True):
                np.testing.assert_array_equal(ours[0], theirs[row])


@scaled
@pytest.mark.parametrize("cell", CELLS)
def test_a_closed_loop_has_the_same_bits_in_other_sessions(cell: str) -> None:
    network = network_of((33, 24), vocabulary=300, cell=cell)
    data = artifact_of(network, words_of(network), "whitespace", "int8")
    one, two = (Predictor.load(data, threads=threads) for threads in (1, 2))
    token, states = 3, [one.initial_state(1), two.initial_state(1)]
    for _ in range(1000 if FULL else 200):
        (logits, states[0]), (again, states[1]) = (
            predictor.step([[token]], state) for predictor, state in zip((one, two), states, strict=True)
        )
        np.testing.assert_array_equal(logits, again)
        token = int(logits.argmax())


@pytest.mark.parametrize("cell", CELLS)
def test_int8_files_are_small_and_standard(cell: str) -> None:
    network = network_of((64, 48), vocabulary=500, cell=cell)
    fp32, int8 = (build_model(network, BuildOptions(name)) for name in ("fp32", "int8"))
    assert {opset.domain for opset in int8.opset_import} == {""}
    assert int8.ByteSize() < 0.5 * fp32.ByteSize()
    weights = {name: parameter.numel() for name, parameter in network.named_parameters() if parameter.ndim == 2}
    names = ("weight_hh",) if cell == "gru" else ("weight_hh", "weight_ih")
    held_twice = sum(size for name, size in weights.items() if name.rpartition(".")[2].startswith(names))
    in_uint8 = weights["embedding.weight"]
    assert sum(matrix.size for matrix in matrices_of(int8)) == sum(weights.values()) - in_uint8 + held_twice


def test_the_preset_for_keyboards_fits_into_one_and_a_half_megabytes() -> None:
    config = PRESETS["keyboard"]
    assert config.vocabulary_size is not None
    graph = build_model(LanguageModel(config.architecture, config.vocabulary_size), BuildOptions("int8"))
    assert graph.ByteSize() + 50_000 < 1.5e6  # merges and metadata take 41 kB in English


@pytest.mark.parametrize("cell", CELLS)
def test_no_pair_of_products_exceeds_16_bits(cell: str) -> None:
    for matrix in matrices_of(build_model(network_of((64, 48), vocabulary=500, cell=cell), BuildOptions("int8"))):
        assert 0 < largest_pair(matrix) * 255 <= INT16_LARGEST


def test_matrices_are_rounded_to_the_nearest_allowed_integers() -> None:
    random = np.random.default_rng(0)
    weights = random.normal(size=(40, 30)).astype(np.float32)
    weights[:2, 0] = 5  # a pair that needs a larger scale than its largest weight alone
    weights[:, 1] = 0
    weights[5, 2] = 100  # alone
    matrix = Int8Matrix.of(weights)
    assert np.abs(matrix.integers.astype(int)).max() <= LARGEST
    assert largest_pair(matrix.integers) <= LARGEST_PAIR
    assert (np.abs(matrix.integers * matrix.scales - weights) <= matrix.scales * 0.5001).all()
    assert (matrix.scales[1], matrix.integers[:, 1].any()) == (1, False)
    assert matrix.scales[0] == pytest.approx(10 / 127)
    assert matrix.integers[5, 2] in (LARGEST - 2, LARGEST - 1, LARGEST)


def test_a_planted_pair_is_noticed() -> None:
    integers = np.zeros((4, 2), np.int8)
    integers[1:3, 1] = 127
    assert largest_pair(integers) * 255 > INT16_LARGEST
    assert largest_pair(integers[:1]) == 0


def static_file(network: LanguageModel, change: Any = None) -> bytes:
    return artifact_of(network, words_of(network), "whitespace", "int8", change, quantization="static")


def plant(model: onnx.ModelProto, name: str, rows: slice, value: int) -> None:
    """Change weights of a matrix of the main graph or of one within it."""
    tensors = (tensor for graph in all_graphs(model) for tensor in graph.initializer)
    tensor = next(tensor for tensor in tensors if tensor.name == name)
    integers = numpy_helper.to_array(tensor).copy()
    integers[rows, 4] = value
    tensor.CopyFrom(numpy_helper.from_array(integers, tensor.name))


@pytest.mark.parametrize("name", ["projection", "layer_0.weights", "step_1.recurrent_weights"])
def test_a_file_whose_products_may_saturate_is_refused(name: str) -> None:
    network = network_of((7, 3))
    assert Artifact.parse(static_file(network)).is_static
    with pytest.raises(ArtifactError, match=f"int8 matrix '{name}' has neighbouring weights .* more than 128"):
        Artifact.parse(static_file(network, lambda model, _: plant(model, name, slice(0, 2), 127)))


def test_forms_for_a_token_and_a_sequence_that_differ_are_noticed() -> None:
    network = network_of((7, 3))
    assert measure_batch_invariance(Predictor.load(static_file(network)))
    different = static_file(network, lambda model, _: plant(model, "layer_1.input_weights", slice(0, 1), 0))
    assert not measure_batch_invariance(Predictor.load(different))


def test_a_vocabulary_of_two_and_layers_of_one_unit() -> None:
    for cell in CELLS:
        network = LanguageModel(Architecture(cell, 1, (1, 1), False), 2).eval()
        network.initialize(0.5, torch.Generator().manual_seed(3))
        predictor = Predictor.load(artifact_of(network, ["<eos>", "<unk>"], "whitespace", "int8"))
        with torch.inference_mode():
            expected, _ = network(torch.tensor([[0, 1, 1]]), network.initial_state(1))
        logits, _ = predictor.step([[0, 1, 1]], predictor.initial_state(1))
        np.testing.assert_allclose(logits, expected.numpy(), atol=TOLERANCES["int8"])


def test_weights_of_one_value_and_of_zero() -> None:
    for value in (0.0, 0.25):
        network = network_of((7, 3))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.fill_(value)
        tokens, state, feeds = random_inputs(network, 2, 3)
        logits = run_model(build_model(network, BuildOptions("int8")), tokens, feeds)[0]
        with torch.inference_mode():
            expected, _ = network(torch.from_numpy(tokens), state)
        np.testing.assert_allclose(logits, expected.numpy(), atol=0.02)


def test_hidden_states_outside_the_range_of_activations_are_read_as_the_nearest_inside(
    int8_predictor: Predictor,
) -> None:
    """A network's own lie in (-1, 1)."""

    def logits_after(hidden: float) -> np.ndarray:
        widths = int8_predictor.artifact.architecture.states
        values = [np.full((1, width), hidden if name.startswith("hidden") else 0.5) for name, width in widths.items()]
        state = State(int8_predictor.artifact.sha256, tuple(value.astype(np.float32) for value in values))
        return int8_predictor.step([[1]], state)[0]

    np.testing.assert_array_equal(logits_after(1e6), logits_after(1.0))
    assert not np.array_equal(logits_after(1.0), logits_after(0.5))


@pytest.mark.parametrize(
    ("precision", "purpose"), [("int8", "throughput"), ("int8", "latency"), ("w8", ""), ("w4", "")]
)
def test_files_of_earlier_versions_load_and_verify(run: Run, tmp_path: Path, precision: str, purpose: str) -> None:
    path = older_file(run.artifact("fp32"), precision, tmp_path / "older.onnx", purpose)
    artifact = Artifact.read(path)
    assert artifact.variant == (f"{precision}-latency" if purpose == "latency" else precision)
    assert not artifact.is_static
    report = verify_artifact(path, run.path)
    assert report.passed, report.failures
