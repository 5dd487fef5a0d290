"""Results of runs by MLPerf's rules."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, final

from .settings import OFFICIAL_SECONDS


@final
@dataclass(frozen=True)
class Audit:
    """One check of a run.

    Attributes:
        name: `TEST01` or `TEST04`, after MLPerf's tests.
        passed: Whether nothing speaks against the run.
        found: What was measured, in words.
    """

    name: str
    passed: bool
    found: str

    @property
    def verdict(self) -> str:
        """The outcome in a word."""
        return "passed" if self.passed else "FAILED"


@final
@dataclass(frozen=True)
class MlperfRun:
    """A run of LoadGen.

    Attributes:
        runtime: Name of the runtime.
        scenario: single-stream, multi-stream, offline or server.
        valid: LoadGen's verdict; a server's run that refused a query is not valid either.
        invalid_reasons: Why it is not.
        metric: The scenario's metric: early-stopping estimate of the 90th (single-stream) or 99th (multi-stream)
            percentile in seconds; samples a second (offline); completed samples a second (server).
        queries: Number of queries; of samples in `offline`.
        batch: Samples in a call; most of them in `server`.
        mean_seconds: Mean latency.
        percentiles: Percent -> seconds; of queries in `multi-stream`.
        rate: Requests a second that arrived at a server; None in other scenarios.
        highest_valid_rate: Of a server: the highest rate that was valid; None if none was.
        lowest_invalid_rate: The lowest rate that was not.
        probes: The runs of the search: rate, seconds, valid.
        warnings: Why the figures are doubtful.
        peak_bytes: Peak resident set of the process that computes.
        audits: Checks of the run.
    """

    runtime: str
    scenario: str
    valid: bool
    invalid_reasons: Sequence[str]
    metric: float | None
    queries: int
    batch: int
    mean_seconds: float
    percentiles: Mapping[str, float]
    rate: float | None = None
    highest_valid_rate: float | None = None
    lowest_invalid_rate: float | None = None
    probes: Sequence[Mapping[str, Any]] = ()
    warnings: Sequence[str] = ()
    peak_bytes: int | None = None
    audits: Sequence[Audit] = ()

    @property
    def failed_audits(self) -> list[Audit]:
        """Audits that did not pass."""
        return [audit for audit in self.audits if not audit.passed]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "MlperfRun":
        """Read what `asdict` gave."""
        return cls(**{**value, "audits": [Audit(**audit) for audit in value["audits"]]})


@final
@dataclass
class MlperfResults:
    """All runs of a benchmark.

    Attributes:
        seconds: Least duration of each run.
        latency_bound: Seconds within which a server must answer 99 of 100 queries.
        loadgen: Version of LoadGen.
        text: Where the samples are from.
        runs: The runs.
        failed: Runtime and scenario -> why there is no result.
        unsaved: Runtime and scenario -> why LoadGen's logs could not be kept.
        summaries: Their summaries by LoadGen, by runtime and scenario: to be printed.
    """

    seconds: float
    latency_bound: float
    loadgen: str
    text: str
    runs: list[MlperfRun] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    unsaved: dict[str, str] = field(default_factory=dict)
    summaries: dict[str, str] = field(default_factory=dict)

    @property
    def keeps_rules(self) -> bool:
        """Whether each run lasts as long as MLPerf's rules ask for."""
        return self.seconds >= OFFICIAL_SECONDS

    @property
    def is_sound(self) -> bool:
        """Whether every run ended and passed its audits."""
        return not self.failed and not any(run.failed_audits for run in self.runs)

    def to_json(self) -> dict[str, Any]:
        """The results, ready for JSON."""
        values = asdict(self)
        del values["summaries"]
        return {**values, "keeps_rules": self.keeps_rules}
