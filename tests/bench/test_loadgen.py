"""Random arrivals by MLPerf's load generator: its times, its verdict, and what ends a run that goes wrong."""

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from lmtool.bench import BenchError
from lmtool.bench.load.arrivals import Arrivals, run_arrivals
from lmtool.bench.load.loadgen import Answer, missing
from lmtool.bench.load.loadgen_logs import read_logs
from lmtool.bench.statistics.percentile import percentile
from lmtool.runtime import OptionError

needs_loadgen = pytest.mark.skipif(missing() is not None, reason=str(missing()))

LIGHT = Arrivals(rate=800.0, seconds=0.8, latency_bound_seconds=5.0)


def at_once(_: list[int], answer: Answer) -> None:
    answer(0, None)


@needs_loadgen
def test_a_seed_decides_arrivals_and_samples(capfd: pytest.CaptureFixture[str]) -> None:
    samples: list[list[int]] = []

    def issue(given: list[int], answer: Answer) -> None:
        samples[-1].extend(given)
        answer(0, None)

    def run(seed: int) -> np.ndarray:
        samples.append([])
        result = run_arrivals(Arrivals(800.0, 0.8, 5.0, seed), 7, issue)
        assert result.valid
        assert result.invalid_reasons == ()
        assert len(result.due) == len(result.latencies) == len(result.lateness) == len(samples[-1])
        return result.due

    first, again, other = run(1), run(1), run(2)
    np.testing.assert_allclose(first, again, atol=1e-6)
    assert samples[0] == samples[1] != samples[2]
    assert set(samples[0]) == set(range(7))
    assert not np.array_equal(first[:100], other[:100])
    assert first[0] == 0
    assert 0.8 <= first[-1] < 0.85
    gaps = np.diff(first)
    assert np.mean(gaps) == pytest.approx(1 / 800, rel=0.15)
    assert np.std(gaps) == pytest.approx(1 / 800, rel=0.2)  # exponential: as wide as its mean
    assert capfd.readouterr() == ("", "")


@needs_loadgen
def test_a_generator_that_is_held_up_is_seen_and_its_delay_is_part_of_the_latency() -> None:
    def held_up(_: list[int], answer: Answer) -> None:
        time.sleep(0.004)
        answer(0, None)

    quick, slow = run_arrivals(LIGHT, 7, at_once), run_arrivals(LIGHT, 7, held_up)
    assert np.median(quick.lateness) < 0.01
    assert percentile(slow.lateness, 99) > 0.5
    assert (slow.lateness > -1e-5).all()
    # A few may seem later than they were: where the thread lost its core between the answer and loadgen's note of it.
    assert np.mean(slow.latencies >= slow.lateness + 0.004 - 1e-5) > 0.9


@needs_loadgen
def test_answers_in_another_order_belong_to_their_requests() -> None:
    held: list[Answer] = []

    def issue(_: list[int], answer: Answer) -> None:
        held.append(answer)
        if len(held) == 3:
            while held:
                held.pop()(0, None)

    class Flushed(threading.Thread):
        def run(self) -> None:
            time.sleep(1.2)
            while held:
                held.pop()(0, None)

    flushed = Flushed()
    flushed.start()
    result = run_arrivals(LIGHT, 7, issue)
    flushed.join()
    whole = len(result.due) // 3 * 3
    waited = result.latencies[:whole].reshape(-1, 3) + result.due[:whole].reshape(-1, 3)
    assert (waited[:, 0] >= result.due[2:whole:3]).all()  # the first of three is answered when the third has come
    assert (np.diff(waited, axis=1) <= 1e-6).all()


@needs_loadgen
def test_too_few_requests_are_no_valid_run() -> None:
    result = run_arrivals(Arrivals(100.0, 0.2, 5.0), 7, at_once)
    assert not result.valid
    assert result.invalid_reasons[0] == "Early stopping satisfied: NO"
    reasons = result.invalid_reasons
    assert any("Would need to run at least" in reason and "under latency." in reason for reason in reasons)


@needs_loadgen
def test_an_error_ends_the_run_after_the_last_arrival() -> None:
    taken = []

    def issue(samples: list[int], answer: Answer) -> None:
        taken.append(samples)
        if len(taken) == 5:
            raise ZeroDivisionError("planted")
        answer(0, None)

    with pytest.raises(ZeroDivisionError, match="planted"):
        run_arrivals(LIGHT, 7, issue)
    assert len(taken) == 5


@needs_loadgen
def test_an_interrupt_ends_the_run_after_the_last_arrival() -> None:
    taken: list[float] = []

    def issue(_: list[int], answer: Answer) -> None:
        taken.append(time.monotonic())
        answer(0, None)

    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        run_arrivals(LIGHT, 7, issue)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert taken[-1] - taken[0] < 0.7


