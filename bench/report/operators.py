"""Where the time of calls goes: kinds of work beside each other, then every operator of each runtime."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from ...runtime.io.text_table import text_table
from ..profile.kinds import KINDS
from ..profile.operator_profile import OperatorProfile
from ..profile.profiles import Profiles
from ..results import Results
from ..scenario import Scenario

OPERATOR_HEADER = ("runtime", "operator", "kind", "runs", "us", "share", "reported us")


@final
@dataclass(frozen=True)
class Row:
    """A kind of work: its name, its microseconds and share in each runtime, and how far they are from the floor.

    Attributes:
        kind: One of `KINDS`; empty for other rows.
        name: The row's name.
        cells: A text for each runtime.
        floors: The floor and the times over it for each runtime; empty if none is known.
    """

    kind: str
    name: str
    cells: Sequence[str]
    floors: Sequence[str] = ()


def kind_rows(profiles: Profiles, scenario: Scenario) -> list[Row]:
    """A row for each kind of work that a runtime does in a scenario, and two for the whole call."""
    columns = profiles.of(scenario)
    rows = [
        Row(
            kind,
            name,
            [_part(profile, profile.kinds.get(kind)) for profile in columns],
            _floors(profiles, columns, kind),
        )
        for kind, name in KINDS.items()
        if any(kind in profile.kinds for profile in columns)
    ]
    rows.append(Row("", "the call", [_part(profile, profile.seconds) for profile in columns]))
    return [*rows, Row("", "under the profiler", [_micro(profile.profiled_seconds) for profile in columns])]


def operator_rows(profiles: Profiles, scenario: Scenario) -> list[tuple[str, ...]]:
    """A row for each operator of each runtime, in the columns of `OPERATOR_HEADER`."""
    return [
        (
            profile.runtime,
            operator.operator,
            KINDS[operator.kind],
            f"{operator.events:,.0f}",
            _micro(operator.seconds),
            f"{operator.seconds / profile.seconds:.1%}",
            _micro(operator.reported_seconds),
        )
        for profile in profiles.of(scenario)
        for operator in profile.operators
    ]


def format_profiles(results: Results, width: int | None) -> list[str]:
    """The lines of the profiles, in `width` columns (None: no limit); none without profiles."""
    profiles = results.profiles
    if profiles is None:
        return []
    lines = [line for scenario in profiles.scenarios for line in _block(results, profiles, scenario, width)]
    lines += [f"no profile of {runtime}: {reason}" for runtime, reason in profiles.missing.items()]
    return [*lines, *(f"! profile of {name}: CRASHED: {reason}" for name, reason in profiles.crashed.items())]


def doubts(profiles: Profiles) -> list[str]:
    """Reasons to doubt the shares, one sentence each."""
    slowed = {_name(each): each.profiled_seconds / each.seconds for each in profiles.profiles if each.is_slowed}
    unsteady = {_name(each): 1 / each.scale for each in profiles.profiles if each.is_unsteady}
    return [
        f"{reason}, so shares of {worst}: " + ", ".join(f"{name} {ratio:.1f}x" for name, ratio in ratios.items())
        for ratios, reason, worst in (
            (slowed, "calls under the profiler take more than twice as long", "short operators are rough"),
            (unsteady, "calls under the profiler take another time even without its cost", "all operators are rough"),
        )
        if ratios
    ]


def _name(profile: OperatorProfile) -> str:
    return f"{profile.runtime} ({profile.scenario})"


def _block(results: Results, profiles: Profiles, scenario: Scenario, width: int | None) -> list[str]:
    table = [["us of a call", *(profile.runtime for profile in profiles.of(scenario))]]
    for row in kind_rows(profiles, scenario):
        table.append([row.name, *row.cells])
        table += [["  floor", *row.floors]] if row.floors else []
    return [
        f"where the time goes, {scenario.named(results.unit)}",
        *text_table(table, "<>", "  ", width),
        "",
        *text_table([OPERATOR_HEADER, *operator_rows(profiles, scenario)], "<<<>", "  ", width),
        "",
    ]


def _floors(profiles: Profiles, columns: Sequence[OperatorProfile], kind: str) -> list[str]:
    floors = [profiles.floor(profile, kind) for profile in columns]
    cells = [_floor(profile, kind, floor) for profile, floor in zip(columns, floors, strict=True)]
    return cells if any(cells) else []


def _floor(profile: OperatorProfile, kind: str, floor: float | None) -> str:
    """The floor, and how many times it the runtime takes; empty where one of them is not known."""
    if not floor:
        return ""
    times = f"{profile.kinds[kind] / floor:.1f}x" if kind in profile.kinds else ""
    return f"{_micro(floor)} {times:>5}"


def _part(profile: OperatorProfile, seconds: float | None) -> str:
    return "" if seconds is None else f"{_micro(seconds)} {seconds / profile.seconds:>5.0%}"


def _micro(seconds: float) -> str:
    """Microseconds with a decimal where they are few."""
    value = 1e6 * seconds
    return f"{value:,.1f}" if value < 99.95 else f"{value:,.0f}"
