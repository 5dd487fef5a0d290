"""WorkerPool: scores parts on workers of a Ray cluster; the part of a worker that dies goes to another one.

`ray.util.ActorPool` gives the next task to the actor that has just failed, and an actor that Ray restarts keeps its
task while it waits for a free core. Here only a worker that has loaded the model and is idle gets a part.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import ray
from lmtool.runtime import LmtoolError
from parts import Part, PartScore
from ray.exceptions import RayError, RayTaskError

START_SECONDS = 120.0
"""How long a run without workers waits for one."""


class ClusterError(LmtoolError, RuntimeError):
    """The cluster cannot be reached, or no worker starts."""


@final
@dataclass(frozen=True)
class Outcome:
    """The result of a part: its score, or an error."""

    part: Part
    score: PartScore | None = None
    error: str | None = None


@final
@dataclass(frozen=True)
class _Task:
    """A part that a worker scores; `attempt` counts from 1."""

    worker: Any
    part: Part
    attempt: int


@final
class WorkerPool:
    """Starts workers and gives them parts.

    Attributes:
        retried: Number of parts that were repeated because a worker died.
        seconds: From the first loaded worker to the last part.
    """

    def __init__(
        self,
        worker: type,
        arguments: Sequence[Any],
        count: int | None,
        attempts: int,
        progress: Callable[[str], None],
    ) -> None:
        """Nothing runs yet.

        Args:
            worker: Class of the actors, with `place()` and `score(part)`.
            arguments: Its constructor's arguments.
            count: Number of workers, one core each; None for one on each core of the cluster.
            attempts: How many workers may die with a part.
            progress: Receives a line of text on each event.
        """
        self._actor = ray.remote(num_cpus=1, max_restarts=0, scheduling_strategy="SPREAD")(worker)
        self._arguments = arguments
        self._count = count or max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._attempts = attempts
        self._progress = progress
        self._queue: deque[tuple[Part, int]] = deque()
        self._starting: dict[Any, Any] = {}
        self._tasks: dict[Any, _Task] = {}
        self._idle: list[Any] = []
        self._places: dict[Any, dict[str, Any]] = {}
        self._failed_starts = 0  # in a row
        self._started_at: float | None = None
        self.retried = 0
        self.seconds = 0.0

    def workers(self) -> list[dict[str, Any]]:
        """Each worker that has loaded: node, host, process, and the number of parts and tokens it scored."""
        return list(self._places.values())

    def run(self, parts: Sequence[Part]) -> Iterator[Outcome]:
        """Score the parts; yields outcomes as they arrive.

        Raises:
            ClusterError: No worker starts.
        """
        self._queue.extend((part, 1) for part in parts)
        for _ in range(min(self._count, len(parts))):
            self._start()
        while self._queue or self._tasks:
            while self._idle and self._queue:
                self._assign(self._idle.pop(), *self._queue.popleft())
            yield from self._wait()
        self.seconds = time.monotonic() - (self._started_at or time.monotonic())

    def _start(self) -> None:
        worker = self._actor.remote(*self._arguments)
        self._starting[worker.place.remote()] = worker

    def _assign(self, worker: Any, part: Part, attempt: int) -> None:
        self._tasks[worker.score.remote(part)] = _Task(worker, part, attempt)

    def _wait(self) -> Iterator[Outcome]:
        """Wait until a worker has loaded or has finished a part."""
        done, _ = ray.wait([*self._starting, *self._tasks], timeout=START_SECONDS)
        if not done and not self._tasks:
            raise ClusterError(
                f"no worker started in {START_SECONDS:.0f} s; a worker needs a core, and the cluster has "
                f"{ray.available_resources().get('CPU', 0):g} idle ones"
            )
        for reference in done:
            if reference in self._starting:
                self._handle_started(reference)
            else:
                yield from self._handle_done(reference)

    def _handle_started(self, reference: Any) -> None:
        worker = self._starting.pop(reference)
        try:
            place = ray.get(reference)
        except RayError as error:
            return self._restart(error)
        self._failed_starts = 0
        self._places[worker] = {**place, "parts": 0, "tokens": 0}
        self._idle.append(worker)
        self._started_at = self._started_at or time.monotonic()
        return self._progress(f"worker {place['pid']} on {place['host']} ({place['node'][:8]}) has loaded the model")

    def _restart(self, error: RayError) -> None:
        """Replace a worker that could not start; after `attempts` failures in a row, continue with the others."""
        self._failed_starts += 1
        self._progress(f"a worker could not start: {_reason(error)}")
        if self._failed_starts < self._attempts:
            return self._start()
        if not (self._starting or self._tasks or self._idle):
            raise ClusterError(f"workers cannot start: {_reason(error)}") from error
        return None

    def _handle_done(self, reference: Any) -> Iterator[Outcome]:
        task = self._tasks.pop(reference)
        try:
            result = ray.get(reference)
        except RayTaskError:
            raise  # a bug in this program
        except RayError as error:
            yield from self._handle_lost(task, error)
            return
        self._idle.append(task.worker)
        if isinstance(result, str):
            yield Outcome(task.part, error=result)
        else:
            place = self._places[task.worker]
            place["parts"] += 1
            place["tokens"] += result.tokens
            yield Outcome(task.part, result)

    def _handle_lost(self, task: _Task, error: RayError) -> Iterator[Outcome]:
        """Queue the part of a dead worker again, and start another worker."""
        ray.kill(task.worker)
        name = f"{task.part.file} from {task.part.start:,}"
        self._progress(f"worker {self._places[task.worker]['pid']} was lost with {name}: {_reason(error)}")
        self._start()
        if task.attempt < self._attempts:
            self.retried += 1
            self._queue.append((task.part, task.attempt + 1))
        else:
            yield Outcome(task.part, error=f"{name} was not scored: workers died with it, {task.attempt} in a row")


def _reason(error: RayError) -> str:
    """The last non-empty line of Ray's message."""
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
