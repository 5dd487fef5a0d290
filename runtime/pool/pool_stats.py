"""Numbers about a pool."""

from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True)
class PoolStats:
    """Numbers about a pool.

    Attributes:
        open_streams: Open streams.
        waiting: Requests that wait for a call; those of generation jobs are not counted.
        jobs: Generation jobs that have not ended; each has an open stream.
        calls: Calls of the session, including failed ones.
        requests: Requests that ran in these calls; a generation job has one for each part of its prompt and one for
            each token.
        tokens: Tokens that these requests read.
        padding: Rows of these calls that belonged to no request.
        state_bytes: Size of the open streams' states.
        reserved_bytes: Address space of the states of `max_streams` streams.
    """

    open_streams: int
    waiting: int
    jobs: int
    calls: int
    requests: int
    tokens: int
    padding: int
    state_bytes: int
    reserved_bytes: int
