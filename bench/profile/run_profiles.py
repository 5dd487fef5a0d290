"""Profile candidates: each in a separate process, after its times are taken."""

from collections.abc import Mapping, Sequence

from ...runtime.errors import OptionError
from ..candidates import Candidates
from ..roofline import Roofline
from ..scenario import CALL_KINDS, Scenario
from ..verification import Progress
from ..workers.launch import CrashError, RefusedError, run_profile_job
from .floors import floors_of
from .operator_profile import OperatorProfile
from .profiles import Profiles


def profiled_scenarios(scenarios: Sequence[Scenario]) -> list[Scenario]:
    """The scenarios that can be profiled.

    Raises:
        OptionError: None of them makes calls of a backend.
    """
    profiled = [scenario for scenario in scenarios if scenario.kind in CALL_KINDS]
    if not profiled:
        found = ", ".join(map(str, scenarios))
        raise OptionError(f"a profile needs a scenario of calls: {', '.join(CALL_KINDS)}; found {found}")
    return profiled


def run_profiles(
    candidates: Candidates,
    scenarios: Sequence[Scenario],
    rooflines: Mapping[str, Roofline],
    seconds: float,
    progress: Progress,
) -> Profiles:
    """Profile verified candidates in the scenarios that have calls, each in a separate process."""
    profiles, missing, crashed = list[OperatorProfile](), dict[str, str](), dict[str, str]()
    calls = [scenario for scenario in scenarios if scenario.kind in CALL_KINDS]
    for name, candidate in candidates.items():
        progress(f"profile of {name}")
        try:
            reported = run_profile_job(candidate, calls, seconds)
        except RefusedError as error:
            missing[name] = str(error)
        except CrashError as error:
            crashed[name] = str(error)
        else:
            profiles += [OperatorProfile.from_json(profile, name) for profile in reported]
    floors = {
        name: floors_of(candidate.source.artifact, rooflines[name])
        for name, candidate in candidates.items()
        if name in rooflines
    }
    return Profiles(profiles, floors, missing, crashed)
