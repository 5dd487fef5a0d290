"""The profiles of all runtimes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, final

from ..scenario import Scenario
from .floors import Floors, floor_seconds
from .operator_profile import OperatorProfile


@final
@dataclass(frozen=True)
class Profiles:
    """Where the time of calls goes.

    Attributes:
        profiles: One for each runtime and scenario.
        floors: Runtime -> lower bounds of its layers and its projection, where they are known.
        missing: Runtime -> why it has no profile.
        crashed: Runtime -> how the process ended that profiled it.
    """

    profiles: Sequence[OperatorProfile] = ()
    floors: Mapping[str, Floors] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    crashed: Mapping[str, str] = field(default_factory=dict)

    @property
    def scenarios(self) -> list[Scenario]:
        """The profiled scenarios, in order."""
        return list(dict.fromkeys(profile.scenario for profile in self.profiles))

    def of(self, scenario: Scenario) -> list[OperatorProfile]:
        """The profiles of a scenario, in the runtimes' order."""
        return [profile for profile in self.profiles if profile.scenario == scenario]

    def floor(self, profile: OperatorProfile, kind: str) -> float | None:
        """The shortest time in seconds of a kind of work in a profiled call; None if it is not known."""
        return floor_seconds(self.floors.get(profile.runtime, {}), kind, profile.scenario)

    def to_json(self) -> dict[str, Any]:
        """The profiles, ready for JSON."""
        floors = {
            runtime: {kind: asdict(roofline) for kind, roofline in parts.items()}
            for runtime, parts in self.floors.items()
        }
        profiles = [
            {
                **profile.to_json(),
                "floors": {kind: self.floor(profile, kind) for kind in self.floors.get(profile.runtime, {})},
            }
            for profile in self.profiles
        ]
        return {"profiles": profiles, "floors": floors, "missing": dict(self.missing), "crashed": dict(self.crashed)}
