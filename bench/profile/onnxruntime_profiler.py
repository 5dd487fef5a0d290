"""onnxruntime's profiler: it writes an event for each node, also for the nodes in bodies, to a JSON file.

https://onnxruntime.ai/docs/performance/tune-performance/profiling-tools.html
"""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

from ...runtime.session.providers import import_onnxruntime
from ..backends.registry import ONNXRUNTIME, load_backend
from ..backends.source import Source
from ..errors import BenchError
from ..scenario import Scenario
from ..workers.workload import vocabulary_size, workload
from .kinds import kind_of
from .span import Span, Tallies

_MICROSECOND = 1e-6


@final
class OnnxruntimeProfiler:
    """A `Profiler` of the sessions that an application's calls run in, each with a file in `folder`.

    Raises:
        BenchError: The provider is not the CPU's.
    """

    def __init__(self, source: Source, scenario: Scenario, folder: Path) -> None:
        if source.provider != "cpu":
            raise BenchError(
                f"onnxruntime's profile of {source.provider} counts how long launches take, not operators: "
                "profile with --provider cpu"
            )
        with _profiled_sessions(folder) as self._sessions:
            backend = load_backend(ONNXRUNTIME, source)
            self._call = workload(backend, scenario)
            self._calls = 0
            self.call()  # the first call may start a session too
        self._vocabulary_size = vocabulary_size(backend)

    def block(self) -> contextlib.AbstractContextManager[object]:
        """Nothing: a session's profile ends once."""
        return contextlib.nullcontext()

    def call(self) -> object:
        """Make a call."""
        self._calls += 1
        return self._call()

    def spans(self, seconds: Sequence[float]) -> list[Span]:
        """A span for each call."""
        parts: list[list[Tallies]] = [[] for _ in seconds]
        for session in self._sessions:
            file = Path(session.end_profiling())
            try:
                runs = read_runs(file, self._vocabulary_size)
            finally:
                with contextlib.suppress(OSError):
                    file.unlink()  # it takes megabytes
            if 0 < len(runs) < self._calls:
                raise BenchError(
                    f"onnxruntime's profile holds {len(runs):,} of {self._calls:,} calls: it ends after a million "
                    "operators; name a scenario with fewer tokens or steps"
                )
            each = len(runs) // self._calls
            last = runs[len(runs) - each * len(seconds) :]
            for index, part in enumerate(parts):
                part += last[index * each : (index + 1) * each]
        return [Span(time, 1, Tallies.sum(part)) for time, part in zip(seconds, parts, strict=True)]


@contextlib.contextmanager
def _profiled_sessions(folder: Path) -> Iterator[list[Any]]:
    """Sessions start as always, but with a profile; they are collected in the list."""
    onnxruntime, sessions = import_onnxruntime(), list[Any]()
    start = onnxruntime.InferenceSession

    def start_profiled(model: bytes, options: Any, **others: Any) -> Any:
        options.enable_profiling = True
        options.profile_file_prefix = str(folder / f"session-{len(sessions)}")
        sessions.append(start(model, options, **others))
        return sessions[-1]

    onnxruntime.InferenceSession = start_profiled  # type: ignore[attr-defined]
    try:
        yield sessions
    finally:
        onnxruntime.InferenceSession = start  # type: ignore[attr-defined]


def read_runs(path: Path, vocabulary_size: int) -> list[Tallies]:
    """The operators of each run of a session.

    The events of a run stand before the run's own, those of a body before the If, Loop or Scan that it belongs to.

    Args:
        path: The file that onnxruntime wrote.
        vocabulary_size: Tokens of a language model; 0 for another network.

    Raises:
        BenchError: The file is missing or incomplete.
    """
    runs, ended, tallies = list[Tallies](), list[tuple[int, int]](), Tallies()
    for event in _events(path):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            start, duration, facts = event["ts"], event["dur"], event["args"]
            inside = _take_since(ended, start)
            kind = kind_of(facts["op_name"], _shapes(facts, "input"), _shapes(facts, "output"), vocabulary_size)
            tallies.add(facts["op_name"], kind, (duration - sum(inside)) * _MICROSECOND, len(inside))
            ended.append((start, duration))
        elif event.get("name") == "model_run":
            runs.append(tallies)
            ended, tallies = [], Tallies()
    return runs


def _take_since(events: list[tuple[int, int]], start: int) -> list[int]:
    """Remove the last events that began at a time or later; returns their durations."""
    durations = []
    while events and events[-1][0] >= start:
        durations.append(events.pop()[1])
    return durations


def _shapes(facts: Mapping[str, Any], side: str) -> list[list[int]]:
    """Shapes of the tensors on a side of a node, which onnxruntime writes as `{"float": [1, 192]}`."""
    return [shape for tensor in facts.get(f"{side}_type_shape", ()) for shape in tensor.values()]


def _events(path: Path) -> Iterator[dict[str, Any]]:
    """The events of a file, which has one in each line between brackets."""
    try:
        with path.open() as file:
            line = next(file, "")
            for line in file:
                if line.startswith("{"):
                    yield json.loads(line.rstrip().removesuffix(","))
        if line.strip() != "]":
            raise ValueError("it has no end")
    except (OSError, ValueError) as error:
        raise BenchError(
            f"onnxruntime's profile {path.name} cannot be read ({error}): is the disk of the temporary folder full?"
        ) from error
