"""Rooflines by hand, and of real artifacts: what a step must read."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lmtool.bench import Scenario, format_table, roofline
from lmtool.bench.roofline import Roofline, measure_roofline
from lmtool.export import BuildOptions, build_model
from lmtool.model import Run
from lmtool.runtime import Predictor
from support.models.networks import network_of
from support.models.older_files import older_file
from support.models.results import make_results


def test_a_floor_by_hand() -> None:
    roofline = Roofline(1000, 1e6, 500, 1e6, 0, 1e6)
    assert roofline.seconds(1) == pytest.approx(1e-3)
    assert roofline.seconds(2) == pytest.approx(1e-3)
    assert roofline.seconds(64) == pytest.approx(0.032)
    assert replace(roofline, operations=0).seconds(64) == pytest.approx(1e-3)
    int8 = replace(roofline, operations=0, int8_operations=500, int8_operations_per_second=4e6)
    assert int8.seconds(64) == pytest.approx(0.008)


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


def test_int8_products_are_counted_as_such(run: Run) -> None:
    fp32, int8 = (measure_roofline(run.artifact(precision)) for precision in ("fp32", "int8"))
    assert int8.weight_bytes < fp32.weight_bytes
    assert (int8.operations, fp32.int8_operations) == (0, 0)
    assert int8.int8_operations == fp32.operations > 0
    assert int8.int8_operations_per_second > 0


def test_layers_in_fp32_beside_integers_are_counted(run: Run, tmp_path: Path) -> None:
    fp32 = measure_roofline(run.artifact("fp32"))
    w8 = measure_roofline(older_file(run.artifact("fp32"), "w8", tmp_path / "w8.onnx"))
    projection = 2 * 3 * len(Predictor.load(run.artifact("fp32")).vocabulary)
    assert fp32.operations - w8.operations == projection
    assert w8.operations > 0


def test_the_best_rate_counts(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = iter([4.0, 1.0, 2.0, 8.0, 3.0])
    monkeypatch.setattr(roofline, "_product_rate", lambda *_: next(rates))
    monkeypatch.setattr(roofline, "_int8_product_rate", lambda *_: 7.0)
    measured = measure_roofline(run.artifact("fp32"))
    assert (measured.operations_per_second, measured.int8_operations_per_second) == (8.0, 7.0)
    times = iter([4.0, 1.0, 0.5, 3.0])
    monkeypatch.setattr(roofline, "_fastest", lambda _: next(times))
    assert roofline._bytes_per_second(40_000) == 80_000


def test_the_better_rates_of_two_measurements_count() -> None:
    first = Roofline(1000, 1e6, 500, 3e6, 0, 1e6)
    second = replace(first, bytes_per_second=2e6, operations_per_second=1e6)
    assert first.best(second) == second.best(first) == replace(first, bytes_per_second=2e6)
    assert first.best(None) == first


def test_a_rate_of_this_machine_is_one_that_it_can_have() -> None:
    """Between that of an old telephone and that of a data centre's GPU."""
    assert 1e8 < roofline._bytes_per_second(8_000_000) < 5e12
    assert 1e8 < roofline._product_rate(64, 256, 4096) < 1e14
    assert 1e8 < roofline._int8_product_rate(64, 256, 4096) < 1e14


def test_the_table_shows_the_floor_of_steps() -> None:
    roofline = Roofline(1000, 5e6, 0, 1e9, 0, 1e9)
    results = replace(make_results({"torch": [[1e-3]], "onnx fp32": [[5e-4]]}), rooflines={"onnx fp32": roofline})
    lines = format_table(results).splitlines()
    assert "floor" in lines[1]
    assert "200 us" not in lines[2]
    assert "200 us" in lines[3]
    assert results.roofline_seconds("onnx fp32", results.scenarios[0]) == pytest.approx(2e-4)
    assert results.roofline_seconds("onnx fp32", Scenario("offline", 1, 5)) is None
    assert np.isfinite(results.to_json()["rooflines"]["onnx fp32"]["weight_bytes"])
