"""Texts that are kept between requests: a state each, under an id that cannot be guessed, until nobody uses it."""

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import final

from ..runtime.state import State
from .completions.prompt import Place
from .errors import ApiError, busy
from .options import ServeOptions

_ID_BYTES = 24


@final
@dataclass(frozen=True)
class Snapshot:
    """A text up to some token.

    Attributes:
        state: After all tokens but those in `place.pending`; None where nothing was read.
        place: The token that is read next.
        tokens: How many tokens the text has.
    """

    state: State | None
    place: Place
    tokens: int = 0


@final
class Session:
    """A text that is kept. A request takes it, and puts a new snapshot there when it has ended well."""

    def __init__(self, session_id: str, snapshot: Snapshot, created: int) -> None:
        """Use `Sessions.create`."""
        self.id = session_id
        self.snapshot = snapshot
        self.created = created
        self.is_taken = False
        self.used = 0.0


@final
class Sessions:
    """A bounded number of sessions; those that nobody has used for long are forgotten."""

    def __init__(self, options: ServeOptions, clock: Callable[[], float] = time.monotonic) -> None:
        """None yet. `clock` gives seconds."""
        self._largest = options.max_sessions
        self._idle_seconds = options.session_idle_seconds
        self._clock = clock
        self._sessions: dict[str, Session] = {}  # those that were used last stand last

    def __len__(self) -> int:
        """How many there are."""
        self._expire()
        return len(self._sessions)

    def create(self, snapshot: Snapshot) -> Session:
        """Begin one.

        Raises:
            ApiError: As many are kept as may be: 429.
        """
        self._expire()
        if len(self._sessions) >= self._largest:
            raise busy(f"{len(self._sessions):,} sessions are kept, as many as may be; delete one, or try again later")
        session = Session(secrets.token_urlsafe(_ID_BYTES), snapshot, int(time.time()))
        self._touch(session)
        return session

    def get(self, session_id: str) -> Session:
        """The session with this id; that is no use of it.

        Raises:
            ApiError: There is none: 404.
        """
        self._expire()
        if session_id not in self._sessions:
            raise ApiError(
                404,
                "session_not_found",
                "there is no such session, or nobody has used it for too long; make one: POST /v1/sessions",
                "session",
            )
        return self._sessions[session_id]

    def delete(self, session_id: str) -> None:
        """Forget one; a request that has taken it goes on and keeps nothing.

        Raises:
            ApiError: There is none: 404.
        """
        del self._sessions[self.get(session_id).id]

    @contextlib.contextmanager
    def take(self, session_id: str) -> Iterator[Session]:
        """Keep others from a session for the length of a request. It does not expire meanwhile.

        Raises:
            ApiError: There is none, 404; or another request has it, 409.
        """
        session = self.get(session_id)
        if session.is_taken:
            raise ApiError(
                409, "session_busy", "another request uses this session; send one after the other", "session"
            )
        session.is_taken = True
        try:
            yield session
        finally:
            session.is_taken = False
            if session.id in self._sessions:
                self._touch(session)

    def idle_seconds_left(self, session: Session) -> float:
        """When it will be forgotten, in seconds from now, unless somebody uses it."""
        return max(session.used + self._idle_seconds - self._clock(), 0.0)

    def _touch(self, session: Session) -> None:
        session.used = self._clock()
        self._sessions.pop(session.id, None)
        self._sessions[session.id] = session

    def _expire(self) -> None:
        oldest = self._clock() - self._idle_seconds
        for session in list(self._sessions.values()):
            if session.used > oldest:
                return
            if not session.is_taken:
                del self._sessions[session.id]


@final
class Trail:
    """Snapshots at the latest tokens of a text, as far back as some of them may still be cut off by a stop string."""

    def __init__(self, start: Snapshot, offset: int) -> None:
        """Begin with the snapshot at the prompt's last token, whose text ends at `offset`."""
        self._steps = [(offset, start)]
        self._kept_end = offset
        self._tokens = start.tokens

    @property
    def last(self) -> Snapshot:
        """The snapshot at the last token that is kept."""
        return [snapshot for end, snapshot in self._steps if end <= self._kept_end][-1]

    def add(self, snapshot: Snapshot, end: int, kept_end: int) -> None:
        """Go on by one token.

        Args:
            snapshot: At this token; its number of tokens is counted here.
            end: Where the token's text ends.
            kept_end: Where the text ends that is sure to be kept.
        """
        self._tokens += 1
        self._steps.append((end, replace(snapshot, tokens=self._tokens)))
        self._kept_end = kept_end
        while len(self._steps) > 1 and self._steps[1][0] <= kept_end:
            self._steps.pop(0)
