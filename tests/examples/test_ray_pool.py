"""The Ray example's pool of workers on a stand-in for Ray, whose workers start and die as tests configure."""

import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "ray"


class RayError(Exception):
    """Ray's error for a lost worker."""


class RayTaskError(RayError):
    """Ray's error for an exception in a worker."""


@dataclass
class StandIn:
    """A cluster that runs requests one at a time, in order.

    Attributes:
        starts: Whether each next worker starts; all workers do once the list is empty.
        parts: Whether each next part is scored; all parts are once the list is empty.
        started: Number of workers that were asked to start.
    """

    starts: list[bool] = field(default_factory=list)
    parts: list[bool] = field(default_factory=list)
    started: int = 0

    def remote(self, **_: Any) -> Callable[[type], Any]:
        return lambda _: SimpleNamespace(remote=self._start)

    def _start(self, *_: Any) -> Any:
        self.started += 1
        outcome = {"node": "0123456789", "host": "here", "pid": self.started} if self._next(self.starts) else None
        return Actor(place=self._method(lambda: outcome), score=self._method(self._score))

    def _score(self, part: Any) -> Any:
        return SimpleNamespace(part=part, tokens=3) if self._next(self.parts) else None

    @staticmethod
    def _next(outcomes: list[bool]) -> bool:
        return outcomes.pop(0) if outcomes else True

    @staticmethod
    def _method(answer: Callable[..., Any]) -> Any:
        return SimpleNamespace(remote=lambda *arguments: Reference(answer, arguments))

    def wait(self, references: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        assert timeout > 0
        assert references, "Ray refuses an empty list"
        first = min(references, key=lambda reference: reference.number)
        return [first], [reference for reference in references if reference is not first]

    def get(self, reference: "Reference") -> Any:
        answer = reference.answer(*reference.arguments)
        if answer is None:
            raise RayError("the account of it:\nthe worker died\n")
        return answer

    def kill(self, _: Any) -> None:
        return None

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0}


@dataclass(eq=False)
class Actor:
    """The handle of a worker, compared by identity."""

    place: Any
    score: Any


class Reference:
    """A reference to a future result; `number` is the order of creation."""

    count = 0

    def __init__(self, answer: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        Reference.count += 1
        self.number, self.answer, self.arguments = Reference.count, answer, arguments


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    names = ("remote", "wait", "get", "kill", "cluster_resources")
    ray = ModuleType("ray")
    vars(ray).update({name: getattr(stand_in, name) for name in names})
    exceptions = ModuleType("ray.exceptions")
    vars(exceptions).update(RayError=RayError, RayTaskError=RayTaskError)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.exceptions", exceptions)
    return stand_in


@pytest.fixture
def pool(cluster: StandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(EXAMPLE)
    monkeypatch.delitem(sys.modules, "pool", raising=False)
    yield importlib.import_module("pool")
    del sys.modules["pool"]  # it holds the stand-in


@dataclass
class Run:
    """The results of a run."""

    scored: list[Any]
    errors: list[str]
    messages: list[str]
    workers: int
    retried: int


def run_pool(pool: ModuleType, parts: int, workers: int = 2) -> Run:
    messages: list[str] = []
    worker_pool = pool.WorkerPool(object, (), workers, attempts=3, progress=messages.append)
    outcomes = list(worker_pool.run([SimpleNamespace(file="text", start=number) for number in range(parts)]))
    scored = sorted(outcome.part.start for outcome in outcomes if outcome.error is None)
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    return Run(scored, errors, messages, len(worker_pool.workers()), worker_pool.retried)


def test_all_parts_are_scored(pool: ModuleType) -> None:
    run = run_pool(pool, 7)
    assert (run.scored, run.errors, run.workers, run.retried) == ([*range(7)], [], 2, 0)


def test_occasional_failed_starts_do_not_end_a_long_run(pool: ModuleType, cluster: StandIn) -> None:
    cluster.starts = [True, True] + [False, False, True] * 5
    cluster.parts = [True, False] * 5
    run = run_pool(pool, 12)
    assert (run.scored, run.errors, run.workers, run.retried) == ([*range(12)], [], 7, 5)
    assert run.messages.count("a worker could not start: the worker died") == 10


def test_after_repeated_failed_starts_the_running_workers_finish(pool: ModuleType, cluster: StandIn) -> None:
    cluster.starts = [True, False, False, False]
    run = run_pool(pool, 12)
    assert (run.scored, run.errors, run.workers) == ([*range(12)], [], 1)
    assert cluster.started == 4


def test_the_pool_waits_for_a_starting_worker(pool: ModuleType, cluster: StandIn) -> None:
    cluster.starts = [False, False, False, True]
    run = run_pool(pool, 5)
    assert (run.scored, run.errors, run.workers) == ([*range(5)], [], 1)


def test_the_run_ends_if_no_worker_starts(pool: ModuleType, cluster: StandIn) -> None:
    cluster.starts = [False] * 9
    with pytest.raises(pool.ClusterError, match="workers cannot start: the worker died"):
        run_pool(pool, 5)
    assert cluster.started == 4


def test_the_run_ends_if_the_last_worker_dies_and_none_starts(pool: ModuleType, cluster: StandIn) -> None:
    cluster.starts = [True, *[False] * 9]
    cluster.parts = [True, True, False]
    with pytest.raises(pool.ClusterError, match="workers cannot start"):
        run_pool(pool, 9)


def test_a_part_that_kills_each_worker_is_given_up(pool: ModuleType, cluster: StandIn) -> None:
    cluster.parts = [False, False, False]
    run = run_pool(pool, 1)
    assert run.errors == ["text from 0 was not scored: workers died with it, 3 in a row"]
    assert (run.scored, run.retried) == ([], 2)
