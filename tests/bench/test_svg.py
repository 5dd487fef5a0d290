"""Geometry by hand."""

import numpy as np
import pytest
from lmtool.bench import Round, Scenario, Timing
from lmtool.bench.report.svg import LANES_HEIGHT, PLOT_HEIGHT, PLOT_WIDTH, Scale, bar, plot, strip


def test_a_scale_from_zero_is_in_proportion() -> None:
    scale = Scale.from_zero([2.0, 8.0])
    assert [scale.place(value) for value in (0.0, 2.0, 8.0, 9.0)] == [0, 0.25, 1, 1]
    assert Scale.from_zero([]).place(0.5) == 0.5
    assert Scale.from_zero([0.0]).place(0.0) == 0


def test_a_logarithmic_scale_is_in_proportion_to_ratios() -> None:
    scale = Scale.over([3e-3, 0.7, 0.0])
    assert (scale.low, scale.high) == pytest.approx((2e-3, 1))
    assert Scale(1, 100, logarithmic=True).place(10) == pytest.approx(0.5)
    assert [Scale(1, 100, logarithmic=True).place(value) for value in (0.0, 0.5, 1, 100, 200)] == [0, 0, 0, 1, 1]
    assert Scale.over([5.0]).place(10.0) == pytest.approx(1)
    assert Scale.over([]).place(1.0) == 0


@pytest.mark.parametrize(
    ("scale", "most", "ticks"),
    [
        (Scale(0, 7_300), 4, [0, 2_000, 4_000, 6_000]),
        (Scale(0, 1), 4, [0, 0.5, 1]),
        (Scale(0, 0.0045), 4, [0, 0.002, 0.004]),
        (Scale(2e-3, 0.1, True), 7, [2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1]),
        (Scale(1, 1000, True), 7, [1, 3, 10, 30, 100, 300, 1000]),
        (Scale(1, 1e6, True), 7, [1, 10, 100, 1e3, 1e4, 1e5, 1e6]),
        (Scale(1, 1e9, True), 7, [1, 100, 1e4, 1e6, 1e8]),
    ],
)
def test_ticks_are_round_and_few(scale: Scale, most: int, ticks: list[float]) -> None:
    assert scale.ticks(most) == pytest.approx(ticks)


def test_a_bar_by_hand() -> None:
    drawn = bar(30, [20, 30, 40], Scale(0, 40))
    assert (drawn.width, drawn.low, drawn.high) == (750, 500, 1000)
    assert drawn.dots == "M500 9h0M750 9h0M1000 9h0"


def points(path: str) -> list[tuple[float, float]]:
    return [tuple(map(float, point.removesuffix("h0").split())) for point in path.split("M")[1:]]  # type: ignore[misc]


def test_a_strip_draws_each_round_in_its_lane() -> None:
    seconds = [1.0, 1.0, 1.0, 1.0, 100.0]
    drawn = strip(Timing("a", Scenario("load"), [Round(seconds), Round([10.0] * 3)]), Scale(1, 100, True), 50)
    assert [x for x, _ in points(drawn.ordinary)] == [0] * 4 + [500] * 3
    assert [x for x, _ in points(drawn.outliers)] == [1000]
    heights = [y for _, y in points(drawn.ordinary)]
    assert max(heights[:4]) < LANES_HEIGHT / 2 < min(heights[4:])
    assert len(set(heights[:4])) == 4
    assert drawn.median == pytest.approx(1000 * np.log(5.5) / np.log(100), abs=0.1)


def test_thinning_keeps_the_least_and_the_largest() -> None:
    seconds = list(np.linspace(1, 2, 1000))
    drawn = strip(Timing("a", Scenario("load"), [Round(seconds)]), Scale(1, 2), 11)
    assert [x for x, _ in points(drawn.ordinary)] == pytest.approx(list(range(0, 1001, 100)), abs=1)


def test_a_plot_by_hand() -> None:
    drawn = plot({"a": [(1, 1), (10, 10), (100, 100)], "b": [(1, 100)]})
    assert drawn.lines["a"].path == (
        f"M{drawn.left:.1f} {drawn.bottom:.1f}"
        f"L{(drawn.left + drawn.right) / 2:.1f} {(drawn.top + drawn.bottom) / 2:.1f}"
        f"L{drawn.right:.1f} {drawn.top:.1f}"
    )
    assert drawn.lines["b"].path == f"M{drawn.left:.1f} {drawn.top:.1f}"
    assert drawn.lines["a"].markers.count("M") == 3
    assert drawn.lines["a"].markers[:-30] != drawn.lines["b"].markers
    assert 0 < drawn.left < drawn.right < PLOT_WIDTH
    assert 0 < drawn.top < drawn.bottom < PLOT_HEIGHT
    assert [tick.value for tick in drawn.x_ticks] == pytest.approx([1, 3, 10, 30, 100]) or len(drawn.x_ticks) <= 6


def test_marks_of_an_axis_may_be_given_and_do_not_touch() -> None:
    drawn = plot({"a": [(1, 1), (8, 2)]}, [1, 2, 4, 8])
    assert [tick.value for tick in drawn.x_ticks] == [1, 2, 4, 8]
    assert (drawn.x_ticks[0].place, drawn.x_ticks[-1].place) == (drawn.left, drawn.right)
    crowded = plot({"a": [(1, 1), (99, 2)]}, list(range(1, 100)))
    places = [tick.place for tick in crowded.x_ticks]
    assert min(np.diff(places)) >= 30
    assert crowded.x_ticks[-1].value == 99
    assert plot({"a": [(4, 1)]}, [4]).lines["a"].path.startswith(f"M{drawn.left:.1f} ")
