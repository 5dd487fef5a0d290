"""Scenarios to time, with MLPerf's names (arXiv 1911.02549) where it has one."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import final

from ..runtime.errors import OptionError, counted

_MOST_TOKENS = 1 << 16
"""Tokens of one call: with a vocabulary of 10,000 their logits take 2.6 GB."""

KINDS = (
    "single-stream",
    "multi-stream",
    "offline",
    "prefill",
    "generation",
    "suggest",
    "pool",
    "load",
    "first-step",
    "server",
)
"""Kinds of scenario, in the order of the results."""

APPLICATION_KINDS = ("generation", "suggest", "pool")
"""Kinds that make the calls of applications over the predictor of each backend, in turns with bare session calls."""

CALL_KINDS = ("single-stream", "multi-stream", "offline", "prefill")
"""Kinds whose calls are calls of a backend, and nothing else: they can be profiled."""

TOKEN, STEP = "token", "step"
"""What a call reads of each stream: of a language model, and of another network."""

_SHAPED = ("offline", "prefill", "pool")
_SIZES = {
    "multi-stream": r":(?P<batch_size>\d{1,9})",
    **dict.fromkeys(_SHAPED, r":(?P<batch_size>\d{1,9})x(?P<time>\d{1,9})"),
    "generation": r":(?P<time>\d{1,9})",
    "server": r":(?P<rate>\d{1,9})",
}
_FORMS = (
    "single-stream, multi-stream:BATCH, offline:BATCHxTIME, prefill:BATCHxTIME, generation:TIME, suggest, "
    "pool:JOBSxTIME, load, first-step, server:RATE"
)
_BATCHES, _PROFILED_BATCHES = (8, 64, 256), (64,)
_TIMES = (128,)
_PREFILLED = 512
_GENERATED = 128
_POOLED = (64, 32)


@final
@dataclass(frozen=True)
class Scenario:
    """A workload to time: its kind and sizes.

    Attributes:
        kind: One of `KINDS`.
        batch_size: Streams in a call, or jobs of a pool.
        time: Tokens that each of them reads, or generates.
        rate: Requests a second that arrive at a server; 0 for other kinds.

    Raises:
        OptionError: The kind is unknown, or a size is outside its range.
    """

    kind: str
    batch_size: int = 1
    time: int = 1
    rate: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise OptionError(f"scenario {self.kind!r} is not known, expected one of {', '.join(KINDS)}")
        if min(self.batch_size, self.time) < 1:
            raise OptionError(f"the scenario {self} has a size below 1")
        if self.batch_size * self.time > _MOST_TOKENS:
            raise OptionError(f"the scenario {self} has more tokens in a call than {_MOST_TOKENS:,}")
        if (self.rate > 0) != (self.kind == "server"):
            raise OptionError(f"the scenario {self} has {self.rate} requests a second, expected 1 or more for a server")

    @classmethod
    def parse(cls, text: str) -> "Scenario":
        """Read the form that `str` returns, `multi-stream:64` for example.

        Raises:
            OptionError: The text has another form.
        """
        kind = text.partition(":")[0]
        match = re.fullmatch(_SIZES.get(kind, ""), text.removeprefix(kind), re.ASCII) if kind in KINDS else None
        if match is None:
            raise OptionError(f"the scenario {text!r} has an unknown form, expected one of: {_FORMS}")
        return cls(kind, **{name: int(size) for name, size in match.groupdict().items()})

    def __str__(self) -> str:
        if self.kind in _SHAPED:
            return f"{self.kind}:{self.batch_size}x{self.time}"
        sizes = {
            "multi-stream": f":{self.batch_size}",
            "generation": f":{self.time}",
            "server": f":{self.rate}",
        }
        return self.kind + sizes.get(self.kind, "")

    @property
    def shape(self) -> tuple[int, int] | None:
        """Batch and time of a call; None for one token."""
        if self.kind in ("multi-stream", "offline", "prefill"):
            return self.batch_size, self.time
        return (self.batch_size, 1) if self.kind in APPLICATION_KINDS else None

    @property
    def tokens(self) -> int:
        """Tokens read or generated in one call; 0 for `suggest`, `load` and `first-step`."""
        return 0 if self.kind in ("suggest", "load", "first-step") else self.batch_size * self.time

    def named(self, unit: str = TOKEN) -> str:
        """Kind and sizes in words; `unit` is what a call reads of each stream."""
        batch = f"batch {self.batch_size}, " if self.batch_size > 1 else ""
        return {
            "single-stream": f"single-stream: batch 1, one {unit} a call",
            "multi-stream": f"multi-stream: batch {self.batch_size}, one {unit} a call",
            "offline": f"offline: {batch}{'text scored in chunks of ' * (unit == TOKEN)}{counted(self.time, unit)}"
            + " a call" * (unit != TOKEN),
            "prefill": f"prefill: {batch}{self.time} tokens, logits of the last one",
            "generation": f"generation: {self.time} tokens of a text, drawn among the 40 most probable",
            "suggest": "suggest: a line typed key by key, five suggestions after each",
            "pool": f"pool: {self.batch_size} texts of {self.time} tokens at once, drawn as in generation",
            "load": "load: from the file to a session",
            "first-step": f"first step: one {unit}, just after loading",
            "server": f"server: {self.rate:,} requests of one token a second, at random times",
        }[self.kind]


def scenarios_of(
    kinds: Iterable[str], batches: Sequence[int], times: Sequence[int], rates: Sequence[int]
) -> list[Scenario]:
    """The scenarios of these kinds, without duplicates.

    Args:
        kinds: Some of `KINDS`, in any order.
        batches: Streams in a multi-stream call.
        times: Tokens in a chunk of an offline text.
        rates: Requests a second of a server.

    Raises:
        OptionError: A kind is unknown or has no sizes, or a size is below 1.
    """
    wanted = list(kinds)
    scenarios = {
        "single-stream": [Scenario("single-stream")],
        "multi-stream": [streams(batch) for batch in batches],
        "offline": [Scenario("offline", 1, time) for time in times],
        "prefill": [Scenario("prefill", 1, _PREFILLED)],
        "generation": [Scenario("generation", time=_GENERATED)],
        "suggest": [Scenario("suggest")],
        "pool": [Scenario("pool", *_POOLED)],
        "load": [Scenario("load")],
        "first-step": [Scenario("first-step")],
        "server": [Scenario("server", rate=rate) for rate in rates],
    }
    for kind in wanted:
        if kind not in scenarios:
            raise OptionError(f"scenario {kind!r} is not known, expected one of {', '.join(KINDS)}")
        if not scenarios[kind]:
            raise OptionError(f"the scenario {kind} needs a size; for a server name its requests a second: --rate 500")
    return list(dict.fromkeys(scenario for kind in KINDS if kind in wanted for scenario in scenarios[kind]))


def chosen_scenarios(
    names: Sequence[str] | None,
    batches: Sequence[int] | None,
    times: Sequence[int] | None,
    rates: Sequence[int] | None,
    *,
    profile: bool = False,
) -> list[Scenario]:
    """The scenarios of the command line.

    Names are kinds, or scenarios with their sizes (`multi-stream:64`); None means every kind (server only with rates),
    of a profile those of `CALL_KINDS` with fewer batches. The sizes are those of `scenarios_of`.

    Raises:
        OptionError: As for `scenarios_of`, or a size belongs to a kind that is not chosen.
    """
    usual = [kind for kind in KINDS if kind in CALL_KINDS or not profile]
    names = names or [kind for kind in usual if kind != "server"] + ["server"] * bool(rates)
    kinds = [name for name in names if ":" not in name]
    for kind, option, given in (
        ("multi-stream", "batch", batches),
        ("offline", "time", times),
        ("server", "rate", rates),
    ):
        if given and kind not in kinds:
            raise OptionError(f"--{option} is a size of {kind}, which is not among the scenarios: --scenario {kind}")
    batches = batches or (_PROFILED_BATCHES if profile else _BATCHES)
    scenarios = scenarios_of(kinds, batches, times or _TIMES, rates or ())
    return list(dict.fromkeys([*scenarios, *(Scenario.parse(name) for name in names if ":" in name)]))


def streams(batch_size: int) -> Scenario:
    """One token a call for each of `batch_size` streams: single-stream or multi-stream."""
    return Scenario("multi-stream", batch_size) if batch_size != 1 else Scenario("single-stream")
