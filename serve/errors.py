"""Errors of the server, in the shape that OpenAI's clients read: `{"error": {message, type, param, code}}`."""

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
    """The server cannot start: its address is taken, or its key or artifact cannot be used."""


@final
class ApiError(LmtoolError, RuntimeError):
    """A request is refused or has failed.

    Attributes:
        status: The HTTP status.
        code: A short name for programs.
        param: The field at fault; None if it is not a field.
    """

    def __init__(self, status: int, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param

    @property
    def headers(self) -> dict[str, str]:
        """The response's headers: the authentication scheme, or when to retry."""
        if self.status == 401:
            return {"www-authenticate": "Bearer"}
        return {"retry-after": str(RETRY_AFTER_SECONDS)} if self.status in (429, 503) else {}

    def to_json(self) -> dict[str, Any]:
        """The response's body."""
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


def invalid(message: str, param: str | None = None) -> ApiError:
    """The request is wrong: 400."""
    return ApiError(400, "invalid_value", message, param)


def busy(message: str) -> ApiError:
    """The server is at a limit: 429."""
    return ApiError(429, "busy", message)


def disconnected() -> ApiError:
    """The client has closed the connection: 499, for the metrics only."""
    return ApiError(499, "client_closed_request", "the client closed the connection before its answer came")


def stopping(advice: str = "") -> ApiError:
    """The server stops: 503."""
    return ApiError(503, "stopping", f"the server is stopping{advice}")


def api_error(error: Exception) -> ApiError:
    """An exception as an `ApiError`; the text of an unexpected one stays in the server's log."""
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
    if isinstance(error, StateError):  # only sessions bring states
        return ApiError(503, "not_finite", f"this session cannot go on: {error}; begin another: POST /v1/sessions")
    return ApiError(500, "internal_error", "the server failed; its log says more")
