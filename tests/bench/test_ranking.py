"""What to ship, by hand: who is fastest, whether that is clear, and which batch fits a latency."""

from dataclasses import replace

import pytest
from lmtool.bench import Results, Round, Scenario, Timing
from lmtool.bench.ranking import frontier, ranking, step_timings, verdicts
from lmtool.bench.report.charts import tradeoff
from lmtool.bench.report.overview import cards, shade
from lmtool.bench.report.text import format_verdict
from lmtool.bench.scenario import streams
from lmtool.bench.sweep import Sweep
from support.models.results import ONE, make_results

INVARIANT = {"onnx fp32": {"batch_invariant": True}, "onnx int8": {"batch_invariant": False}}


def test_the_fastest_and_its_lead_round_by_round() -> None:
    rounds = {"torch": [[8e-3], [8.1e-3]], "onnx fp32": [[4e-3], [3.99e-3]], "onnx int8": [[2e-3], [1.999e-3]]}
    (verdict,) = verdicts(make_results(rounds, parity=INVARIANT))
    assert verdict.scenario == ONE
    assert verdict.fastest.runtime == "onnx int8"
    assert verdict.second is not None
    assert verdict.second.runtime == "onnx fp32"
    assert verdict.lead is not None
    assert verdict.lead.value == pytest.approx(2, rel=1e-2)
    assert verdict.is_clear
    assert format_verdict(verdict).startswith("  fastest: onnx int8, 2.00 (")
    assert verdict.invariant is not None
    assert verdict.invariant.runtime == "onnx fp32"


def test_a_lead_within_the_noise_is_too_close_to_call() -> None:
    (verdict,) = verdicts(make_results({"torch": [[2e-3], [2e-3]], "onnx fp32": [[1e-3], [2.5e-3]]}))
    assert verdict.fastest.runtime == "onnx fp32"
    assert [timing.runtime for timing in verdict.rivals] == ["torch"]
    assert not verdict.is_clear
    assert format_verdict(verdict) == "  fastest: too close to call between onnx fp32, torch"
    assert verdict.invariant is None
    (alone,) = verdicts(make_results({"torch": [[2e-3]]}))
    assert (alone.second, alone.lead, alone.is_clear) == (None, None, True)


def served(runtime: str, seconds: list[float], invalid_reasons: tuple[str, ...] = ()) -> Timing:
    return Timing(runtime, Scenario("server", rate=9), [Round(seconds, None, 9.0, invalid_reasons)])


def test_a_server_is_judged_by_its_tail_and_its_validity() -> None:
    steady, jumpy = served("steady", [3e-3] * 100), served("jumpy", [1e-3] * 90 + [9e-3] * 10)
    late = served("late", [1e-3] * 100, ("answered too little",))
    results = replace(make_results({"steady": [[1.0]]}), timings=[late, jumpy, steady])
    assert jumpy.costs == pytest.approx([9e-3])
    assert [timing.runtime for timing in ranking(results, steady.scenario)] == ["steady", "jumpy", "late"]
    (verdict,) = verdicts(results)
    assert (verdict.fastest, verdict.second) == (steady, jumpy)
    assert verdicts(replace(results, timings=[late])) == []


def step(runtime: str, batch: int, seconds: float) -> Timing:
    return Timing(runtime, streams(batch), [Round([seconds] * 500)])


def with_steps(*timings: Timing) -> Results:
    return replace(make_results({"onnx fp32": [[1.0]]}), timings=timings, parity=INVARIANT)


def test_the_frontier_holds_unbeaten_batches() -> None:
    small, large = step("onnx fp32", 1, 1e-3), step("onnx fp32", 8, 4e-3)
    quick, slow = step("onnx int8", 8, 2e-3), step("onnx int8", 64, 64e-3)
    assert frontier([large, slow, quick, small]) == [small, quick]
    assert frontier([]) == []


def test_batches_stand_beside_each_other() -> None:
    small, large, quick = step("onnx fp32", 1, 1e-3), step("onnx fp32", 8, 4e-3), step("onnx int8", 8, 2e-3)
    several = tradeoff(with_steps(small, large, quick))
    assert several is not None
    assert several.best == [small, quick]
    assert several.invariant == [small, large]
    same = tradeoff(with_steps(small, large))
    assert same is not None
    assert (same.best, same.invariant) == ([small, large], [])
    assert tradeoff(with_steps(small)) is None


def test_a_sweep_over_batches_stands_for_a_runtimes_scenarios() -> None:
    once, other = step("onnx fp32", 1, 1e-3), step("torch", 1, 3e-3)
    swept = {1: step("onnx fp32", 1, 2e-3), 4: step("onnx fp32", 4, 3e-3)}
    results = with_steps(other, once)
    assert step_timings(results) == [other, once]
    swept_too = replace(results, sweeps=[Sweep("batch", {"onnx fp32": swept})])
    assert step_timings(swept_too) == [other, swept[1], swept[4]]
    assert step_timings(replace(results, sweeps=[Sweep("threads", {"onnx fp32": swept})])) == [other, once]


def test_cards_name_the_winners_the_tail_and_the_memory() -> None:
    parity = {name: {**known, "perplexity_change": 0.01} for name, known in INVARIANT.items()}
    timings = [
        Timing("torch", ONE, [Round([4e-3] * 500, 300_000_000)]),
        Timing("onnx fp32", ONE, [Round([2e-3] * 500, 90_000_000)]),
        Timing("onnx int8", ONE, [Round([1e-3] * 400 + [9e-3] * 100, 95_000_000)]),
    ]
    results = replace(make_results({"torch": [[1.0]]}), timings=timings, parity=parity)
    assert [(card.title, card.name) for card in cards(results)] == [
        ("Fastest in 1 of 1 scenario", "onnx int8"),
        ("Fastest batch-invariant in 1 of 1 scenario", "onnx fp32"),
        ("Shortest tail of a step", "onnx fp32"),
        ("Least memory", "onnx fp32"),
    ]
    assert cards(results)[0].lines == [
        "4.00x torch",
        "perplexity +1.000%",
        "not batch-invariant: numbers depend on neighbours",
    ]
    assert cards(results)[3].lines[0] == "90 MB, the whole process"
    assert cards(replace(results, timings=[])) == []


def test_shades_are_symmetrical() -> None:
    assert [shade(value) for value in (1.0, 1.04, 1.2, 2, 3, 5, 50)] == [0, 0, 1, 2, 3, 4, 5]
    assert [shade(1 / value) for value in (1.04, 1.2, 2, 3, 5, 50)] == [0, -1, -2, -3, -4, -5]
