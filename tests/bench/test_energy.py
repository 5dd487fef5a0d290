"""Energy of calls, by planted counters: packages, wrap-around, what is missing; and where the figures go."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lmtool.bench import Round, Scenario, Timing, format_table
from lmtool.bench.backends.source import Source
from lmtool.bench.report.html import render_report
from lmtool.bench.workers import plugin
from lmtool.bench.workers.bench_calls import bench_call
from lmtool.bench.workers.energy import EnergyMeter, energy_source
from lmtool.bench.workers.job import Job
from support.models.results import make_results

RANGE = 262_143_328_850


def plant(folder: Path, zone: str, name: str, energy: int) -> Path:
    """A counter, in microjoules."""
    place = folder / zone
    place.mkdir(parents=True)
    for file, value in (("name", name), ("energy_uj", energy), ("max_energy_range_uj", RANGE)):
        (place / file).write_text(f"{value}\n")
    return place / "energy_uj"


@pytest.fixture
def counters(tmp_path: Path) -> list[Path]:
    """Two packages, and zones that are counted in them already or are none."""
    plant(tmp_path, "intel-rapl:0:0", "core", 5)
    plant(tmp_path, "intel-rapl:2", "psys", 5)
    plant(tmp_path, "intel-rapl-mmio:0", "package-0", 5)
    return [plant(tmp_path, f"intel-rapl:{number}", f"package-{number}", 1000) for number in range(2)]


class Measured:
    """As pytest-benchmark's fixture: calls eight times."""

    def __init__(self) -> None:
        self.extra_info: dict[str, Any] = {}

    def __call__(self, call: Any) -> None:
        for _ in range(8):
            call()


def advance(counter: Path, microjoules: int) -> None:
    counter.write_text(str((int(counter.read_text()) + microjoules) % RANGE))


def test_the_energy_of_a_call_is_the_packages_and_the_mean(tmp_path: Path, counters: list[Path]) -> None:
    meter = EnergyMeter(tmp_path)
    assert meter.reason is None
    assert energy_source(tmp_path) == "package-0, package-1"

    def call() -> None:
        advance(counters[0], 3_000_000)
        advance(counters[1], 1_000_000)

    with meter:
        counted = meter.counting(call)
        for _ in range(5):
            counted()
    assert meter.joules == pytest.approx(4.0)


def test_a_counter_that_starts_again_is_followed(tmp_path: Path, counters: list[Path]) -> None:
    counters[0].write_text(str(RANGE - 500_000))
    meter = EnergyMeter(tmp_path)
    with meter:
        meter.counting(lambda: advance(counters[0], 2_000_000))()
    assert int(counters[0].read_text()) < RANGE - 500_000
    assert meter.joules == pytest.approx(2.0)


def test_counters_that_stand_still_measure_nothing(tmp_path: Path, counters: list[Path]) -> None:
    meter = EnergyMeter(tmp_path)
    with meter:
        meter.counting(int)()
    assert meter.joules is None


@pytest.mark.parametrize(("name", "reason"), [("none", "a virtual machine"), ("", "no counter of a processor")])
def test_without_counters_calls_are_left_alone_and_the_reason_is_said(tmp_path: Path, name: str, reason: str) -> None:
    meter = EnergyMeter(tmp_path / name)
    with meter:
        assert meter.counting(int) is int
    assert meter.joules is None
    assert reason in energy_source(tmp_path / name)
    assert energy_source(tmp_path / name) == f"not readable: {meter.reason}"


def test_counters_for_root_only_are_named_with_the_remedy(
    tmp_path: Path, counters: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Path.read_text

    def denied(path: Path, *arguments: Any, **options: Any) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", denied)
    assert f"{counters[0]} is for root; run as root, or sudo chmod a+r " in str(EnergyMeter(tmp_path).reason)


@pytest.mark.parametrize(("backend", "provider", "measured"), [
    ("onnxruntime", "cpu", True), ("onnxruntime", "openvino", True), ("onnxruntime", "cuda", False),
    ("torch", "cuda", False), ("onnxruntime-webgpu", "cpu", False), ("onnxruntime-webgpu-software", "cpu", True),
])  # fmt: skip
def test_the_processors_energy_is_for_calls_that_it_computes(backend: str, provider: str, measured: bool) -> None:
    source = Source(Path("any.onnx"), provider=provider)
    assert plugin._on_processor(Job(backend, source, Path("out"))) == measured


def test_another_devices_calls_have_no_energy() -> None:
    meter = EnergyMeter(None)
    with meter:
        assert meter.counting(int) is int
    assert meter.joules is None


def test_the_timed_function_counts_every_call_and_records_joules(tmp_path: Path, counters: list[Path]) -> None:
    calls = []

    def call() -> None:
        calls.append(1)
        advance(counters[0], 500_000)

    measured = Measured()
    bench_call(call, EnergyMeter(tmp_path), measured)
    assert len(calls) == 9
    assert measured.extra_info == {"joules": pytest.approx(0.5)}


def test_a_timing_has_joules_a_token_and_survives_its_json() -> None:
    scenario = Scenario.parse("multi-stream:8")
    timing = Timing("onnx fp32", scenario, [Round([0.1], joules=joules) for joules in (0.8, 0.4, 8.0)])
    assert timing.joules_per_token == pytest.approx(0.1)
    assert Timing.from_json(timing.to_json()).joules_per_token == pytest.approx(0.1)
    assert Timing("a", scenario, [Round([0.1])]).joules_per_token is None
    assert Timing("a", Scenario.parse("load"), [Round([0.1], joules=1.0)]).joules_per_token is None


def test_the_table_and_the_page_show_the_energy_or_why_there_is_none() -> None:
    results = make_results({"torch": [[0.1]], "onnx fp32": [[0.1]]})
    results.identity.environment["energy"] = "not readable: no counters here"
    assert "energy: not readable: no counters here" in " ".join(format_table(results).split())
    assert "no counters here" in render_report(results)
    first = replace(results.timings[0], rounds=[Round([0.1], joules=0.00725)])
    shown = replace(results, timings=[first, *results.timings[1:]])
    shown.identity.environment["energy"] = "package-0"
    table = " ".join(format_table(shown).split())
    assert "7.25 mJ" in table
    assert "energy: for a token, of package-0 (the whole processor" in table
    assert "7.25 mJ" in render_report(shown)
