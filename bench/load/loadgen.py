"""MLPerf's load generator: it issues queries of samples, times them, and judges the run by its own rules.

It cannot be stopped: where a system fails or SIGINT comes, the run lasts to its end, and later queries count as
answered at once and are not issued.
"""

import importlib.util
import signal
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..errors import BenchError

Answer = Callable[[int, NDArray[np.float32] | None], None]
"""Answers samples of a query: the position of the first one in the query, and their outputs, float32 [samples, ...], or
None for one sample without an output. Each sample is answered once; another answer is ignored."""

Issue = Callable[[list[int], Answer], None]
"""Called for each query with the numbers of its samples. It may return before they are answered."""


def missing() -> str | None:
    """Why loadgen cannot run here, with the remedy; None if it can."""
    if importlib.util.find_spec("mlperf_loadgen"):
        return None
    return (
        "it needs MLPerf's LoadGen, mlcommons-loadgen, which is not installed; pip install 'lmtool[loadgen]' "
        "(there is no wheel for Linux on ARM: with a C++ compiler, pip install mlcommons-loadgen)"
    )


def require_loadgen() -> None:
    """Raise BenchError where loadgen cannot run."""
    reason = missing()
    if reason is not None:
        raise BenchError(reason)


def stop_at_sigint() -> None:
    """Let SIGINT end the process at once. For programs that leave no half-written file."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run_loadgen(settings: Any, samples: int, issue: Issue, folder: Path, *, trace: bool = False) -> NDArray[np.float64]:
    """Run one test, until all queries are answered.

    Args:
        settings: Loadgen's `TestSettings`.
        samples: Number of samples in the library; they are in memory.
        issue: Runs a query.
        folder: An existing folder for the logs.
        trace: Write the times of every query too, about 0.8 kB each.

    Returns:
        Seconds that issuing each query took, float64 [queries].

    Raises:
        BenchError: Loadgen is not installed.
        Exception: The first exception of `issue`, after the run; a KeyboardInterrupt too.
    """
    require_loadgen()
    issuer = _Issuer(issue)
    with _deferred_interrupts(issuer.failures):
        _start_test(settings, samples, issuer, folder, trace)
    if issuer.failures:
        raise issuer.failures[0]
    return np.array(issuer.seconds)


@contextmanager
def _deferred_interrupts(failures: list[BaseException]) -> Iterator[None]:
    """Add a KeyboardInterrupt to `failures` on SIGINT: raised inside loadgen, it would leave requests unanswered."""

    def defer(*_: object) -> None:
        failures.append(KeyboardInterrupt())

    in_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    if not in_main or not callable(before):  # SIGINT is ignored, or not handled in Python
        yield
        return
    signal.signal(signal.SIGINT, defer)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@final
class _Issuer:
    """Issues loadgen's queries and sees to it that each sample is answered once."""

    def __init__(self, issue: Issue) -> None:
        import mlperf_loadgen

        self.seconds = array("d")
        self.failures: list[BaseException] = []
        self._issue = issue
        self._loadgen = mlperf_loadgen

    def __call__(self, ids: list[int], samples: list[int]) -> None:
        """Called by loadgen in the thread that started it; raises nothing."""
        start = time.perf_counter()
        query = _Query(ids, self._loadgen)
        try:
            if self.failures:
                query.close()
            else:
                self._issue(samples, query.answer)
        except Exception as error:
            self.failures.append(error)
            query.close()
        self.seconds.append(time.perf_counter() - start)


@final
class _Query:
    """Samples that loadgen issued together."""

    __slots__ = ("_answered", "_ids", "_loadgen")

    def __init__(self, ids: list[int], loadgen: Any) -> None:
        self._ids = ids
        self._answered = bytearray(len(ids))
        self._loadgen = loadgen

    def answer(self, first: int, outputs: NDArray[np.float32] | None) -> None:
        """An `Answer`."""
        if self._answered[first]:
            return
        count = 1 if outputs is None else len(outputs)
        self._answered[first : first + count] = b"\1" * count
        address, size = 0, 0
        if outputs is not None:
            outputs = np.ascontiguousarray(outputs)
            address, size = outputs.__array_interface__["data"][0], outputs.nbytes // count
        response = self._loadgen.QuerySampleResponse  # loadgen copies the outputs that it logs before it returns
        ids = self._ids[first : first + count]
        self._loadgen.QuerySamplesComplete([response(each, address + n * size, size) for n, each in enumerate(ids)])

    def close(self) -> None:
        """Answer the samples that are still open, without an output."""
        for number in range(len(self._ids)):
            self.answer(number, None)


def _start_test(settings: Any, samples: int, issuer: _Issuer, folder: Path, trace: bool) -> None:
    import mlperf_loadgen as loadgen

    def ignore(*_: Any) -> None:
        """Samples are in memory already, and there is nothing to flush."""

    system = loadgen.ConstructFastSUT(issuer, ignore)
    library = loadgen.ConstructQSL(samples, samples, ignore, ignore)
    try:
        no_audit = str(folder / "audit.config")  # else one in the current folder would change the settings
        loadgen.StartTestWithLogSettings(system, library, settings, _log_settings(folder, trace), no_audit)
    finally:
        loadgen.DestroyQSL(library)
        loadgen.DestroyFastSUT(system)


def _log_settings(folder: Path, trace: bool) -> Any:
    import mlperf_loadgen as loadgen

    settings = loadgen.LogSettings()
    settings.log_output.outdir = str(folder)
    settings.log_output.copy_summary_to_stdout = settings.log_output.copy_detail_to_stdout = False
    settings.enable_trace = trace
    return settings
