"""The search of the highest valid rate, over a server whose capacity is known."""

import pytest
from lmtool.bench.mlperf.max_rate import LEAST_REQUESTS, Probe, Probing, RateSearch, find_max_rate

LATE = ("Performance constraints satisfied: NO", "Early stopping satisfied: NO", "Reduce target QPS.")
TOO_FEW = ("Early stopping satisfied: NO", "Would need to run at least 9 more queries.")


def up_to(capacity: float, undecided_from: float = 1e9, enough_seconds: float = 0.0) -> tuple[list[Probe], Probing]:
    """A server that is valid up to a rate, from another rate on only in runs that are long enough."""
    taken: list[Probe] = []

    def probing(rate: float, seconds: float) -> Probe:
        few = rate >= undecided_from and seconds < enough_seconds
        reasons = LATE if rate > capacity else TOO_FEW if few else ()
        taken.append(Probe(rate, seconds, reasons))
        return taken[-1]

    return taken, probing


@pytest.mark.parametrize("capacity", [10.0, 130.0, 999.0, 1000.0, 54321.0])
def test_the_interval_holds_the_capacity_and_is_narrow(capacity: float) -> None:
    taken, probing = up_to(capacity)
    search = find_max_rate(probing, 1000.0, 600.0)
    assert search.highest_valid is not None
    assert search.lowest_invalid is not None
    assert search.highest_valid <= capacity < search.lowest_invalid <= 1.05 * search.highest_valid
    assert search.probes == taken
    assert all(probe.seconds * probe.rate >= LEAST_REQUESTS and 10 <= probe.seconds <= 600 for probe in taken)


def test_where_even_the_lowest_rate_is_not_valid_there_is_none() -> None:
    taken, probing = up_to(0.5)
    search = find_max_rate(probing, 1000.0, 60.0)
    assert search.highest_valid is None
    assert search.lowest_invalid == taken[-1].rate == LEAST_REQUESTS / 60


def test_a_start_that_is_too_low_for_the_time_is_raised() -> None:
    taken, probing = up_to(5000.0)
    find_max_rate(probing, 1.0, 1.0)
    assert taken[0] == Probe(600.0, 1.0)


def test_a_probe_that_is_too_short_to_decide_is_repeated_and_lasts_longer() -> None:
    taken, probing = up_to(1500.0, undecided_from=1000.0, enough_seconds=30.0)
    search = find_max_rate(probing, 900.0, 600.0)
    assert search.highest_valid is not None
    assert 1400 < search.highest_valid <= 1500
    assert [probe.seconds for probe in taken if probe.rate == search.highest_valid] == [10, 20, 40]
    assert all(not probe.is_undecided for probe in search.probes)
    taken, probing = up_to(1500.0, undecided_from=1000.0, enough_seconds=700.0)
    assert find_max_rate(probing, 900.0, 600.0).lowest_invalid == pytest.approx(1000, rel=0.05)


def test_a_rate_that_is_not_valid_rules_out_those_above_it() -> None:
    search = RateSearch()
    for probe in (Probe(100, 1), Probe(400, 1), Probe(300, 1, LATE)):
        search.add(probe)
    assert (search.highest_valid, search.lowest_invalid) == (100, 300)
