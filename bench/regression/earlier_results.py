"""Earlier results: what `bench.json` holds, and whether it belongs to the same machine and artifacts."""

import reprlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...runtime.errors import JsonError, OptionError
from ...runtime.io.files import read_bytes
from ...runtime.io.json_reader import LARGE_BYTES, parse_json
from ..errors import BenchError
from ..results import FORMAT, Identity
from ..timing import Timing

_SAME = ("processor", "flags", "usable_cores", "cpu_quota", "gpus")
_ROUNDS = ("rounds", "max_rounds")
"""Parts of a schedule that may differ."""


def read_results(path: Path) -> dict[str, Any]:
    """Read a `bench.json` and check the parts that a comparison needs.

    Raises:
        StorageError: It cannot be read.
        BenchError: It holds no results, is damaged, or has another format version.
    """
    try:
        results = parse_json(read_bytes(path), LARGE_BYTES)
    except JsonError as error:
        raise BenchError(f"{path} holds no results: it {error}") from error
    if not isinstance(results, dict) or results.get("format") != FORMAT:
        form = results.get("format") if isinstance(results, dict) else None
        raise BenchError(f"{path} holds results of format {reprlib.repr(form)}, expected {FORMAT}; measure again")
    try:
        timings_of(results)
        _differences(results, results)
    except (KeyError, TypeError, ValueError, AttributeError, OptionError) as error:
        raise BenchError(f"{path} holds no whole results ({type(error).__name__}: {error}); measure again") from error
    return results


def require_same(before: Mapping[str, Any], now: Identity) -> None:
    """Check that results would be comparable, before anything is measured.

    Raises:
        BenchError: Machine, provider, number of threads, schedule, network or artifact differs.
    """
    differences = _differences(before, asdict(now))
    if differences:
        raise BenchError(
            f"the results would not belong together: {'; '.join(differences)}; to compare them anyway: --compare-anyway"
        )


def timings_of(results: Mapping[str, Any]) -> list[Timing]:
    """The timings of the content of a `bench.json`."""
    return [Timing.from_json(timing) for timing in results["timings"]]


def machine_of(results: Mapping[str, Any]) -> dict[str, Any]:
    """Facts of the machine that must be the same for results to be comparable; of a GPU its name, not its driver."""
    facts = {name: results["environment"].get(name) for name in _SAME}
    return {**facts, "gpus": [gpu.partition(",")[0] for gpu in facts["gpus"] or ()]}


def setting_of(results: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that must be the same for results to be comparable, without the artifacts."""
    calls = results.get("calls", {})
    return {
        "providers": list(results["providers"]),
        **{name: results[name] for name in ("threads", "original")},
        "schedule": _durations(results["schedule"]),
        **{f"the calls' {name}": calls.get(name, {}) for name in ("states", "inputs")},
    }


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    old_facts, new_facts = (setting_of(results) | machine_of(results) for results in (before, now))
    both = old_facts["schedule"].keys() & new_facts["schedule"].keys()  # without a server its durations are missing
    for facts in (old_facts, new_facts):
        facts["schedule"] = {name: value for name, value in sorted(facts["schedule"].items()) if name in both}
    pairs = [(name, old_facts[name], new) for name, new in new_facts.items()]
    pairs += [
        (f"the artifact of {name}", before["artifacts"][name], sha256)
        for name, sha256 in now["artifacts"].items()
        if name in before["artifacts"]
    ]
    return [f"{name} was {_short(old)}, is {_short(new)}" for name, old, new in pairs if old != new]


def _durations(schedule: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in schedule.items() if name not in _ROUNDS}


def _short(value: Any) -> str:
    """Abbreviate a hash to its beginning, a long list to its length."""
    text = str(value)
    if len(text) == 64:
        return text[:12]
    return f"a list of {len(value)}" if isinstance(value, list) and len(text) > 64 else text
