"""Calls on a device, here the processor itself: the same numbers, states that stay, few copies back."""

import copy
import gc
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lmtool.runtime import ArtifactError, CacheOptions, Predictor, State, StateError, StreamPool
from lmtool.runtime.arrays import DeviceTensors
from lmtool.runtime.session import device as device_module
from lmtool.runtime.session.calls import Graph
from lmtool.runtime.session.device import DeviceRunner
from lmtool.runtime.session.host import HostRunner
from lmtool.runtime.session.log_probs import LogProbs
from lmtool.runtime.session.providers import PROVIDERS
from lmtool.runtime.session.session import SessionOptions, create_runner, start_session
from onnxruntime import OrtValue
from support.pools import same


def device_runner(predictor: Predictor, can_keep: bool = True) -> DeviceRunner:
    def start(graph: bytes) -> Any:
        return start_session(graph, PROVIDERS["cpu"], SessionOptions())

    graph = Graph(predictor.artifact.architecture.states, len(predictor.vocabulary), can_keep)
    return DeviceRunner(predictor.session, graph, ("cpu", 0), LogProbs(start))


@pytest.fixture(params=[True, False], ids=["kept by the graph", "kept by us"])
def device(artifact_path: Path, predictor: Predictor, request: pytest.FixtureRequest) -> Predictor:
    """A predictor whose states stay on its device, otherwise the same as `predictor`."""
    device = Predictor.load(artifact_path)
    device.network._runner = device_runner(device, request.param)
    return device


def draw(predictor: Predictor, batch: int, time: int) -> np.ndarray:
    return np.random.default_rng(batch + time).integers(0, len(predictor.vocabulary), (batch, time))


@pytest.mark.parametrize("kept", [None, 1, 3, 6])
@pytest.mark.parametrize("batch", [1, 5])
def test_logits_and_states_are_those_of_the_processor(
    device: Predictor, predictor: Predictor, batch: int, kept: int | None
) -> None:
    ours, theirs = device.initial_state(batch), predictor.initial_state(batch)
    for _ in range(3):
        ids = draw(predictor, batch, 6)
        logits, ours = device.step(ids, ours, logits_to_keep=kept)
        expected, theirs = predictor.step(ids, theirs, logits_to_keep=kept)
        assert np.array_equal(logits, expected)
        assert isinstance(ours.tensors, DeviceTensors)
    assert ours.shapes == theirs.shapes
    assert same(ours, theirs)


def test_log_probs_are_those_of_the_processor(device: Predictor, predictor: Predictor) -> None:
    ids, targets = draw(predictor, 3, 8), draw(predictor, 3, 5)
    log_probs, ours = device.log_probs(ids, device.initial_state(3), targets)
    expected, theirs = predictor.log_probs(ids, predictor.initial_state(3), targets)
    assert log_probs.dtype == expected.dtype == np.float64
    np.testing.assert_allclose(log_probs, expected, rtol=0, atol=2e-6)
    assert same(ours, theirs)
    text = "the cat saw a dog\n" * 20
    assert device.score(text).log_prob == pytest.approx(predictor.score(text).log_prob, rel=1e-6)


def test_a_state_is_copied_back_only_when_it_is_read(device: Predictor) -> None:
    state = device.initial_state(1)
    for _ in range(3):
        _, state = device.step([[1, 2]], state)
        assert state.batch_size == 1
    stream = device.stream()
    stream.feed("the cat")
    stream.suggest(3)
    stream.feed("saw")  # which takes the state that the suggestion was made with
    for tensors in (state.tensors, stream._cursor.state.tensors):
        assert isinstance(tensors, DeviceTensors)
        assert tensors._copies == {}
    assert state.tensors[0] is state.tensors[0]
    with pytest.raises(ValueError, match="read-only"):
        state.tensors[0][0, 0] = 1
    with pytest.raises(IndexError):
        state.tensors[4]
    assert [tensor.shape for tensor in state.tensors[1:3]] == list(state.shapes[1:3])


def test_a_state_on_a_device_is_a_value(device: Predictor, predictor: Predictor) -> None:
    _, state = device.step([[1, 2]], device.initial_state(1))
    first, _ = device.step([[3]], state)
    for token in range(5):
        device.step([[token]], state)
    again, _ = device.step([[3]], state)
    assert np.array_equal(first, again)
    restored = State.from_bytes(state.to_bytes())
    assert same(restored, state)
    assert np.array_equal(device.step([[3]], restored)[0], first)
    copied = copy.deepcopy(state)
    assert same(copied, state)
    with pytest.raises(ValueError, match="read-only"):
        copied.tensors[0][0, 0] = 1
    assert np.array_equal(predictor.step([[3]], state)[0], first)
    pending = replace(state, pending=np.array([[3]]))
    assert np.array_equal(device.step([[4]], pending)[0], device.step([[3, 4]], state)[0][:, 1:])
    with pytest.raises(StateError, match=r"expected float32 \[2, 7\]"):
        device.step([[1], [2]], state)