SLOW_PROGRAM = """
import os, signal, threading
from lmtool.bench.load.arrivals import Arrivals, run_arrivals
from lmtool.bench.load.loadgen import stop_at_sigint
stop_at_sigint()
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
run_arrivals(Arrivals(5.0, 600.0, 1.0), 1, lambda samples, answer: answer(0, None))
"""


@needs_loadgen
@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no signals to other processes")
def test_an_interrupt_ends_a_program_at_once(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    ended = subprocess.run([sys.executable, "-c", SLOW_PROGRAM], capture_output=True, env=environment, timeout=120)
    assert ended.returncode == -signal.SIGINT


@pytest.mark.parametrize(
    ("rate", "seconds", "bound", "seed"),
    [
        (0.0, 1.0, 1.0, 0),
        (float("nan"), 1.0, 1.0, 0),
        (float("inf"), 1.0, 1.0, 0),
        (1e7, 1.0, 1.0, 0),
        (0.5, 1.0, 1.0, 0),
        (5.0, 0.0005, 1.0, 0),
        (5.0, 1.0, 0.0, 0),
        (5.0, 1.0, 1.0, -1),
        (5.0, 1.0, 1.0, 2**32),
    ],
)
def test_arguments_outside_their_ranges_are_refused(rate: float, seconds: float, bound: float, seed: int) -> None:
    with pytest.raises(OptionError, match="expected"):
        Arrivals(rate, seconds, bound, seed)


def test_where_loadgen_is_missing_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BenchError, match=r"pip install 'lmtool\[loadgen\]'"):
        run_arrivals(LIGHT, 7, at_once)


SUMMARY = """Result is : {verdict}
  Performance constraints satisfied : {answer}
  Early stopping satisfied: Yes
{more}
================================================
50.00 percentile latency (ns)   : {median}
99.00 percentile latency (ns)   : 3000
"""
ISSUED = '{{"name":"IssueQuery","ph":"X","pid":1,"tid":1,"ts":{},"dur":2.500,"args":{{}}}},\n'
ANSWERED = (
    '{{"name":"Sample","cat":"default","ph":"b","pid":1,"id":0,"ts":{},"args":{{"sample_seq":{},"query_seq":0,'
    '"sample_idx":0,"issue_start_ns":5,"complete_ns":{}}}}},\n'
)


def write_logs(folder: Path, verdict: str = "VALID", answer: str = "Yes", more: str = "", median: int = 2000) -> None:
    """Three requests, due at 10, 20 and 30 us, whose answers are logged in another order."""
    summary = SUMMARY.format(verdict=verdict, answer=answer, more=more, median=median)
    (folder / "mlperf_log_summary.txt").write_text(summary)
    trace = [ISSUED.format(f"{due + 1}.000") for due in (10, 20, 30)]
    trace += [ANSWERED.format(f"{due}.250", number, 1000 * (number + 1)) for number, due in ((2, 30), (0, 10), (1, 20))]
    (folder / "mlperf_log_trace.json").write_text("".join(trace))


def test_the_logs_give_the_times_of_every_request(tmp_path: Path) -> None:
    write_logs(tmp_path)
    result = read_logs(tmp_path, np.full(3, 1e-6))
    np.testing.assert_allclose(result.latencies, [1e-6, 2e-6, 3e-6])
    np.testing.assert_allclose(result.due, [0, 10e-6, 20e-6])
    np.testing.assert_allclose(result.lateness, [2.25e-6] * 3)  # 1 + 2.5 - 0.25 - 1 us
    assert result.valid


def test_the_logs_give_the_reasons(tmp_path: Path) -> None:
    write_logs(tmp_path, "INVALID", "NO", "Recommendations:\n * Do less\n   and later.\n * Or wait.\nThe end:")
    result = read_logs(tmp_path, np.zeros(3))
    assert result.invalid_reasons == ("Performance constraints satisfied: NO", "Do less and later.", "Or wait.")
    assert not result.valid


def test_an_error_of_loadgen_itself_makes_a_run_invalid(tmp_path: Path) -> None:
    write_logs(tmp_path)
    with (tmp_path / "mlperf_log_summary.txt").open("a") as file:
        file.write("\n2 ERRORS encountered. See detailed log.\n")
    result = read_logs(tmp_path, np.zeros(3))
    assert result.invalid_reasons == ("loadgen met 2 ERRORS",)
    assert not result.valid


def test_logs_that_contradict_each_other_or_lack_something_are_refused(tmp_path: Path) -> None:
    write_logs(tmp_path, median=2001)
    with pytest.raises(BenchError, match="do not agree"):
        read_logs(tmp_path, np.zeros(3))
    with pytest.raises(BenchError, match="3 and 3 of 4 requests"):
        read_logs(tmp_path, np.zeros(4))
    (tmp_path / "mlperf_log_trace.json").write_text("")
    with pytest.raises(BenchError, match="cannot be read"):
        read_logs(tmp_path, np.zeros(3))
