"""Workers of a Ray cluster that may die, and the parts that they are given: a part of a dead one goes to another.

`ray.util.ActorPool` hands the next task to the actor that has just failed, and an actor that Ray restarts waits for
room in the cluster with its task in its hand. Here a part is given only to a worker that has loaded and is idle.
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
"""How long the run waits for a worker where it has none."""


class ClusterError(LmtoolError, RuntimeError):
    """The cluster gives no worker, or workers cannot load the model."""


@final
@dataclass(frozen=True)
class Outcome:
    """What became of a part: its score, or why there is none."""

    part: Part
    score: PartScore | None = None
    error: str | None = None


@final
@dataclass(frozen=True)
class _Task:
    """A part in a worker's hands, for the `attempt`-th time."""

    worker: Any
    part: Part
    attempt: int


@final
class WorkerPool:
    """Gives parts to workers.

    Attributes:
        retried: How many times a part was given away again.
        seconds: From the first worker that had loaded to the last part.
    """

    def __init__(
        self,
        worker: type,
        arguments: Sequence[Any],
        count: int | None,
        attempts: int,
        say: Callable[[str], None],
    ) -> None:
        """Nothing runs yet.

        Args:
            worker: The class of the actors, with `place()` and `score(part)`.
            arguments: What they are made with.
            count: How many of them, one core each; None for one on each core of the cluster.
            attempts: How often a part is given to a worker that dies with it.
            say: Takes a line for people.
        """
        self._actor = ray.remote(num_cpus=1, max_restarts=0, scheduling_strategy="SPREAD")(worker)
        self._arguments = arguments
        self._count = count or max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._attempts = attempts
        self._say = say
        self._waiting: deque[tuple[Part, int]] = deque()
        self._starting: dict[Any, Any] = {}
        self._tasks: dict[Any, _Task] = {}
        self._idle: list[Any] = []
        self._places: dict[Any, dict[str, Any]] = {}
        self._failed_starts = 0  # in a row
        self._begun: float | None = None
        self.retried = 0
        self.seconds = 0.0

    def workers(self) -> list[dict[str, Any]]:
        """Each worker that loaded: node, host, process, and how many parts and tokens it scored."""
        return list(self._places.values())

    def run(self, parts: Sequence[Part]) -> Iterator[Outcome]:
        """Score the parts; their outcomes as they come.

        Raises:
            ClusterError: No worker starts.
        """
        self._waiting.extend((part, 1) for part in parts)
        for _ in range(min(self._count, len(parts))):
            self._start()
        while self._waiting or self._tasks:
            while self._idle and self._waiting:
                self._give(self._idle.pop(), *self._waiting.popleft())
            yield from self._wait()
        self.seconds = time.monotonic() - (self._begun or time.monotonic())

    def _start(self) -> None:
        worker = self._actor.remote(*self._arguments)
        self._starting[worker.place.remote()] = worker

    def _give(self, worker: Any, part: Part, attempt: int) -> None:
        self._tasks[worker.score.remote(part)] = _Task(worker, part, attempt)

    def _wait(self) -> Iterator[Outcome]:
        """Wait until a worker has loaded or has done with a part."""
        done, _ = ray.wait([*self._starting, *self._tasks], timeout=START_SECONDS)
        if not done and not self._tasks:
            raise ClusterError(
                f"no worker started in {START_SECONDS:.0f} s; a worker needs a core, and the cluster has "
                f"{ray.available_resources().get('CPU', 0):g} idle ones"
            )
        for reference in done:
            if reference in self._starting:
                self._take_started(reference)
            else:
                yield from self._take_done(reference)

    def _take_started(self, reference: Any) -> None:
        worker = self._starting.pop(reference)
        try:
            place = ray.get(reference)
        except RayError as error:
            return self._start_again(error)
        self._failed_starts = 0
        self._places[worker] = {**place, "parts": 0, "tokens": 0}
        self._idle.append(worker)
        self._begun = self._begun or time.monotonic()
        return self._say(f"worker {place['pid']} on {place['host']} ({place['node'][:8]}) has loaded the model")

    def _start_again(self, error: RayError) -> None:
        """Start another worker in place of one that could not; after too many of them, go on with those there are."""
        self._failed_starts += 1
        self._say(f"a worker could not start: {_reason(error)}")
        if self._failed_starts < self._attempts:
            return self._start()
        if not (self._starting or self._tasks or self._idle):
            raise ClusterError(f"workers cannot start: {_reason(error)}") from error
        return None

    def _take_done(self, reference: Any) -> Iterator[Outcome]:
        task = self._tasks.pop(reference)
        try:
            found = ray.get(reference)
        except RayTaskError:
            raise  # a mistake in this program
        except RayError as error:
            yield from self._lost(task, error)
            return
        self._idle.append(task.worker)
        if isinstance(found, str):
            yield Outcome(task.part, error=found)
        else:
            place = self._places[task.worker]
            place["parts"] += 1
            place["tokens"] += found.tokens
            yield Outcome(task.part, found)

    def _lost(self, task: _Task, error: RayError) -> Iterator[Outcome]:
        """Give the part of a dead worker to another one, and start a worker in its place."""
        ray.kill(task.worker)
        name = f"{task.part.file} from {task.part.start:,}"
        self._say(f"worker {self._places[task.worker]['pid']} was lost with {name}: {_reason(error)}")
        self._start()
        if task.attempt < self._attempts:
            self.retried += 1
            self._waiting.append((task.part, task.attempt + 1))
        else:
            yield Outcome(task.part, error=f"{name} was not scored: workers died with it, {task.attempt} in a row")


def _reason(error: RayError) -> str:
    """The last line of Ray's account that says something."""
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
