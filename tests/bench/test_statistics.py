"""Intervals that hold the truth as often as they say, and the rule that decides."""

import math

import numpy as np
import pytest
from lmtool.bench.statistics.decision import FALSE_ALARMS, decision_confidence, look_rounds
from lmtool.bench.statistics.estimate import CONFIDENCE, Estimate
from lmtool.bench.statistics.percentile import calls_needed, percentile, percentile_estimate
from lmtool.bench.statistics.ratio import mean_estimate, paired_ratio, unpaired_ratio
from lmtool.bench.statistics.student import student_quantile
from scipy import stats

TRIALS = 200


@pytest.mark.parametrize("freedom", [1, 1.7, 4, 11, 99.5])
@pytest.mark.parametrize("tail", [0.4, 0.025, 1e-3, 1e-6])
def test_quantiles_of_students_t(freedom: float, tail: float) -> None:
    assert student_quantile(tail, freedom) == pytest.approx(stats.t.isf(tail, freedom), rel=1e-6)


def test_a_ratio_by_hand() -> None:
    ratio = paired_ratio([2e-3, 4e-3, 9e-3], [1e-3, 2e-3, 4.5e-3])
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((2, 2, 2))
    assert ratio.uncertainty == pytest.approx(0, abs=1e-9)
    assert mean_estimate([1e-3, 4e-3]).value == pytest.approx(2e-3)
    welch = stats.ttest_ind(np.log([1.0, 1.3, 1.1]), np.log([2.0, 2.1, 2.4, 2.2]), equal_var=False)
    expected = [math.exp(end) for end in welch.confidence_interval(0.95)]
    apart = unpaired_ratio([1.0, 1.3, 1.1], [2.0, 2.1, 2.4, 2.2])
    assert [apart.low, apart.high] == pytest.approx(expected)


def test_a_single_round_has_no_interval() -> None:
    for estimate in (
        paired_ratio([2.0], [1.0]),
        unpaired_ratio([2.0], [1.0, 1.0]),
        percentile_estimate([[1.0, 2.0, 3.0]], 50),
    ):
        assert estimate.value == pytest.approx(2)
        assert not estimate.is_bounded
        assert estimate.uncertainty is None
        assert estimate.to_json() == {"value": pytest.approx(2), "low": None, "high": None}
    assert Estimate(2.0, 1.0, 3.0).uncertainty == pytest.approx(1)


def test_as_many_calls_as_early_stopping_asks_for() -> None:
    """With 459 calls the chance that none lies beyond the 99th percentile is below 1 %."""
    assert [calls_needed(percent) for percent in (90, 95, 99)] == [44, 90, 459]
    assert 0.99**459 < 0.01 < 0.99**458
    assert percentile(list(range(100)), 99) == 99
    assert percentile([3.0, 1.0, 2.0], 50) == 2.0


@pytest.mark.parametrize("rounds", [3, 12])
@pytest.mark.parametrize("percent", [50, 99])
def test_intervals_of_percentiles_hold_the_truth(rounds: int, percent: int) -> None:
    """Rounds differ by 10 %, calls by 20 %: 95 of 100 intervals are asked for, 88 at least are held."""
    random = np.random.default_rng(percent + rounds)
    truth = math.exp(math.hypot(0.1, 0.2) * stats.norm.ppf(percent / 100))
    held = 0
    for _ in range(TRIALS // 3):
        calls = np.exp(random.normal(0, 0.1, (rounds, 1)) + random.normal(0, 0.2, (rounds, 600)))
        estimate = percentile_estimate(calls.tolist(), percent)
        held += estimate.low <= truth <= estimate.high
    assert held / (TRIALS // 3) > 0.88


@pytest.mark.parametrize("rounds", [2, 20])
def test_intervals_of_ratios_hold_the_truth(rounds: int) -> None:
    random = np.random.default_rng(rounds)
    paired, apart = 0, 0
    for _ in range(TRIALS):
        before, after = np.exp(random.normal(0, 0.1, (2, rounds)))
        paired += (ratio := paired_ratio((1.2 * after).tolist(), before.tolist())).low <= 1.2 <= ratio.high
        apart += (ratio := unpaired_ratio((1.2 * after).tolist(), before.tolist())).low <= 1.2 <= ratio.high
    assert paired / TRIALS == pytest.approx(CONFIDENCE, abs=0.04)
    assert apart / TRIALS > 0.93  # Welch's test holds more with two rounds


def alarms(slower: float, rounds: int, most: int, ratios: int) -> float:
    """Share of comparisons in which some ratio is found to be above 1, at any look."""
    random = np.random.default_rng(0)
    looks = look_rounds(rounds, most)
    confidence = decision_confidence(ratios, len(looks))
    found = 0
    for _ in range(TRIALS):
        before, after = np.exp(random.normal(0, 0.05, (2, ratios, most)))
        found += any(
            paired_ratio(((1 + slower) * after[each, :look]).tolist(), before[each, :look].tolist(), confidence).low > 1
            for look in looks
            for each in range(ratios)
        )
    return found / TRIALS


def test_the_rule_raises_no_false_alarms_and_finds_a_slow_down() -> None:
    assert look_rounds(5, 5) == [5]
    assert look_rounds(5, 40) == [5, 10, 20, 40]
    assert look_rounds(5, 12) == [5, 10, 12]
    assert alarms(0.0, 5, 20, 8) <= FALSE_ALARMS
    assert alarms(0.1, 5, 20, 2) > 0.95


def test_looking_again_and_again_without_the_rule_raises_false_alarms() -> None:
    """The positive control: intervals of 95 % at each look and for each ratio."""
    random = np.random.default_rng(0)
    found = 0
    for _ in range(TRIALS):
        before, after = np.exp(random.normal(0, 0.05, (2, 8, 20)))
        found += any(
            paired_ratio(after[each, :look].tolist(), before[each, :look].tolist()).low > 1
            for look in (5, 10, 20)
            for each in range(8)
        )
    assert found / TRIALS > 0.15
