"""Test vectors: calls of an artifact with what any runtime in any language must give for them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from ...runtime.artifact.artifact import LOGITS, NEXT, TOKEN_IDS
from ...runtime.predictor import Predictor
from ...runtime.state import State
from ..build import STANDARD
from ..parity import BOUNDS, ROUNDINGS, Case
from ..reference import Array, Original, PredictorOriginal, States, Tokens

FOLDER = "test_data_set_"
"""ONNX's name of a folder that holds one call; a number follows."""

_SHAPES = ((1, 1), (1, 7), (3, 5), (8, 2), (2, 33))
_LOOP_STEPS = 20
_READ_BEFORE = 3
_QUANTIZED_BOUND = 0.05


@final
@dataclass(frozen=True, eq=False)
class VectorSet:
    """One call: what goes in, and what must come out.

    Attributes:
        folder: The name of its folder.
        what: What it is, for people.
        inputs: The name of each graph input -> its tensor: `token_ids`, then the states.
        outputs: The name of each graph output -> its tensor: `logits`, then the next states.
        in_loop: Whether it is a step of the closed loop: its token is the most probable one after the step before, its
            states are those that step gave.
    """

    folder: str
    what: str
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    in_loop: bool = False

    def compare(self, found: Mapping[str, Array]) -> list[Case]:
        """How far a runtime's outputs are from those that are expected, tensor by tensor.

        Args:
            found: The name of each graph output -> what the runtime gave. Where one is missing or has another shape,
                the difference is infinite.
        """
        return [
            _case(f"{self.folder}: {self.what}", name, array, found.get(name)) for name, array in self.outputs.items()
        ]

    def to_json(self) -> dict[str, Any]:
        """Its entry in the index."""
        batch, time = self.inputs[TOKEN_IDS].shape
        return {"folder": self.folder, "what": self.what, "batch": batch, "time": time, "in_loop": self.in_loop}


@final
@dataclass(frozen=True, eq=False)
class Vectors:
    """The test vectors of one artifact.

    Attributes:
        artifact: The name of its file, in the same folder.
        sha256: The hash in its metadata.
        expected_from: What computed the expected outputs.
        bound: Largest difference of an output, relative to the largest magnitude in its tensor where that exceeds 1.
        sets: The calls.
    """

    artifact: str
    sha256: str
    expected_from: str
    bound: float
    sets: Sequence[VectorSet]

    @property
    def tolerance(self) -> float:
        """The bound as one absolute difference, for runners that know no other: it is that of the largest tensor."""
        return self.bound * max(case.scale for found in self.sets for case in found.compare(found.outputs))

    def to_json(self) -> dict[str, Any]:
        """What the index says."""
        return {
            "artifact": self.artifact,
            "sha256": self.sha256,
            "expected_from": self.expected_from,
            "bound": self.bound,
            "sets": [found.to_json() for found in self.sets],
        }


def compute_vectors(predictor: Predictor, name: str, original: Original) -> Vectors:
    """Draw inputs, and compute what must come out.

    Where the file has standard operators only, the original computes it; the operators of quantized files are
    onnxruntime's own, so there it is the artifact itself, which has passed its verification.

    Args:
        predictor: The verified artifact in onnxruntime.
        name: The name of its file.
        original: What it was exported from.
    """
    artifact = predictor.artifact
    standard = artifact.precision in STANDARD
    source = original if standard else PredictorOriginal(predictor, "onnxruntime on the exporting machine")
    sets = [
        VectorSet(f"{FOLDER}{index}", what, inputs, outputs, what.startswith("closed loop"))
        for index, (what, inputs, outputs) in enumerate((*_calls(source), *_closed_loop(source)))
    ]
    plain = BOUNDS[artifact.precision].difference if standard else _QUANTIZED_BOUND
    own = max(case.difference for found in sets for case in found.compare(run_set(predictor, found.inputs)))
    return Vectors(name, artifact.sha256, source.name, max(plain, ROUNDINGS * own), sets)


def run_set(predictor: Predictor, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs that a predictor gives for the inputs of a set, by the names of the graph's outputs."""
    names = tuple(predictor.artifact.architecture.states)
    state = State(predictor.artifact.sha256, tuple(inputs[name] for name in names))
    logits, after = predictor.step(inputs[TOKEN_IDS], state)
    return {LOGITS: logits, **{f"{NEXT}{name}": array for name, array in zip(names, after.tensors, strict=True)}}


def _calls(source: Original) -> Iterator[tuple[str, Mapping[str, Array], Mapping[str, Array]]]:
    """For every shape random tokens, from the zero state and from one that has read something."""
    random = np.random.default_rng(0)
    for batch, time in _SHAPES:
        states = _zeros(source, batch)
        for before in ("the zero state", f"the state after {_READ_BEFORE} tokens"):
            tokens = random.integers(0, len(source.vocabulary), (batch, time))
            logits, after = source.run(tokens, states)
            what = f"batch {batch}, time {time}, from {before}"
            yield what, _inputs(tokens, states, source), _outputs(logits, after, source)
            _, states = source.run(random.integers(0, len(source.vocabulary), (batch, _READ_BEFORE)), states)


def _closed_loop(source: Original) -> Iterator[tuple[str, Mapping[str, Array], Mapping[str, Array]]]:
    """Greedy steps of one stream, the first after the end of a sentence."""
    states, token = _zeros(source, 1), source.vocabulary.end_of_sentence_id
    for step in range(_LOOP_STEPS):
        tokens = np.array([[token]], np.int64)
        logits, after = source.run(tokens, states)
        yield f"closed loop, step {step}", _inputs(tokens, states, source), _outputs(logits, after, source)
        states, token = after, int(logits[0, 0].argmax())


def _zeros(source: Original, batch: int) -> States:
    return {name: np.zeros((batch, width), np.float32) for name, width in source.architecture.states.items()}


def _inputs(tokens: Tokens, states: States, source: Original) -> dict[str, Array]:
    """By the names of the graph's inputs, in its order."""
    return {TOKEN_IDS: tokens, **{name: states[name] for name in source.architecture.states}}


def _outputs(logits: Array, states: States, source: Original) -> dict[str, Array]:
    """By the names of the graph's outputs, in its order."""
    return {LOGITS: logits, **{f"{NEXT}{name}": states[name] for name in source.architecture.states}}


def _case(call: str, name: str, expected: Array, found: Array | None) -> Case:
    scale = max(float(np.abs(expected).max()), 1.0)
    if found is None or found.shape != expected.shape:
        return Case(call, name, np.inf, scale)
    return Case(call, name, float(np.abs(found - expected).max()), scale)
