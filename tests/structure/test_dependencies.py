"""Version ranges of the dependencies, and the versions of the tests."""

import re
import tomllib
from pathlib import Path

import pytest
from lmtool.runtime.session.providers import LOWEST_ONNXRUNTIME
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
COMPUTE = {"numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "torch"}
"""Packages that compute. Another major version may change results, so their ranges have an upper bound."""
EXTRAS = ("cpu", "cli", "report", "tensorboard", "train", "loadgen", "serve", "bench", "keras", "rescore")
"""Extras of the tests' environment."""
GROUPS = ("test", "check")
"""Dependency groups of the tests' environment."""


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def lower_bounds() -> dict[str, Version]:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project, groups = pyproject["project"], pyproject["dependency-groups"]
    extras = project["optional-dependencies"]
    entries = [*project["dependencies"], *(entry for name in EXTRAS for entry in extras[name])]
    entries += [entry for name in GROUPS for entry in groups[name]]
    requirements = [Requirement(entry) for entry in entries]
    return {
        canonical(requirement.name): Version(bound.version)
        for requirement in requirements
        for bound in requirement.specifier
        if bound.operator == ">="
    }


def pinned(name: str) -> dict[str, Version]:
    lines = [line for line in (ROOT / name).read_text().splitlines() if not line.startswith("#")]
    return {canonical(package): Version(version) for package, _, version in (line.partition("==") for line in lines)}


def test_the_lowest_versions_are_tested() -> None:
    assert pinned("constraints-lowest.txt") == lower_bounds()


def test_the_lowest_onnxruntime_is_checked_at_run_time() -> None:
    assert lower_bounds()["onnxruntime"].release[:2] == LOWEST_ONNXRUNTIME


def test_every_range_has_a_lower_bound_and_numeric_packages_an_upper_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    entries = [*project["dependencies"], *(each for some in project["optional-dependencies"].values() for each in some)]
    for requirement in map(Requirement, entries):
        expected = {">=", "<"} if requirement.name in COMPUTE else {">="}
        operators = {bound.operator for bound in requirement.specifier}
        assert operators == (set() if requirement.name == "lmtool" else expected), requirement


@pytest.mark.parametrize("name", sorted(COMPUTE - {"onnxruntime-gpu"}))
def test_the_pinned_versions_are_above_the_lowest(name: str) -> None:
    assert pinned("constraints.txt")[name] > pinned("constraints-lowest.txt")[name]
