"""Objects of the runtime as values: what they load from, what they say of themselves, and how they are pickled."""

import multiprocessing
import pickle  # noqa: TID251 (of our own bytes)
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lmtool.runtime import (
    ArgumentError,
    Artifact,
    ArtifactError,
    CacheOptions,
    OptionError,
    Predictor,
    State,
)
from support.processes.prediction import log_prob_of


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_every_kind_of_bytes_loads(artifact_path: Path, predictor: Predictor, kind: Callable[[bytes], bytes]) -> None:
    data = artifact_path.read_bytes()
    assert Artifact.parse(kind(data)).sha256 == predictor.artifact.sha256
    assert Predictor.load(kind(data)).score("the cat") == predictor.score("the cat")
    assert State.from_bytes(kind(predictor.stream().state.to_bytes())).model_sha256 == predictor.artifact.sha256


def test_objects_say_what_they_are(predictor: Predictor, artifact_path: Path) -> None:
    stream = predictor.stream(cache=CacheOptions(size=5))
    stream.feed("the cat")
    for value, words in (
        (predictor, (str(artifact_path), "lstm", "fp32", "cpu", "threads=1")),
        (stream, ("'cat'", "with a cache", "to run")),
        (stream.state, (predictor.artifact.sha256[:12], "a cache of")),
        (predictor.initial_state(3), ("[3, ", "0 pending")),
        (predictor.score("the zzz"), ("2 tokens (1 unknown)", "log_prob", "perplexity")),
        (predictor.vocabulary, (f"{len(predictor.vocabulary)} tokens", "'whitespace'")),
    ):
        assert all(word in repr(value) for word in words), repr(value)
        assert repr(value).startswith(f"<{type(value).__name__} ")
        assert len(repr(value)) < 300
    assert "from bytes" in repr(Predictor.load(artifact_path.read_bytes()))


def test_a_predictor_goes_to_another_process(predictor: Predictor) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(log_prob_of, (predictor, "the cat")) == predictor.score("the cat").log_prob


def test_pickling_keeps_options_and_refuses_another_file(artifact_path: Path, run: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(artifact_path.read_bytes())
    sent = pickle.dumps(Predictor.load(path, threads=2, memory_arena=True))
    assert len(sent) < 1000
    back = pickle.loads(sent)
    assert (back.threads, back._options.memory_arena) == (2, True)
    path.write_bytes(run.artifact("int8").read_bytes())
    with pytest.raises(ArtifactError, match="the pinned one is"):
        pickle.loads(sent)
    with pytest.raises(ArgumentError, match="loaded from bytes cannot be pickled"):
        pickle.dumps(Predictor.load(artifact_path.read_bytes()))
    with pytest.raises(OptionError, match=r"send stream\.state"):
        pickle.dumps(back.stream())
