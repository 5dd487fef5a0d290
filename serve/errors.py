"""What the server refuses, in the shape that OpenAI's clients read: `{"error": {message, type, param, code}}`.

A message says what was found, what was expected and the fix, as those of the other rooms do; `ApiError` adds the HTTP
status.
"""

from typing import Any, final

from ..runtime.errors import (
    BusyError,
    LmtoolError,
    NumberError,
    OptionError,
    PoolError,
    RequestTimeoutError,
    StateError,
    TokenError,
)
from .options import RETRY_AFTER_SECONDS

_TYPES = {401: "authentication_error", 409: "conflict_error", 429: "rate_limit_error"}


@final
class ServeError(LmtoolError, RuntimeError):
    """A server that cannot start: its address is taken, or its key or artifact cannot be used."""


@final
class ApiError(LmtoolError, RuntimeError):
    """A request that is refused or has failed.

    Attributes:
        status: The HTTP status.
        param: The field that is to blame, None where it is not one.
        code: A short name for programs.
    """

    def __init__(self, status: int, code: str, message: str, param: str | None = None) -> None:
        """Say why."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param

    @property
    def headers(self) -> dict[str, str]:
        """What the answer carries beside its body: 401 asks for a key, and 429 says when to try again."""
        if self.status == 401:
            return {"www-authenticate": "Bearer"}
        return {"retry-after": str(RETRY_AFTER_SECONDS)} if self.status in (429, 503) else {}

    def to_json(self) -> dict[str, Any]:
        """The body."""
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


def invalid(message: str, param: str | None = None) -> ApiError:
    """The error of a request that is wrong whenever it is sent: 400."""
    return ApiError(400, "invalid_value", message, param)


def busy(message: str) -> ApiError:
    """The error of a request that came while there was no room: 429."""
    return ApiError(429, "busy", message)


def gone() -> ApiError:
    """The error of a request whose client does not wait for its answer: 499, which nobody reads."""
    return ApiError(499, "client_closed_request", "the client closed the connection before its answer came")


def api_error(error: Exception) -> ApiError:
    """What a client is told about an error; those that are nobody's fault but ours keep their text to themselves."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, BusyError):
        return busy(str(error))
    if isinstance(error, (RequestTimeoutError, TimeoutError)):
        return ApiError(504, "timeout", str(error) or "the request took longer than it may; ask for fewer tokens")
    if isinstance(error, (OptionError, TokenError)):
        return invalid(str(error))
    if isinstance(error, PoolError):
        return ApiError(503, "pool_failed", str(error))
    if isinstance(error, NumberError):
        return ApiError(503, "not_finite", str(error))
    if isinstance(error, StateError):  # of a session, as nobody else brings one
        return ApiError(503, "not_finite", f"this session cannot go on: {error}; begin another: POST /v1/sessions")
    return ApiError(500, "internal_error", "the server failed; its log says more")
