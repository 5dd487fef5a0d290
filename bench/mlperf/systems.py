"""The system under test: LoadGen's queries run by a predictor, in batches or by a stream pool."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, final

import numpy as np

from ...runtime.errors import BusyError
from ...runtime.pool.stream_pool import StreamPool
from ...runtime.predictor import Predictor
from ...runtime.state import State
from ..load.loadgen import Answer, Issue
from .samples import SampleLibrary


def batched(predictor: Predictor, library: SampleLibrary, size: int) -> Issue:
    """Run the samples of a query in calls of `size`."""
    run, token_ids, states = predictor.network.run_rows, library.token_ids, library.states

    def issue(samples: list[int], answer: Answer) -> None:
        numbers = np.array(samples)
        for first in range(0, len(numbers), size):
            rows = numbers[first : first + size]
            logits, _ = run(token_ids.take(rows, 0), tuple(tensor.take(rows, 0) for tensor in states))
            answer(first, logits[:, -1])

    return issue


@final
class PooledServer:
    """Runs each query as a stream of a pool that begins with the sample's state.

    Attributes:
        seconds: Sum of the seconds from issuing a query to its answer.
        refused: Queries that found the queue full.
    """

    def __init__(self, pool: StreamPool, library: SampleLibrary) -> None:
        self.seconds = 0.0
        self.refused = 0
        self._pool = pool
        self._tokens = list(library.token_ids)
        sha256 = pool.predictor.artifact.sha256
        rows = [tuple(tensor[n : n + 1] for tensor in library.states) for n in range(len(library))]
        self._states = [State(sha256, tensors) for tensors in rows]
        self._failure: BaseException | None = None

    def issue(self, samples: list[int], answer: Answer) -> None:
        """An `Issue`, of one sample a query."""
        self.require_success()
        start, (sample,) = time.perf_counter(), samples
        try:
            stream = self._pool.open_stream(self._states[sample])
        except BusyError:
            self._refuse(answer)
            return
        try:
            request = self._pool.submit(stream, self._tokens[sample])
        except BusyError:
            self._pool.close_stream(stream)
            self._refuse(answer)
        else:
            request.add_done_callback(self._answering(stream, start, answer))

    def require_success(self) -> None:
        """Raise the first exception of a call."""
        if self._failure is not None:
            raise self._failure

    def _refuse(self, answer: Answer) -> None:
        self.refused += 1
        answer(0, None)

    def _answering(self, stream: int, start: float, answer: Answer) -> Callable[[Future[Any]], None]:
        def answered(request: Future[Any]) -> None:
            self._failure = self._failure or request.exception()
            self._pool.close_stream(stream)
            self.seconds += time.perf_counter() - start
            answer(0, None if self._failure is not None else request.result())

        return answered
