"""The batcher of a stream pool: one thread that runs waiting requests in batches, its queue and its states.

Callers have checked tokens and states. One lock guards everything except the rows of running streams: those belong to
the thread until their requests are done.
"""

import atexit
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from ..errors import ForkError, PoolError, RequestTimeoutError
from ..predictor import Predictor
from ..state import State
from .options import PoolOptions
from .request_queue import Request, RequestQueue
from .slots import Slots


@final
@dataclass(frozen=True)
class PoolStats:
    """Numbers about a pool.

    Attributes:
        open_streams: Open streams.
        waiting: Requests that wait for a call.
        calls: Calls of the session, including failed ones.
        requests: Requests that ran in these calls.
        padding: Rows of these calls that belonged to no request.
        state_bytes: Size of the open streams' states.
        reserved_bytes: Address space of the states of `max_streams` streams.
    """

    open_streams: int
    waiting: int
    calls: int
    requests: int
    padding: int
    state_bytes: int
    reserved_bytes: int


@final
class Batcher:
    """Accepts requests from any thread and runs them in batches in one thread; `StreamPool` documents the errors."""

    def __init__(self, predictor: Predictor, options: PoolOptions) -> None:
        """Reserve the states and start the thread."""
        self._predictor = predictor
        self._options = options
        self._slots = Slots(tuple(predictor.artifact.architecture.states.values()), options.max_streams)
        self._queue = RequestQueue(options)
        self._requests: dict[int, Request] = {}  # by slot, waiting or running: one a stream
        self._closing_slots: set[int] = set()  # slots of streams that were closed while their request ran
        self._changed = threading.Condition()
        self._closing = False
        self._calls = self._ran = self._padding = 0
        self._process = os.getpid()
        self._worker = threading.Thread(target=self._work, name="lmtool-pool", daemon=True)
        self._worker.start()
        atexit.register(self._close_at_exit)

    @property
    def is_own_thread(self) -> bool:
        """Whether the caller runs in the pool's thread."""
        return threading.current_thread() is self._worker

    @property
    def stats(self) -> PoolStats:
        """The numbers at this moment."""
        with self._changed:
            slots = self._slots
            return PoolStats(
                open_streams=slots.taken_count,
                waiting=len(self._queue),
                calls=self._calls,
                requests=self._ran,
                padding=self._padding,
                state_bytes=slots.taken_bytes,
                reserved_bytes=slots.reserved_bytes,
            )

    def open_stream(self, state: State | None) -> int:
        """Take a slot for a new stream that continues `state`; return the stream's id."""
        with self._open():
            stream_id = self._slots.take()
            if state is not None:
                self._slots.write(np.array([self._slots.slot_of(stream_id)]), state.tensors)
            return stream_id

    def close_stream(self, stream_id: int) -> None:
        """Invalidate the id, end a waiting request, and free the slot, now or when a running request is done."""
        with self._open():
            slot = self._slots.slot_of(stream_id)
            self._slots.revoke(slot)
            request = self._requests.get(slot)
            dropped = [] if request is None or not self._queue.remove(request) else self._drop([request])
            if slot in self._requests:
                self._closing_slots.add(slot)
            else:
                self._slots.release(slot)
        _fail(dropped, f"stream {stream_id} was closed before its request ran")

    def snapshot(self, stream_id: int) -> State:
        """The state of a stream that has no request, batch 1."""
        with self._open():
            slot = self._idle_slot(stream_id)
            return State(self._predictor.artifact.sha256, self._slots.read(np.array([slot])))

    def submit(self, stream_id: int, token_ids: NDArray[np.int64], kept: int, seconds: float) -> Request:
        """Queue a request that waits for `seconds` at most."""
        with self._open():
            now = time.monotonic()
            request = Request(self._idle_slot(stream_id), token_ids, kept, now, now + seconds, self._withdraw)
            self._queue.add(request)
            self._requests[request.slot] = request
            self._changed.notify()
        return request

    def close(self, cancel_waiting: bool) -> None:
        """Accept no more requests, run or end those that wait, stop the thread."""
        self._require_same_process()
        with self._changed:
            self._closing = True
            dropped = self._drop(self._queue.take_all() if cancel_waiting else [])
            self._changed.notify()
        _fail(dropped, "the pool was closed before the request ran")
        if not self.is_own_thread:
            self._worker.join()
            atexit.unregister(self._close_at_exit)

    def _close_at_exit(self) -> None:
        """Stop the thread: one that returns from a call after the interpreter has ended aborts the process."""
        if os.getpid() == self._process:
            self.close(cancel_waiting=True)

    @contextmanager
    def _open(self) -> Iterator[None]:
        """Hold the lock of an open pool; raise ForkError in a forked process."""
        self._require_same_process()
        with self._changed:
            if self._closing:
                raise PoolError("the pool is closed; make another one")
            yield

    def _require_same_process(self) -> None:
        if os.getpid() != self._process:
            raise ForkError(
                f"the pool was made in process {self._process}, this is {os.getpid()}: neither thread nor session "
                "lives on after a fork; make a predictor and a pool in each process, after the fork"
            )

    def _idle_slot(self, stream_id: int) -> int:
        slot = self._slots.slot_of(stream_id)
        if slot in self._requests:
            raise PoolError(
                f"stream {stream_id} has a request already, expected none; wait for its result, or cancel it"
            )
        return slot

    def _withdraw(self, request: Request) -> None:
        """Remove a cancelled request; its stream accepts another one at once."""
        self._require_same_process()
        with self._changed:
            if self._queue.remove(request):
                self._drop([request])

    def _drop(self, requests: list[Request]) -> list[Request]:
        """Forget requests that were taken out of the queue and will not run; return those that are not cancelled."""
        for request in requests:
            del self._requests[request.slot]
        return [request for request in requests if request.set_running_or_notify_cancel()]

    def _begin(self, requests: list[Request]) -> list[Request]:
        """Mark requests as running, which ends cancellation; return those that are not cancelled."""
        begun = [request for request in requests if request.set_running_or_notify_cancel()]
        for request in requests:
            if request.cancelled():
                del self._requests[request.slot]
        return begun

    def _work(self) -> None:
        """The thread: wait for a batch, run it, until the pool closes."""
        while self._run_one_batch():
            pass
        with self._changed:
            self._slots.drop()

    def _run_one_batch(self) -> bool:
        """Run the next batch; False at the end. Returning frees the results that local names hold."""
        turn = self._next_turn()
        if turn is None:
            return False
        expired, batch = turn
        _fail(expired, "the request waited longer than its timeout_seconds", RequestTimeoutError)
        if batch:
            self._run(batch)
        return True

    def _next_turn(self) -> tuple[list[Request], list[Request]] | None:
        """Wait for expired requests or requests to run, and return both; None at the end."""
        with self._changed:
            while True:
                now = time.monotonic()
                expired = self._queue.take_expired(now)
                batch = self._queue.take_batch(now, 0 if self._closing else self._options.linger_seconds)
                if expired or batch:
                    return self._drop(expired), self._begin(batch)
                if self._closing:
                    return None
                self._changed.wait(self._queue.seconds_to_wait(now))

    def _run(self, batch: list[Request]) -> None:
        """Run requests of one shape and set their results or error, without the lock, as callbacks may need it."""
        try:
            logits = self._call(batch)
        except Exception as error:  # any error, or the requests wait for ever
            self._finish(batch)
            _fail(batch, f"the call for {len(batch)} streams failed: {error}; their states are as before", cause=error)
            return
        self._finish(batch)
        for request, kept in zip(batch, logits, strict=False):
            request.set_result(kept)

    def _call(self, batch: list[Request]) -> NDArray[np.float32]:
        """One call of the session: update the states; return logits, float32 [padded batch, kept, vocabulary]."""
        rows, count = self._options.padded_size(len(batch)), len(batch)
        slots = np.full(rows, self._slots.padding)
        slots[:count] = [request.slot for request in batch]
        token_ids = np.zeros((rows, len(batch[0].token_ids)), np.int64)
        token_ids[:count] = [request.token_ids for request in batch]
        state = State(self._predictor.artifact.sha256, self._slots.read(slots))
        logits, after = self._predictor.network.run(token_ids, state, batch[0].kept)
        self._slots.write(slots[:count], after.tensors)
        return logits

    def _finish(self, batch: list[Request]) -> None:
        """Let the streams of the batch make requests again; free the slots of closed ones."""
        with self._changed:
            self._calls += 1
            self._ran += len(batch)
            self._padding += self._options.padded_size(len(batch)) - len(batch)
            for request in batch:
                del self._requests[request.slot]
                if request.slot in self._closing_slots:
                    self._closing_slots.remove(request.slot)
                    self._slots.release(request.slot)


def _fail(
    requests: list[Request], message: str, kind: type[PoolError] = PoolError, cause: Exception | None = None
) -> None:
    """End each request with a separate error object."""
    for request in requests:
        error = kind(message)
        error.__cause__ = cause
        request.set_exception(error)
