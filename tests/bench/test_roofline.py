"""Rooflines by hand, and of real artifacts: what a step must read."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lmtool.bench import Scenario, format_table, roofline
from lmtool.bench.roofline import Roofline, measure_roofline
from lmtool.export import BuildOptions, build_model
from lmtool.model import Run
from support.models.networks import network_of
from support.models.results import make_results


def test_a_floor_by_hand() -> None:
    roofline = Roofline(weight_bytes=1000, bytes_per_second=1e6, operations=500, operations_per_second=1e6)
    assert roofline.seconds(1) == pytest.approx(1e-3)
    assert roofline.seconds(2) == pytest.approx(1e-3)
    assert roofline.seconds(64) == pytest.approx(0.032)
    assert replace(roofline, operations=0).seconds(64) == pytest.approx(1e-3)


@pytest.mark.parametrize(("tied", "sizes"), [(False, (7, 3)), (True, (7, 5))])
def test_a_step_reads_all_but_an_untied_embedding(tmp_path: Path, tied: bool, sizes: tuple[int, int]) -> None:
    vocabulary = 50
    model = build_model(network_of(sizes, tied=tied, vocabulary=vocabulary), BuildOptions("fp32"))
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    roofline = measure_roofline(tmp_path / "model.onnx")
    matrices = sum(4 * out * (into + out) for into, out in ((5, sizes[0]), sizes)) + sizes[1] * vocabulary
    biases = sum(4 * 2 * out for out in sizes) + vocabulary
    assert 4 * (matrices + biases) <= roofline.weight_bytes <= 4 * (matrices + biases) + 100  # some integers
    assert roofline.operations == 2 * matrices
    assert roofline.bytes_per_second > 0


def test_int8_weights_are_fewer_bytes_and_no_floats(run: Run) -> None:
    fp32, int8 = (measure_roofline(run.artifact(precision)) for precision in ("fp32", "int8"))
    assert int8.weight_bytes < fp32.weight_bytes
    assert (int8.operations, fp32.operations > 0) == (0, True)


def test_layers_in_fp32_beside_integers_are_counted(tmp_path: Path) -> None:
    network = network_of((7, 3), vocabulary=50)
    counted = {}
    for precision in ("fp32", "w8"):
        path = tmp_path / f"{precision}.onnx"
        path.write_bytes(build_model(network, BuildOptions(precision)).SerializeToString())
        counted[precision] = measure_roofline(path).operations
    assert counted["fp32"] - counted["w8"] == 2 * 3 * 50
    assert counted["w8"] > 0


def test_the_best_rate_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = iter([4.0, 1.0, 2.0, 8.0, 3.0])
    monkeypatch.setattr(roofline, "_product_rate", lambda *_: next(rates))
    assert roofline._operations_per_second() == 8.0
    times = iter([4.0, 1.0, 0.5, 3.0])
    monkeypatch.setattr(roofline, "_fastest", lambda _: next(times))
    assert roofline._bytes_per_second(40_000) == 80_000


def test_the_better_rates_of_two_measurements_count() -> None:
    first = Roofline(weight_bytes=1000, bytes_per_second=1e6, operations=500, operations_per_second=3e6)
    second = replace(first, bytes_per_second=2e6, operations_per_second=1e6)
    assert first.best(second) == second.best(first) == replace(first, bytes_per_second=2e6)
    assert first.best(None) == first


def test_a_rate_of_this_machine_is_one_that_it_can_have() -> None:
    """Between that of an old telephone and that of a data centre's GPU."""
    assert 1e8 < roofline._bytes_per_second(8_000_000) < 5e12
    assert 1e8 < roofline._operations_per_second() < 1e14


def test_the_table_shows_the_floor_of_steps() -> None:
    roofline = Roofline(weight_bytes=1000, bytes_per_second=5e6, operations=0, operations_per_second=1e9)
    results = replace(make_results({"torch": [[1e-3]], "onnx fp32": [[5e-4]]}), rooflines={"onnx fp32": roofline})
    lines = format_table(results).splitlines()
    assert "floor" in lines[1]
    assert "200 us" not in lines[2]
    assert "200 us" in lines[3]
    assert results.roofline_seconds("onnx fp32", results.scenarios[0]) == pytest.approx(2e-4)
    assert results.roofline_seconds("onnx fp32", Scenario("offline", 1, 5)) is None
    assert np.isfinite(results.to_json()["rooflines"]["onnx fp32"]["weight_bytes"])
