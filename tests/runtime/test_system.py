"""Usable cores and memory follow the limits of the process' control groups, version 1 and 2."""

import os
from pathlib import Path

import pytest
from lmtool.runtime import system
from lmtool.runtime.system import cpu_quota, usable_cores, usable_memory

V2 = "30 24 0:26 {root} {mounted} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1 = "33 31 0:30 {root} {mounted} rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct"
OTHER = "32 31 0:30 / {mounted} rw,relatime - cgroup cgroup rw,memory"


def process_of(folder: Path, cgroup: str, *mounts: str, root: str = "/", at: str = "cgroup") -> Path:
    """A folder as /proc/PID, with these lines; groups are mounted at `folder`/`at`."""
    process = folder / "process"
    process.mkdir()
    (process / "cgroup").write_text(cgroup)
    mounted = str(folder / at).replace(" ", "\\040")
    lines = ["22 1 8:1 / / rw - ext4 /dev/root rw", *(line.format(root=root, mounted=mounted) for line in mounts)]
    (process / "mountinfo").write_text("\n".join(lines) + "\n")
    return process


def group(path: Path, quota: str | tuple[int, int]) -> None:
    """A group's folder: version 2's `cpu.max`, or version 1's quota and period."""
    path.mkdir(parents=True, exist_ok=True)
    if isinstance(quota, str):
        (path / "cpu.max").write_text(f"{quota}\n")
        return
    for name, value in zip(("quota", "period"), quota, strict=True):
        (path / f"cpu.cfs_{name}_us").write_text(f"{value}\n")


@pytest.mark.parametrize(("own", "above", "expected"), [
    ("150000 100000", "max 100000", 1.5),
    ("max 100000", "200000 100000", 2.0),
    ("400000 100000", "25000 50000", 0.5),
    ("max 100000", "max 100000", None),
    ("nonsense", "100000 0", None),
])  # fmt: skip
def test_the_least_quota_of_nested_groups_holds(tmp_path: Path, own: str, above: str, expected: float | None) -> None:
    process = process_of(tmp_path, "0::/above/own\n", V2, at="my groups")
    group(tmp_path / "my groups" / "above" / "own", own)
    group(tmp_path / "my groups" / "above", above)
    group(tmp_path / "my groups" / "beside", "1000 100000")
    assert cpu_quota(process) == expected


@pytest.mark.parametrize(("quota", "expected"), [((250_000, 100_000), 2.5), ((-1, 100_000), None)])
def test_version_1(tmp_path: Path, quota: tuple[int, int], expected: float | None) -> None:
    process = process_of(tmp_path, "4:memory:/low\n3:cpuacct,cpu:/pod/one\n0::/\n", OTHER, V1)
    group(tmp_path / "cgroup" / "pod" / "one", quota)
    group(tmp_path / "cgroup" / "low", (1000, 100_000))
    assert cpu_quota(process) == expected


@pytest.mark.parametrize(("path", "root"), [("/docker/5e", "/docker/5e"), ("/", "/"), ("/../5e", "/"), ("/a", "/b")])
def test_a_container_sees_its_own_group_at_the_mount(tmp_path: Path, path: str, root: str) -> None:
    process = process_of(tmp_path, f"0::{path}\n", V2, root=root)
    group(tmp_path / "cgroup", "300000 100000")
    group(tmp_path / "5e", "1000 100000")
    assert cpu_quota(process) == 3.0


@pytest.mark.parametrize(("own", "above", "expected"), [
    ("2000000", "max", 2_000_000), ("max", "3000000", 3_000_000), ("max", "max", None), (str(2**60), "max", None),
])  # fmt: skip
@pytest.mark.parametrize(("group", "mount", "name"), [
    ("0::/above/own", V2, "memory.max"), ("4:memory:/above/own", OTHER, "memory.limit_in_bytes"),
])  # fmt: skip
def test_memory_is_that_of_the_machine_or_the_least_limit(
    tmp_path: Path, own: str, above: str, expected: int | None, group: str, mount: str, name: str
) -> None:
    process = process_of(tmp_path, f"{group}\n", mount)
    folder = tmp_path / "cgroup" / "above"
    (folder / "own").mkdir(parents=True)
    (folder / name).write_text(above)
    (folder / "own" / name).write_text(own)
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert usable_memory(process) == (machine if expected is None else expected)
    assert usable_memory(tmp_path / "none") == machine


def test_no_control_groups_no_limit(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path / "none") is None
    assert cpu_quota(process_of(tmp_path, "0::/\n")) is None


@pytest.mark.parametrize(("quota", "cores", "expected"), [
    (None, 8, 8), (2.0, 8, 2), (1.5, 8, 2), (0.2, 8, 1), (64.0, 8, 8), (3.0, 2, 2),
])  # fmt: skip
def test_usable_cores_are_bounded_by_affinity_and_quota(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, cores: int, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setattr(system, "cpu_quota", lambda: quota)
    assert usable_cores() == expected
