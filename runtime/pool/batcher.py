"""The batcher of a stream pool: one thread that runs waiting requests in batches, its queue and its states.

Callers have checked tokens and states. One lock guards everything except the rows of running streams, and the fields of
running generations: those belong to the thread until their call is done.
"""

import atexit
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import final

import numpy as np
from numpy.typing import NDArray

from ..draws.token_sampler import TokenSampler
from ..errors import ForkError, PoolError, RequestTimeoutError
from ..predictor import Predictor
from ..state import State
from .draw_tokens import draw_tokens
from .generation import Generation
from .options import PoolOptions
from .outcomes import MakeError, error_maker, fail, tell
from .pool_stats import PoolStats
from .request_queue import Entry, Request, RequestQueue
from .slots import Slots

_CLOSED = error_maker(PoolError, "the pool was closed before the request ran")
_EXPIRED = error_maker(RequestTimeoutError, "the request waited longer than its timeout_seconds")
_LATE = error_maker(RequestTimeoutError, "the text was not written within its timeout_seconds")


@final
class Batcher:
    """Accepts requests from any thread and runs them in batches in one thread; `StreamPool` documents the errors."""

    def __init__(self, predictor: Predictor, options: PoolOptions) -> None:
        """Reserve the states and start the thread."""
        self._predictor = predictor
        self._options = options
        self._slots = Slots(tuple(predictor.artifact.architecture.states.values()), options.max_streams)
        self._queue = RequestQueue(options)
        self._sampler = TokenSampler(len(predictor.vocabulary))
        self._requests: dict[int, Request] = {}  # by slot, waiting or running: one a stream
        self._closing_slots: set[int] = set()  # slots of streams that were closed while their request ran
        self._changed = threading.Condition()
        self._closing = self._cancels = False
        self._calls = self._ran = self._tokens = self._padding = 0
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
                waiting=self._queue.waiting,
                jobs=self._queue.generations,
                calls=self._calls,
                requests=self._ran,
                tokens=self._tokens,
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
        error = error_maker(PoolError, f"stream {stream_id} was closed before its request ran")
        with self._open():
            slot = self._slots.slot_of(stream_id)
            self._slots.revoke(slot)
            request = self._requests.get(slot)
            dropped = self._drop([request], error) if request is not None and self._queue.remove(request) else []
            if slot in self._requests:
                self._closing_slots.add(slot)
            else:
                self._slots.release(slot)
        fail(dropped, error)

    def snapshot(self, stream_id: int) -> State:
        """The state of a stream that has no request, batch 1."""
        with self._open():
            slot = self._idle_slot(stream_id)
            return State(self._predictor.artifact.sha256, self._slots.read(np.array([slot])))

    def submit(self, stream_id: int, token_ids: NDArray[np.int64], kept: int, seconds: float) -> Request:
        """Queue a request that waits for `seconds` at most."""
        with self._open():
            now = time.monotonic()
            request = Request(self._idle_slot(stream_id), token_ids.tolist(), kept, now, now + seconds, self._withdraw)
            self._queue.add(request)
            self._requests[request.slot] = request
            self._changed.notify()
        return request

    def generate(self, generation: Generation, state: State | None) -> None:
        """Open a stream that continues `state`, and let it read and write in the pool's own loop until its end."""
        if generation.has_ended:  # it writes nothing
            return
        with self._open():
            self._queue.require_place()
            generation.slot = self._slots.slot_of(self._slots.take())
            if state is not None:
                self._slots.write(np.array([generation.slot]), state.tensors)
            generation.enqueued_at = time.monotonic()
            self._queue.add(generation)
            self._changed.notify()

    def cancel(self, generation: Generation) -> bool:
        """End a generation with CancelledError, after its call if one runs; False if it has ended."""
        self.require_same_process()
        if generation.has_ended:
            return False
        with self._changed:
            if generation.has_ended:
                return False
            generation.is_cancelled = True
            ended = [generation] if self._queue.remove(generation) else []
            self._drop(ended, CancelledError)
        tell(ended)
        return True

    def close(self, cancel_waiting: bool) -> None:
        """Accept no more requests, run or end those that wait, stop the thread."""
        self.require_same_process()
        with self._changed:
            self._closing = True
            self._cancels |= cancel_waiting
            dropped = self._drop(self._queue.take_all() if cancel_waiting else [], _CLOSED)
            self._changed.notify()
        fail(dropped, _CLOSED)
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
        self.require_same_process()
        with self._changed:
            if self._closing:
                raise PoolError("the pool is closed; make another one")
            yield

    def require_same_process(self) -> None:
        """Raise ForkError in a forked process."""
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
        self.require_same_process()
        with self._changed:
            if self._queue.remove(request):
                self._drop([request], CancelledError)

    def _drop(self, entries: Sequence[Entry], error: MakeError) -> list[Entry]:
        """Forget entries that were taken out of the queue and will not run; return those that are not cancelled."""
        for entry in entries:
            if isinstance(entry, Generation):
                self._end(entry, _LATE if error is _EXPIRED else error)
            else:
                del self._requests[entry.slot]
        return [entry for entry in entries if isinstance(entry, Generation) or entry.set_running_or_notify_cancel()]

    def _end(self, generation: Generation, error: MakeError | None = None) -> None:
        """Free the stream and the place of a generation that ends, with this error or its own ending."""
        if error is not None:
            generation.ending = error()
        self._slots.release(generation.slot)
        self._queue.leave()
        generation.close()

    def _begin(self, entries: list[Entry]) -> list[Entry]:
        """Mark requests as running, which ends cancellation; return those to run, in the order of their rows."""
        drawing = [entry for entry in entries if entry.draws]
        if len(drawing) == len(entries):
            return drawing
        others = [entry for entry in entries if not entry.draws]
        begun = [entry for entry in others if isinstance(entry, Generation) or entry.set_running_or_notify_cancel()]
        for entry in others:
            if isinstance(entry, Request) and entry.cancelled():
                del self._requests[entry.slot]
        return drawing + begun

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
        fail(expired, _EXPIRED)
        if batch:
            self._run(batch)
        return True

    def _next_turn(self) -> tuple[list[Entry], list[Entry]] | None:
        """Wait for expired entries or entries to run, and return both; None at the end."""
        with self._changed:
            while True:
                now = time.monotonic()
                expired = self._queue.take_expired(now)
                batch = self._queue.take_batch(now, 0 if self._closing else self._options.linger_seconds)
                if expired or batch:
                    return self._drop(expired, _EXPIRED), self._begin(batch)
                if self._closing:
                    return None
                self._changed.wait(self._queue.seconds_to_wait(now))

    def _run(self, batch: list[Entry]) -> None:
        """Run entries of one shape, and set their results or error without the lock, as callbacks may need it."""
        try:
            logits = self._call(batch)
        except Exception as cause:  # any error, or the entries wait for ever
            message = f"the call for {len(batch)} streams failed: {cause}; their states are as before"
            error = error_maker(PoolError, message, cause)
            self._finish(batch, error)
            fail(batch, error)
            return
        drawing = [entry for entry in batch if isinstance(entry, Generation) and entry.draws]
        if drawing:
            self._draw(drawing, logits[: len(drawing), -1])
        self._finish(batch)
        if len(drawing) < len(batch):
            for entry, kept in zip(batch, logits, strict=False):
                if isinstance(entry, Request):
                    entry.set_result(kept)
        tell(batch)

    def _call(self, batch: list[Entry]) -> NDArray[np.float32]:
        """One call of the session: update the states; return logits, float32 [padded batch, kept, vocabulary]."""
        rows, count, time_steps = self._options.padded_size(len(batch)), len(batch), len(batch[0].token_ids)
        slots = np.full(rows, self._slots.padding)
        slots[:count] = [entry.slot for entry in batch]
        token_ids = np.zeros(rows * time_steps, np.int64)
        token_ids[: count * time_steps] = [token for entry in batch for token in entry.token_ids]
        state = State.made_by(self, self._predictor.artifact.sha256, self._slots.read(slots), rows)
        logits, after = self._predictor.network.run(token_ids.reshape(rows, -1), state, batch[0].kept)
        self._slots.write(slots[:count], after.tensors)
        return logits

    def _draw(self, generations: list[Generation], logits: NDArray[np.float32]) -> None:
        """Draw the next tokens, from float32 [generations, vocabulary]; an error ends these texts and nothing else."""
        try:
            draw_tokens(generations, logits, self._sampler, self._state_with)
        except Exception as cause:  # any error, or the texts wait for ever
            make_error = error_maker(PoolError, f"drawing the tokens of a call failed: {cause}", cause)
            for generation in generations:
                generation.ending = generation.ending or make_error()

    def _state_with(self, slot: int, pending: int) -> State:
        """A copy of a slot's state, with a token that it has not read yet."""
        tensors = self._slots.read(np.array([slot]))
        return State(self._predictor.artifact.sha256, tensors, np.array([[pending]], np.int64))

    def _finish(self, batch: list[Entry], error: MakeError | None = None) -> None:
        """Queue the generations again or end them; let other streams make requests again, and free closed ones."""
        with self._changed:
            self._calls += 1
            self._ran += len(batch)
            self._tokens += len(batch) * len(batch[0].token_ids)
            self._padding += self._options.padded_size(len(batch)) - len(batch)
            going_on = []
            for entry in batch:
                if isinstance(entry, Request):
                    self._free(entry.slot)
                elif self._goes_on(entry, error):
                    going_on.append(entry)
            self._queue.put_back(going_on, time.monotonic())

    def _free(self, slot: int) -> None:
        """Let the stream make requests again; free its slot if it was closed."""
        del self._requests[slot]
        if slot in self._closing_slots:
            self._closing_slots.remove(slot)
            self._slots.release(slot)

    def _goes_on(self, generation: Generation, error: MakeError | None) -> bool:
        """Whether a generation has another request, after one that has run; ends it if not."""
        if generation.ending is not None:
            self._end(generation)
        elif error is not None or generation.is_cancelled or self._cancels:
            self._end(generation, error or (CancelledError if generation.is_cancelled else _CLOSED))
        else:
            if not generation.draws:
                generation.advance()
            return True
        return False
