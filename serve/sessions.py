"""Sessions: texts that are kept between requests under secret ids, until they are idle for too long."""

import contextlib
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import final

from ..runtime.state import State
from ..runtime.text.text_decoder import TextDecoder
from ..runtime.vocabulary import Vocabulary
from .errors import ApiError, busy
from .options import ServeOptions

_ID_BYTES = 24


@final
@dataclass(frozen=True)
class SessionState:
    """A text up to some token.

    Attributes:
        state: The stream's state; the text's last token is pending, with the one before it as `Engine.split` says.
        tokens: Number of tokens of the text.
    """

    state: State
    tokens: int = 0

    @property
    def pending(self) -> list[int]:
        """The pending tokens."""
        pending: list[int] = self.state.pending[0].tolist()
        return pending

    def text_end(self, vocabulary: Vocabulary) -> TextDecoder:
        """A decoder at the end of the text."""
        return TextDecoder(vocabulary, self.pending[-1], self.state.partial, self.state.letters)


@final
class Session:
    """A text that is kept. A request takes the session, and replaces its `state` once it has succeeded."""

    def __init__(self, session_id: str, state: SessionState, created: int) -> None:
        """Use `Sessions.create`."""
        self.id = session_id
        self.state = state
        self.created = created
        self.is_taken = False
        self.used_at = 0.0


@final
class Sessions:
    """A bounded number of sessions; those that are idle for too long expire."""

    def __init__(self, options: ServeOptions, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` returns seconds."""
        self._max_sessions = options.max_sessions
        self._idle_seconds = options.session_idle_seconds
        self._clock = clock
        self._sessions: dict[str, Session] = {}  # in the order of their last use
        self._dropped: deque[str] = deque(maxlen=options.max_sessions)  # ids

    def __len__(self) -> int:
        self._expire()
        return len(self._sessions)

    def create(self, state: SessionState) -> Session:
        """Start a session.

        Raises:
            ApiError: `max_sessions` are kept: 429.
        """
        self._expire()
        if len(self._sessions) >= self._max_sessions:
            raise busy(f"{len(self._sessions):,} sessions are kept, which is the limit; delete one, or try again later")
        session = Session(secrets.token_urlsafe(_ID_BYTES), state, int(time.time()))
        self._touch(session)
        return session

    def get(self, session_id: str) -> Session:
        """The session with this id; this does not count as use.

        Raises:
            ApiError: There is none, 404; or its model was replaced, 410.
        """
        self._expire()
        if session_id in self._dropped:
            raise _model_replaced()
        if session_id not in self._sessions:
            raise ApiError(
                404,
                "session_not_found",
                "there is no such session, or it was idle for too long; make one: POST /v1/sessions",
                "session",
            )
        return self._sessions[session_id]

    def delete(self, session_id: str) -> None:
        """Delete a session; a request that has taken it continues, but its text is not kept.

        Raises:
            ApiError: As for `get`.
        """
        del self._sessions[self.get(session_id).id]

    @contextlib.contextmanager
    def take(self, session_id: str, model_sha256: str) -> Iterator[Session]:
        """Reserve a session for one request, which this model runs. It does not expire meanwhile.

        Raises:
            ApiError: There is none, 404; another model made it, 410; or another request has it, 409.
        """
        session = self.get(session_id)
        if session.state.state.model_sha256 != model_sha256:
            raise _model_replaced()
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

    def drop_others(self, model_sha256: str) -> None:
        """Delete all sessions but those of this model; a request that has taken one continues."""
        for session in list(self._sessions.values()):
            if session.state.state.model_sha256 != model_sha256:
                del self._sessions[session.id]
                self._dropped.append(session.id)

    def idle_seconds_left(self, session: Session) -> float:
        """Seconds until the session expires if it is not used."""
        return max(session.used_at + self._idle_seconds - self._clock(), 0.0)

    def _touch(self, session: Session) -> None:
        session.used_at = self._clock()
        self._sessions.pop(session.id, None)
        self._sessions[session.id] = session

    def _expire(self) -> None:
        latest = self._clock() - self._idle_seconds
        for session in list(self._sessions.values()):
            if session.used_at > latest:
                return
            if not session.is_taken:
                del self._sessions[session.id]


def _model_replaced() -> ApiError:
    return ApiError(
        410,
        "model_replaced",
        "the model of this session was replaced, and no other can continue it; begin another: POST /v1/sessions",
        "session",
    )
