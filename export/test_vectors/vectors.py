"""Test vectors: calls of an artifact with the outputs that any runtime must give."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np

from ...runtime.artifact.artifact import LOGITS, NEXT, TOKEN_IDS
from ...runtime.predictor import Predictor
from ..build import FLOATING
from ..parity import Array, Case
from ..reference import PredictorReference, Reference, States, zero_states
from ..tolerances import BOUNDS, QUANTIZED_VECTORS, ROUNDINGS

FOLDER = "test_data_set_"
"""ONNX's name of a folder with one call; a number follows."""

_SHAPES = ((1, 1), (1, 7), (3, 5), (8, 2), (2, 33))
_LOOP_STEPS = 20
_READ_BEFORE = 3


@final
@dataclass(frozen=True, eq=False)
class VectorSet:
    """One call and its expected outputs.

    Attributes:
        folder: The name of its folder.
        what: A description.
        inputs: The name of each graph input -> its tensor: `token_ids`, then the states.
        outputs: The name of each graph output -> its tensor: `logits`, then the next states.
        in_loop: Whether it is a step of the closed loop: its token is the most probable one after the previous step,
            its states are the previous step's outputs.
    """

    folder: str
    what: str
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    in_loop: bool = False

    def compare(self, outputs: Mapping[str, Array]) -> list[Case]:
        """Compare a runtime's outputs with the expected ones, tensor by tensor.

        Args:
            outputs: The name of each graph output -> the runtime's tensor. Where one is missing or has another shape,
                the difference is infinite.
        """
        call = f"{self.folder}: {self.what}"
        return [_case(call, name, expected, outputs.get(name)) for name, expected in self.outputs.items()]

    def to_json(self) -> dict[str, Any]:
        """Its entry in the index."""
        batch, time = self.inputs[TOKEN_IDS].shape
        return {"folder": self.folder, "what": self.what, "batch": batch, "time": time, "in_loop": self.in_loop}


@final
@dataclass(frozen=True, eq=False)
class Vectors:
    """The test vectors of one artifact.

    Attributes:
        artifact: The name of the artifact's file, in the same folder.
        sha256: The hash in the artifact's metadata.
        expected_from: Name of the reference that computed the expected outputs.
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
        """The bound as one absolute difference, of the largest tensor, for runners without relative bounds."""
        return self.bound * max(case.scale for vectors in self.sets for case in vectors.compare(vectors.outputs))

    def to_json(self) -> dict[str, Any]:
        """The content of the index."""
        return {
            "artifact": self.artifact,
            "sha256": self.sha256,
            "expected_from": self.expected_from,
            "bound": self.bound,
            "sets": [vectors.to_json() for vectors in self.sets],
        }


def compute_vectors(predictor: Predictor, name: str, reference: Reference) -> Vectors:
    """Draw inputs and compute the expected outputs.

    The reference computes them in floating point. Those of a quantized file, which differ from the reference, are its
    own after its verification.

    Args:
        predictor: The verified artifact in onnxruntime.
        name: The name of its file.
        reference: The network that it was exported from.
    """
    artifact = predictor.artifact
    floating = artifact.precision in FLOATING
    source = reference if floating else PredictorReference(predictor, "onnxruntime on the exporting machine")
    sets = [
        VectorSet(f"{FOLDER}{index}", what, inputs, outputs, what.startswith("closed loop"))
        for index, (what, inputs, outputs) in enumerate((*_calls(source), *_closed_loop(source)))
    ]
    plain = BOUNDS[artifact.precision].difference if floating else QUANTIZED_VECTORS
    results = [*((each, run_set(predictor, each.inputs)) for each in sets), *run_loop(predictor, sets)]
    own = max(case.difference for each, outputs in results for case in each.compare(outputs))
    return Vectors(name, artifact.sha256, source.name, max(plain, ROUNDINGS * own), sets)


def run_set(predictor: Predictor, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Run a predictor on the inputs of a set; returns its outputs by the names of the graph's outputs."""
    return _outputs(*PredictorReference(predictor, predictor.provider).run(inputs[TOKEN_IDS], inputs))


def run_loop(predictor: Predictor, sets: Sequence[VectorSet]) -> Iterator[tuple[VectorSet, dict[str, Array]]]:
    """Run the closed loop among the sets on the predictor's own states; yields each step and its outputs.

    Each step reads the expected token, so that one difference does not hide later ones.
    """
    states: Mapping[str, Array] | None = None
    for step in sets:
        if step.in_loop:
            outputs = run_set(predictor, step.inputs if states is None else {**step.inputs, **states})
            yield step, outputs
            states = {name.removeprefix(NEXT): array for name, array in outputs.items() if name != LOGITS}


def _calls(source: Reference) -> Iterator[tuple[str, Mapping[str, Array], Mapping[str, Array]]]:
    """For each shape random tokens, from the zero state and from a later state."""
    random = np.random.default_rng(0)
    for batch, time in _SHAPES:
        states = zero_states(source.architecture, batch)
        for before in ("the zero state", f"the state after {_READ_BEFORE} tokens"):
            tokens = random.integers(0, len(source.vocabulary), (batch, time))
            logits, after = source.run(tokens, states)
            what = f"batch {batch}, time {time}, from {before}"
            yield what, {TOKEN_IDS: tokens, **states}, _outputs(logits, after)
            _, states = source.run(random.integers(0, len(source.vocabulary), (batch, _READ_BEFORE)), states)


def _closed_loop(source: Reference) -> Iterator[tuple[str, Mapping[str, Array], Mapping[str, Array]]]:
    """Greedy steps of one stream from the end of a sentence."""
    states, token = zero_states(source.architecture, 1), source.vocabulary.end_of_sentence_id
    for step in range(_LOOP_STEPS):
        tokens = np.array([[token]], np.int64)
        logits, after = source.run(tokens, states)
        yield f"closed loop, step {step}", {TOKEN_IDS: tokens, **states}, _outputs(logits, after)
        states, token = after, int(logits[0, 0].argmax())


def _outputs(logits: Array, states: States) -> dict[str, Array]:
    """The graph's outputs by name, in its order."""
    return {LOGITS: logits, **{f"{NEXT}{name}": array for name, array in states.items()}}


def _case(call: str, name: str, expected: Array, output: Array | None) -> Case:
    if output is None or output.shape != expected.shape:
        return replace(Case.of(call, name, expected, expected), absolute=np.inf)
    return Case.of(call, name, expected, output)
