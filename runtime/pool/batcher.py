"""The engine of a stream pool: one thread that owns the session, what waits for it, and the states it works on.

Its callers have checked tokens and states. One lock guards everything but the rows of the streams that run at the
moment: those belong to the thread until their requests are done.
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
    """What a pool holds and has done.

    Attributes:
        open_streams: Streams whose slots are taken.
        waiting: Requests that wait for a call.
        calls: Calls of the session, those that failed included.
        requests: Requests that ran in these calls.
        padding: Rows of these calls that belonged to no request.
        state_bytes: Size of the open streams' states.
        reserved_bytes: Address space of all streams that may be open.
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
    """Takes requests from any thread and runs them together in its own."""

    def __init__(self, predictor: Predictor, options: PoolOptions) -> None:
        """Reserve the states and start the thread.

        Raises:
            PoolError: There is not enough memory.
        """
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
        """Whether the caller runs in the thread that would do its work."""
        return threading.current_thread() is self._worker

    @property
    def stats(self) -> PoolStats:
        """What there is and was."""
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
        """Take a slot for a new stream that goes on from `state`; its id.

        Raises:
            BusyError: There is none.
            PoolError: The pool is closed.
        """
        with self._open():
            stream_id = self._slots.take()
            if state is not None:
                self._slots.write(np.array([self._slots.slot_of(stream_id)]), state.tensors)
            return stream_id

    def close_stream(self, stream_id: int) -> None:
        """Make the id wrong, end what waits, and free the slot now or when its request has run.

        Raises:
            PoolError: The stream is not open, or the pool is closed.
        """
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
        """The state of a stream that has no request, batch 1.

        Raises:
            PoolError: The stream is not open or has a request, or the pool is closed.
        """
        with self._open():
            slot = self._idle_slot(stream_id)
            return State(self._predictor.artifact.sha256, self._slots.read(np.array([slot])))

    def submit(self, stream_id: int, token_ids: NDArray[np.int64], kept: int, seconds: float) -> Request:
        """Queue a request that may wait for so many seconds.

        Raises:
            BusyError: The queue is full.
            PoolError: The stream is not open or has a request, or the pool is closed.
        """
        with self._open():
            now = time.monotonic()
            request = Request(self._idle_slot(stream_id), token_ids, kept, now, now + seconds, self._withdraw)
            self._queue.add(request)
            self._requests[request.slot] = request
            self._changed.notify()
        return request

    def close(self, cancel_waiting: bool) -> None:
        """Take nothing more, run or end what waits, stop the thread.

        Raises:
            ForkError: This is another process.
        """
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
        """A thread that comes back from a call when the interpreter is gone would abort the process."""
        if os.getpid() == self._process:
            self.close(cancel_waiting=True)

    @contextmanager
    def _open(self) -> Iterator[None]:
        """Hold the lock of a pool that is open, in the process that made it (else a ForkError)."""
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
        """Take a request out that its owner has cancelled; its stream may make another one at once."""
        self._require_same_process()
        with self._changed:
            if self._queue.remove(request):
                self._drop([request])

    def _drop(self, requests: list[Request]) -> list[Request]:
        """Requests that were taken out of the queue and will not run; those that nobody has cancelled."""
        for request in requests:
            del self._requests[request.slot]
        return [request for request in requests if request.set_running_or_notify_cancel()]

    def _begin(self, requests: list[Request]) -> list[Request]:
        """Of requests that were taken out of the queue, those that nobody has cancelled; now nobody can."""
        begun = [request for request in requests if request.set_running_or_notify_cancel()]
        for request in requests:
            if request.cancelled():
                del self._requests[request.slot]
        return begun

    def _work(self) -> None:
        """What the thread does: wait for a batch, run it, until the pool closes."""
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
        """Requests that have expired and requests to run, at least one; None at the end."""
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
        """Run requests of one kind and hand out the results, or the error. Callbacks of theirs find the lock free."""
        try:
            logits = self._call(batch)
        except Exception as error:  # whatever it was, nobody may wait for ever
            self._finish(batch)
            _fail(batch, f"the call for {len(batch)} streams failed: {error}; their states are as before", cause=error)
            return
        self._finish(batch)
        for request, kept in zip(batch, logits, strict=False):
            request.set_result(kept)

    def _call(self, batch: list[Request]) -> NDArray[np.float32]:
        """One call of the session: logits, float32 [padded batch, kept, vocabulary]; the states move on."""
        rows, count = self._options.padded(len(batch)), len(batch)
        slots = np.full(rows, self._slots.padding)
        slots[:count] = [request.slot for request in batch]
        token_ids = np.zeros((rows, len(batch[0].token_ids)), np.int64)
        token_ids[:count] = [request.token_ids for request in batch]
        state = State(self._predictor.artifact.sha256, self._slots.read(slots))
        logits, after = self._predictor.step(token_ids, state, logits_to_keep=batch[0].kept)
        self._slots.write(slots[:count], after.tensors)
        return logits

    def _finish(self, batch: list[Request]) -> None:
        """The streams of the batch may make requests again; the slots of those that are closed become free."""
        with self._changed:
            self._calls += 1
            self._ran += len(batch)
            self._padding += self._options.padded(len(batch)) - len(batch)
            for request in batch:
                del self._requests[request.slot]
                if request.slot in self._closing_slots:
                    self._closing_slots.remove(request.slot)
                    self._slots.release(request.slot)


def _fail(
    requests: list[Request], message: str, kind: type[PoolError] = PoolError, cause: Exception | None = None
) -> None:
    """End each request with an error of its own."""
    for request in requests:
        error = kind(message)
        error.__cause__ = cause
        request.set_exception(error)
