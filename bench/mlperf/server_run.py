"""Server: queries that arrive at random, run by a stream pool, at the highest rate that is valid."""

from dataclasses import replace

import numpy as np

from ...runtime.pool.options import PoolOptions
from ...runtime.pool.stream_pool import StreamPool
from ...runtime.predictor import Predictor
from ..load.mlperf_server import LATE_SHARE, MAX_BATCH, server_options, warm_up
from ..workers.job import MlperfTask
from .batched_run import call_seconds
from .max_rate import Probe, Probing, RateSearch, find_max_rate
from .report import report_of, run_test
from .results import MlperfRun
from .samples import SampleLibrary
from .settings import LoadgenTest
from .systems import PooledServer

_SHARES = (1.0, 0.9, 0.7, 0.4)
"""Of the rate that was found, which have a run of full length until one is valid."""


def measure_server(
    predictor: Predictor, library: SampleLibrary, task: MlperfTask, seconds: float, bound: float
) -> MlperfRun:
    """Search the highest valid rate in short runs, then run that one, or a lower one if it is not valid.

    Args:
        predictor: A predictor in any runtime.
        library: The samples.
        task: The folder.
        seconds: Least duration.
        bound: Seconds within which 99 of 100 queries must be answered.
    """
    options = server_options()
    warm_up(predictor, options.batch_sizes)
    runs: list[MlperfRun] = []

    def probe(rate: float, duration: float) -> Probe:
        runs.append(_serve(predictor, library, task, options, rate, duration, bound))
        return Probe(rate, duration, runs[-1].invalid_reasons)

    single = float(np.mean(call_seconds(predictor, library, 1, seconds)))
    search = find_max_rate(probe, 0.5 / single, seconds)
    if search.highest_valid is not None:
        _confirm(search, probe, seconds)
    return _with_search(runs[-1], search)


def _confirm(search: RateSearch, probing: Probing, seconds: float) -> None:
    """Run the highest valid rate for `seconds`, or lower ones if that is not valid, as on a machine that got busier."""
    found = search.highest_valid or 0.0
    for share in _SHARES:
        search.add(probing(share * found, seconds))
        if search.probes[-1].valid:
            return


def _serve(
    predictor: Predictor,
    library: SampleLibrary,
    task: MlperfTask,
    options: PoolOptions,
    rate: float,
    seconds: float,
    bound: float,
) -> MlperfRun:
    """One run at one rate."""
    test = LoadgenTest("server", seconds, rate, len(library), bound)
    with StreamPool(predictor, options) as pool:
        server = PooledServer(pool, library)
        verdict = run_test(test, library, server.issue, task)
        pool.close()
        server.require_success()
    report = report_of(task, verdict, MAX_BATCH, server.refused)
    late = report.mean_seconds - server.seconds / report.queries
    return replace(report, rate=rate, warnings=_lateness(late, report.mean_seconds))


def _lateness(late: float, latency: float) -> list[str]:
    if late <= LATE_SHARE * latency:
        return []
    return [
        f"queries were issued {late * 1000:.2f} ms late on average, expected at most {LATE_SHARE:.0%} of the mean "
        f"latency, {latency * 1000:.2f} ms: the generator is the limit, held up by other work on the machine or by "
        "Python code of the runtime"
    ]


def _with_search(run: MlperfRun, search: RateSearch) -> MlperfRun:
    reasons = list(run.invalid_reasons)
    if not run.valid:
        reasons.insert(0, f"no rate was confirmed: {run.rate:,.4g} requests a second are not valid either")
    return replace(
        run,
        invalid_reasons=reasons,
        highest_valid_rate=run.rate if run.valid else None,
        lowest_invalid_rate=search.lowest_invalid,
        probes=[{"rate": each.rate, "seconds": each.seconds, "valid": each.valid} for each in search.probes],
    )
