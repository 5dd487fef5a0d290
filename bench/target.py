"""The target of a benchmark: what is measured, on which backends, in which of the scenarios."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, final

import onnx

from ..export.foreign.adopt import adopt
from ..runtime.artifact.artifact import TOKEN_IDS, Artifact
from ..runtime.artifact.safety import find_tensors
from ..runtime.io.files import read_bytes
from .candidates import USUAL_OTHERS, Candidates, Skipped, find_candidates
from .load import loadgen
from .scenario import TOKEN, Scenario


class Target(Protocol):
    """What is measured.

    Attributes:
        model: The file that was named or chosen.
        required: The file that onnxruntime must take.
        unit: What a call reads of each stream.
        candidates: Backends by name.
        skipped: Backends and files that are not measured, with the reason.
        original: Hash of the PyTorch network's weights; None where it is not known.
        training: Facts of the model's training (see `Artifact`).
        calls: States and inputs of a network that is no language model (`StatefulNetwork.describe`); else empty.
    """

    model: Path
    required: Path
    unit: str
    candidates: Candidates
    skipped: Skipped
    original: str | None
    training: Mapping[str, Any]
    calls: Mapping[str, Any]

    def possible(self, scenarios: Sequence[Scenario]) -> tuple[list[Scenario], Skipped]:
        """The scenarios that can be measured here, and those that cannot, with the reason."""
        ...


@final
class LanguageModelTarget:
    """An artifact, or another ONNX file with its contract, as a `Target`."""

    def __init__(
        self, model: Path, providers: Sequence[str], against: Sequence[str] | None, threads: int, folder: Path
    ) -> None:
        """Find what to measure; `folder` is for the artifact of a file that lmtool did not make.

        Raises:
            StorageError: The file cannot be read.
            ArtifactError: It breaks the contract, or is damaged.
            ProviderError: A provider can run neither the artifact nor a sibling.
        """
        self.model = model
        self.required = adopt(model, folder)
        self.unit = TOKEN
        others = USUAL_OTHERS if against is None else against
        alone = self.required != model
        self.candidates, self.skipped = find_candidates(self.required, providers, others, threads, alone=alone)
        artifact = Artifact.read(self.required)
        self.original = artifact.parity.get("original_sha256")
        self.training: Mapping[str, Any] = artifact.training
        self.calls: Mapping[str, Any] = {}

    def possible(self, scenarios: Sequence[Scenario]) -> tuple[list[Scenario], Skipped]:
        """All scenarios, but servers where LoadGen is missing."""
        reason = loadgen.missing()
        skipped = {str(scenario): reason for scenario in scenarios if scenario.kind == "server" and reason is not None}
        return [scenario for scenario in scenarios if str(scenario) not in skipped], skipped


def reads_tokens(path: Path) -> bool:
    """Whether a file has the input of a language model, and so must keep its contract; also of what is no ONNX file.

    Raises:
        StorageError: The file cannot be read.
    """
    data = read_bytes(path)
    try:
        find_tensors(memoryview(data))
        model = onnx.load_model_from_string(data)
    except Exception:  # ArtifactError, or protobuf's own error; `adopt` says what is wrong
        return True
    return not model.graph.node or TOKEN_IDS in {value.name for value in model.graph.input}
