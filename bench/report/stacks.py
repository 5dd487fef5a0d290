"""Stacked bars of the report: the kinds of work in a call of each runtime."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from ..profile.kinds import KINDS, OUTSIDE
from ..profile.operator_profile import OperatorProfile
from ..profile.profiles import Profiles
from ..scenario import Scenario
from .charts import shown_seconds
from .operators import Row, kind_rows
from .svg import Part, Scale, stack

_TICKS = 4


@final
@dataclass(frozen=True)
class Stack:
    """The bar of one runtime: a part for each kind of work."""

    profile: OperatorProfile
    parts: Mapping[str, Part]


@final
@dataclass(frozen=True)
class ProfilePanel:
    """Bars and table of one scenario; ticks are percent of the width with a text."""

    scenario: Scenario
    stacks: Sequence[Stack]
    ticks: Sequence[tuple[float, str]]
    rows: Sequence[Row]

    @property
    def kinds(self) -> list[str]:
        """The kinds of work that a runtime does, in order."""
        return [row.kind for row in self.rows if row.kind]


def profile_panel(profiles: Profiles, scenario: Scenario) -> ProfilePanel:
    """The bars and the table of a scenario."""
    columns = profiles.of(scenario)
    scale = Scale.from_zero(profile.seconds for profile in columns)
    return ProfilePanel(
        scenario,
        [
            Stack(profile, dict(zip(profile.kinds, stack(list(profile.kinds.values()), scale), strict=True)))
            for profile in columns
        ],
        [(100 * scale.place(value), shown_seconds(value) if value else "0") for value in scale.ticks(_TICKS)],
        kind_rows(profiles, scenario),
    )


def kind_colors() -> Mapping[str, str]:
    """Kind of work -> its class of colour on the page."""
    return {kind: "cx" if kind == OUTSIDE else f"c{index}" for index, kind in enumerate(KINDS, 1)}