class WatchedSession:
    """A session that notes which of its bindings, which hold the outputs of a call, are still in memory."""

    def __init__(self, session: Any) -> None:
        self.run_with_iobinding = session.run_with_iobinding
        self._session = session
        self._bindings: list[weakref.ref[Any]] = []

    def io_binding(self) -> Any:
        binding = self._session.io_binding()
        self._bindings.append(weakref.ref(binding._iobinding))
        return binding

    def kept(self) -> list[bool]:
        gc.collect()
        return [binding() is not None for binding in self._bindings]


def test_a_kept_state_keeps_no_logits(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = device_runner(predictor)
    session = runner._session = WatchedSession(predictor.session)
    ids = np.array([[1, 2, 3]])
    _, first = runner.run(ids, predictor.initial_state().tensors, 3)
    _, second = runner.run(ids, first, 3)
    assert session.kept() == [False, False]
    expected, _ = predictor.step(ids, State(predictor.artifact.sha256, second))
    assert np.array_equal(runner.run(ids, second, 3)[0], expected)
    monkeypatch.setattr(device_module, "_states", lambda binding: binding.get_outputs()[1:])
    control = runner.run(ids, first, 3)[1]
    assert len(control) == len(first)
    assert session.kept() == [False, False, False, True]


def test_streams_caches_and_pools_work_on_a_device(device: Predictor, predictor: Predictor) -> None:
    for options in (None, CacheOptions(size=20)):
        texts = []
        for made in (device, predictor):
            stream = made.stream(cache=options)
            stream.feed("the cat saw a dog\nthe")
            texts.append("".join(stream.generate(12, seed=3)))
        assert texts[0] == texts[1]
    with StreamPool(device) as pool:
        logits = pool.step(pool.open_stream(), [1, 2])
    assert np.array_equal(logits, predictor.step([[1, 2]], predictor.initial_state(1), logits_to_keep=1)[0][0])


@pytest.mark.parametrize("wider", ["the vocabulary", "a state"])
@pytest.mark.parametrize("where", ["host", "device"])
def test_outputs_of_other_shapes_than_declared_are_refused(predictor: Predictor, where: str, wider: str) -> None:
    states, size = dict(predictor.artifact.architecture.states), len(predictor.vocabulary)
    ids, tensors = np.array([[1, 2]]), predictor.initial_state().tensors
    scorer = LogProbs(lambda _: None)

    def run(graph: Graph) -> Any:
        if where == "host":
            return HostRunner(predictor.session, graph, scorer).run(ids, tensors, 2)
        return DeviceRunner(predictor.session, graph, ("cpu", 0), scorer).run(ids, tensors, 2)

    assert run(Graph(states, size, can_keep=True))[0].shape == (1, 2, size)  # the positive control
    size += wider == "the vocabulary"
    states["hidden_0"] += wider == "a state"
    with pytest.raises(ArtifactError, match="for a batch of 1 and 2 positions it gave .*, expected logits"):
        run(Graph(states, size, can_keep=True))


def test_a_graph_that_cannot_run_says_so(device: Predictor) -> None:
    outside = np.array([[len(device.vocabulary)]])
    with pytest.raises(ArtifactError, match="onnxruntime cannot run the artifact: .*Gather"):
        device.network._runner.run(outside, device.initial_state().tensors, 1)


def test_a_device_without_memory_for_the_inputs_says_so(device: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("CUDA failure 2: out of memory")

    logits = OrtValue.ortvalue_from_numpy(np.zeros((1, 1, 5), np.float32))
    monkeypatch.setattr("onnxruntime.OrtValue.ortvalue_from_numpy", fail)
    with pytest.raises(ArtifactError, match="cannot run the artifact: CUDA failure 2: out of memory"):
        device.step([[1, 2]], device.initial_state())
    monkeypatch.setattr("onnxruntime.IOBinding.bind_cpu_input", fail)
    with pytest.raises(ArtifactError, match="cannot run the artifact: CUDA failure 2: out of memory"):
        device.network._runner._scorer.of_value(logits, np.array([[1]]))


def test_a_device_is_numbered_as_the_provider_is_told(artifact_path: Path) -> None:
    predictor = Predictor.load(artifact_path)
    for options, device in (({}, ("cuda", 0)), ({"device_id": "2"}, ("cuda", 2))):
        chosen = SessionOptions(provider_options=options)
        calls = create_runner(predictor.session, predictor.artifact, PROVIDERS["cuda"], chosen)
        assert isinstance(calls, DeviceRunner)
        assert calls._device == device
