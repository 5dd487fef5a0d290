"""Lower bounds of the layers and of the projection, each apart."""

from pathlib import Path

from ...runtime.artifact.artifact import Artifact
from ..roofline import Roofline, step_weights
from ..scenario import Scenario
from .kinds import LAYERS, PROJECTION

Floors = dict[str, Roofline]
"""By kind of work."""


def floors_of(artifact: Path, whole: Roofline) -> Floors:
    """The bounds of the layers and of the projection, whose weights have an axis of the vocabulary's size.

    Args:
        artifact: A language model.
        whole: The bound of a step.
    """
    weights, vocabulary_size = step_weights(artifact), len(Artifact.read(artifact).vocabulary)
    return {
        LAYERS: whole.of_weights([weight for weight in weights if vocabulary_size not in weight.shape]),
        PROJECTION: whole.of_weights([weight for weight in weights if vocabulary_size in weight.shape]),
    }


def floor_seconds(floors: Floors, kind: str, scenario: Scenario) -> float | None:
    """The shortest time of a kind of work in a call; None if it is not known.

    Only the last token of a prefill needs the projection.
    """
    if kind not in floors:
        return None
    is_last_only = kind == PROJECTION and scenario.kind == "prefill"
    return floors[kind].seconds(scenario.batch_size * (1 if is_last_only else scenario.time))
