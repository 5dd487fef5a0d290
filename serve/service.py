"""Reading a request's body: of a bounded size, in bounded time, JSON and nothing else."""

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any, NoReturn, final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from ..runtime.predictor import Predictor
from .engine import Engine
from .errors import ApiError, gone, invalid
from .metrics import Metrics
from .options import ServeOptions
from .responses import json_text
from .schemas import Body, parsed
from .sessions import Sessions

_JSON = "application/json"
_DIGITS = 18


async def read_body(request: Request, options: ServeOptions) -> bytes:
    """The bytes of a JSON body.

    Requiring the type keeps web pages of other origins from posting forms here: browsers ask before they send it.

    Raises:
        ApiError: It has another type, 415; it is too large, 413; or it takes too long to come, 408.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _JSON:
        raise ApiError(415, "unsupported_media_type", f"the content-type is {kind!r}, expected {_JSON}")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and (len(announced) > _DIGITS or int(announced) > options.max_body_bytes):
        raise _too_large(announced[:_DIGITS], options)
    try:
        async with asyncio.timeout(options.body_seconds):
            return await _read(request, options)
    except ClientDisconnect:
        raise gone() from None
    except TimeoutError as error:
        raise ApiError(
            408, "body_timeout", f"the body did not come within {options.body_seconds:g} s; send it at once"
        ) from error


async def _read(request: Request, options: ServeOptions) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > options.max_body_bytes:
            raise _too_large(f"more than {options.max_body_bytes:,}", options)
    return bytes(body)


def _too_large(found: str, options: ServeOptions) -> ApiError:
    return ApiError(413, "body_too_large", f"the body has {found} bytes, expected {options.max_body_bytes:,} or fewer")


def parsed_json(body: bytes) -> Any:
    """The JSON value in a body.

    Raises:
        ApiError: It is not UTF-8 or not JSON, holds NaN or infinity, or is nested too deeply.
    """
    try:
        return json.loads(body.decode(), parse_constant=_refuse_constant)
    except RecursionError:
        raise invalid("the body is nested too deeply, expected a flat JSON object") from None
    except ValueError as error:
        raise invalid(f"the body is not JSON ({error}), expected a JSON object in UTF-8") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


_LARGE_BODY = 16_384
"""Bytes from which on a body is parsed in another thread."""


@final
class Service:
    """One model, served.

    Attributes:
        options: The bounds.
        engine: Runs the model.
        sessions: The texts that are kept.
        metrics: What is counted.
        created: When it was made, in seconds since 1970.
    """

    def __init__(self, predictor: Predictor, options: ServeOptions) -> None:
        """Make the pool.

        Raises:
            ServeError: As for `Engine`, as is PoolError.
        """
        self.options = options
        self.engine = Engine(predictor, options)
        self.sessions = Sessions(options)
        self.metrics = Metrics(self.engine, self.sessions)
        self.created = int(time.time())

    async def body(self, request: Request, kind: type[Body]) -> Body:
        """The request's body.

        Raises:
            ApiError: It is too large, too slow, no JSON, or not of this kind.
        """
        data = await read_body(request, self.options)
        if len(data) < _LARGE_BODY:
            return parsed(kind, parsed_json(data))
        return parsed(kind, await asyncio.to_thread(parsed_json, data))

    def deadline(self) -> float:
        """When a request that begins to run now must be done, in the event loop's seconds."""
        return asyncio.get_running_loop().time() + self.options.request_seconds


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer whose body is a JSON value."""
    return Response(json_text(value), status, headers, media_type="application/json")
