"""What a backend loads: the files, the provider, the threads; and how a network is called that is no language model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final


@final
@dataclass(frozen=True)
class StatefulCalls:
    """How a network that is no language model is called.

    Attributes:
        states: State input -> the output that holds it after the call.
        outputs: The other outputs.
        feeds: File of `write_feeds`.
        tolerance: Largest difference of an output, relative to its largest magnitude, that rounding explains.
    """

    states: Mapping[str, str]
    outputs: Sequence[str]
    feeds: Path
    tolerance: float


@final
@dataclass(frozen=True)
class Source:
    """The files that a backend loads, its provider and its threads.

    Attributes:
        artifact: The ONNX file.
        original: The run folder of the artifact, or another artifact of the same network; the reference of a
            verification. PyTorch needs the run folder.
        provider: Execution provider; PyTorch runs on the same kind of device.
        threads: Threads of one call.
        calls: How the network is called; None for a language model.
        counters: Whether OpenVINO counts the time of each operator.
    """

    artifact: Path
    original: Path | None = None
    provider: str = "cpu"
    threads: int = 1
    calls: StatefulCalls | None = None
    counters: bool = False
