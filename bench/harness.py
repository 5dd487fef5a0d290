"""The harness: every runtime in a process of its own, verified first, then timed in turn, over several rounds.

torch and onnxruntime in one process fight over threads (https://github.com/microsoft/onnxruntime/issues/13808), and a
shared machine's speed drifts; so each measurement is a fresh process that loads one runtime, and the runtimes take
turns (A B C B C A ...), which keeps the ratios of one round comparable.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from ..runtime.artifact import Artifact, latest_artifact
from ..runtime.errors import OptionError, ProviderError
from ..runtime.providers import provider_named, require_provider
from .contenders import OTHERS, Contender, Contenders, find_contenders
from .environment import describe_environment, load_average
from .floors import Floor
from .processes import CrashError, timed, verified
from .results import Identity, Results
from .runtimes import TORCH
from .scenario import Scenario, chosen_scenarios
from .timing import Round, Timing


@final
@dataclass(frozen=True)
class BenchOptions:
    """What to measure.

    Attributes:
        model: The artifact; None for the latest export. Its siblings in other precisions are measured too.
        providers: Execution providers of the artifact; torch runs on the same kinds of device.
        against: Other runtimes to measure, of `OTHERS`; the first that can run is what the rest is compared with.
        scenarios: What is timed.
        threads: Threads of one call, for every runtime.
        rounds: How often the runtimes take turns.
        seconds: Longest time of one scenario in one round.
    """

    model: Path | None = None
    providers: Sequence[str] = ("cpu",)
    against: Sequence[str] = (TORCH,)
    scenarios: Sequence[Scenario] = field(default_factory=lambda: chosen_scenarios(None, None, None, None))
    threads: int = 1
    rounds: int = 5
    seconds: float = 0.4

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            OptionError: A number is below its minimum, there is nothing to measure, or a provider or a runtime is not
                known.
        """
        for provider in self.providers:
            provider_named(provider)
        for name in self.against:
            if name not in OTHERS:
                raise OptionError(f"runtime {name!r} is not known, expected one of {', '.join(OTHERS)}")
        for name, value in (("threads", self.threads), ("rounds", self.rounds)):
            if value < 1:
                raise OptionError(f"{name} is {value}, expected 1 or more")
        for name, values in (("provider", self.providers), ("scenario", self.scenarios)):
            if not values:
                raise OptionError(f"there is no {name}, expected one at least")
        if not self.seconds > 0:
            raise OptionError(f"seconds is {self.seconds}, expected a positive number")


Say = Callable[[str], None]


def run_bench(options: BenchOptions, say: Say) -> Results:
    """Verify and measure an artifact, its siblings in other precisions, and other runtimes.

    A runtime that does not compute what the original computes is not timed, one that crashes loses its timings; the
    results say so, and the rest goes on.

    Args:
        options: What to measure.
        say: Is told each step, one line a call.

    Raises:
        ProviderError: A provider is not there, or does not run the artifact.
        ArtifactError: There is no export, or it is no artifact.
        BenchError: There is no original beside it.
    """
    for provider in options.providers:
        require_provider(provider_named(provider))
    artifact = options.model or latest_artifact()
    contenders, left_out = find_contenders(artifact, options.providers, options.against, options.threads)
    identity = _identity(artifact, contenders, options)
    contest = _Contest(contenders, left_out, artifact)
    contest.verify(say)
    timings = contest.time(options, say)
    return Results(
        model=artifact,
        identity=identity,
        baseline=next(iter(contest.contenders), ""),
        timings=timings,
        parity=contest.reports,
        placement=contest.placement,
        floors=contest.floors,
        failed=contest.failed,
        crashed=contest.crashed,
        left_out=contest.left_out,
        load_after=load_average(),
    )


def identify(options: BenchOptions) -> Identity:
    """What `run_bench` would measure, known before anything is measured.

    Raises:
        ArtifactError: There is no export, or it is no artifact.
        BenchError: There is no original beside it.
    """
    artifact = options.model or latest_artifact()
    contenders, _ = find_contenders(artifact, options.providers, options.against, options.threads)
    return _identity(artifact, contenders, options)


def _identity(artifact: Path, contenders: Contenders, options: BenchOptions) -> Identity:
    hashes = {name: contender.artifact_sha256 for name, contender in contenders.items()}
    return Identity(
        providers=tuple(options.providers),
        threads=options.threads,
        original=Artifact.read(artifact).parity.get("original_sha256"),
        artifacts={name: sha256 for name, sha256 in hashes.items() if sha256 is not None},
        environment=describe_environment(),
    )


@final
@dataclass
class _Contest:
    """The contenders, and what becomes of them."""

    contenders: Contenders
    left_out: dict[str, str]
    artifact: Path
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    placement: dict[str, Any] = field(default_factory=dict)
    floors: dict[str, Floor] = field(default_factory=dict)
    failed: dict[str, list[str]] = field(default_factory=dict)
    crashed: dict[str, str] = field(default_factory=dict)

    def verify(self, say: Say) -> None:
        """Compare each with the original; those that differ, crash or are refused are contenders no more."""
        for name, contender in list(self.contenders.items()):
            if contender.is_original:
                continue
            say(f"parity of {name} with the original")
            try:
                self._take(name, verified(contender))
            except ProviderError as error:
                if contender.source.artifact == self.artifact:
                    raise
                self.left_out[name] = str(error)
                del self.contenders[name]
            except CrashError as error:
                self._drop(name, error)

    def time(self, options: BenchOptions, say: Say) -> list[Timing]:
        """Time those that passed, in turns; those that crash lose what they had."""
        rounds: dict[tuple[str, Scenario], list[Round]] = {
            (name, scenario): [] for name in self.contenders for scenario in options.scenarios
        }
        for number in range(options.rounds):
            for name, contender in _rotated(self.contenders, number):
                say(f"round {number + 1} of {options.rounds}: {name}")
                try:
                    found = timed(contender, options.scenarios, options.seconds)
                except CrashError as error:
                    self._drop(name, error)
                    continue
                for scenario, measured in found.items():
                    rounds[name, scenario].append(measured)
        return [Timing(name, scenario, found) for (name, scenario), found in rounds.items() if name in self.contenders]

    def _take(self, name: str, report: dict[str, Any]) -> None:
        if "placement" in report:
            self.placement[name] = report.pop("placement")
        if "floor" in report:
            self.floors[name] = Floor(**report.pop("floor"))
        self.reports[name] = report
        if not report["passed"]:
            self.failed[name] = report["failures"]
            del self.contenders[name]

    def _drop(self, name: str, error: CrashError) -> None:
        self.crashed[name] = str(error)
        del self.contenders[name]


def _rotated(contenders: Contenders, number: int) -> list[tuple[str, Contender]]:
    """The runtimes in another order in each round, so that none always follows the same one."""
    turns = list(contenders.items())
    start = number % max(len(turns), 1)
    return turns[start:] + turns[:start]
