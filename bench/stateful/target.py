"""A stateful network as the target of a benchmark."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from ...export.doctor.axes import BATCH, TIME
from ...runtime.errors import LmtoolError
from ...runtime.stateful.stateful_session import StatefulSession
from ..backends.registry import BACKENDS, ONNXRUNTIME
from ..backends.source import Source, StatefulCalls
from ..backends.stateful import STATEFUL
from ..candidates import CPU_ONLY, Candidate, Candidates, Skipped, runtime_name
from ..errors import BenchError
from ..scenario import STEP, Scenario
from .feeds import Feed, Shape, write_feeds
from .network import StatefulNetwork

_KINDS = ("single-stream", "multi-stream", "offline", "load", "first-step")
_FEEDS = "feeds.safetensors"


@final
class StatefulTarget:
    """A recurrent ONNX file of any exporter as a `Target`."""

    def __init__(
        self,
        model: Path,
        states: Mapping[str, str] | None,
        inputs: Mapping[str, str],
        providers: Sequence[str],
        against: Sequence[str] | None,
        threads: int,
        folder: Path,
    ) -> None:
        """Read the file.

        Args:
            model: The file.
            states: State input -> output, where neither the graph nor names tell.
            inputs: Input -> its sizes or file, as `GivenInput.parse` reads them.
            providers: Execution providers of onnxruntime.
            against: Other backends; None for none.
            threads: Threads of one call.
            folder: For the inputs of all calls.

        Raises:
            StorageError: A file cannot be read.
            ArtifactError: It is no ONNX file, is damaged, or has nothing recurrent.
            OptionError: `states` or `inputs` do not fit it.
            BenchError: onnxruntime refuses it, or no sizes were found at which it runs.
        """
        self.model = self.required = model
        self.unit = STEP
        self.original: str | None = None
        self.training: Mapping[str, Any] = {}
        self._network = network = StatefulNetwork(model, states, inputs)
        self.calls: Mapping[str, Any] = network.describe()
        self._feeds = folder / _FEEDS
        self._provider, self._threads = providers[0], threads
        calls = StatefulCalls(network.states, network.outputs, self._feeds, network.tolerance)
        self.candidates: Candidates = {}
        self.skipped: Skipped = {}
        for provider in dict.fromkeys(providers):
            source = Source(model, None, provider, threads, calls)
            for backend in dict.fromkeys([*(against or ()), ONNXRUNTIME]):
                name, reason = runtime_name(backend, provider), _reason_to_skip(backend, provider)
                if reason is None:
                    self.candidates[name] = Candidate(backend, source)
                else:
                    self.skipped[name] = reason

    def possible(self, scenarios: Sequence[Scenario]) -> tuple[list[Scenario], Skipped]:
        """The scenarios whose sizes onnxruntime takes; writes the inputs of their calls.

        Where the file fixes the batch, its size is that of a multi-stream scenario, and of loads and first steps.
        """
        fixed = self._network.fixed(BATCH) or 1
        has_streams = any(scenario.kind == "multi-stream" for scenario in scenarios)
        streams = [Scenario("multi-stream", fixed)] if has_streams and fixed > 1 else []
        wanted = list(dict.fromkeys([*scenarios, *streams]))
        session = StatefulSession.load(
            self.model, self._network.states, provider=self._provider, threads=self._threads, fold_constants=True
        )
        feeds: dict[Shape, Feed] = {}
        skipped: Skipped = {}
        for scenario in wanted:
            try:
                self._require_possible(scenario, fixed)
                feed = self._network.feed(max(scenario.batch_size, fixed), scenario.time)
                session.run(next(feed.endless()), feed.states)
            except LmtoolError as error:
                skipped[str(scenario)] = str(error)
            else:
                feeds[scenario.batch_size, scenario.time] = feed
        write_feeds(self._feeds, feeds)
        return [scenario for scenario in wanted if str(scenario) not in skipped], skipped

    def _require_possible(self, scenario: Scenario, fixed_batch: int) -> None:
        """Raise BenchError for a scenario of language models, or of a batch or time that the inputs do not have."""
        if scenario.kind not in _KINDS:
            raise BenchError("it is a scenario of language models")
        if scenario.kind not in ("load", "first-step") and fixed_batch not in (1, scenario.batch_size):
            time = f"x{scenario.time}" * (scenario.kind == "offline")
            fitting = f"{'offline' if time else 'multi-stream'}:{fixed_batch}{time}"
            raise BenchError(f"the file fixes the batch at {fixed_batch}: --scenario {fitting}")
        if scenario.time > 1 and self._network.fixed(TIME) is not None:
            raise BenchError(f"the file fixes the time at {self._network.fixed(TIME)}")
        needed = {"multi-stream": BATCH, "offline": TIME}.get(scenario.kind)
        if needed is not None and not self._network.has(needed):
            raise BenchError(f"no axis of its inputs is known as the {needed}; say which, as --input NAME={needed},80")


def _reason_to_skip(backend: str, provider: str) -> str | None:
    """Why a backend cannot be measured; None if it can."""
    if backend not in STATEFUL:
        return "it runs language models only"
    if BACKENDS[backend].cpu_only and provider != "cpu":
        return CPU_ONLY
    return BACKENDS[backend].reason_missing()
