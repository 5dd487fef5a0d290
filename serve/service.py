"""Service: one model with its engine, sessions and metrics; it reads request bodies."""

import asyncio
import functools
import json
import time
from typing import Any, NoReturn, final

from starlette.requests import ClientDisconnect, Request

from ..runtime.predictor import Predictor
from .concurrency import call
from .engine import Engine
from .errors import ApiError, disconnected, invalid
from .metrics import Metrics
from .options import ServeOptions
from .schemas import Body, check_model, parse_body
from .sessions import Sessions

_JSON = "application/json"
_MAX_LENGTH_DIGITS = 18
_LARGE_BODY_BYTES = 16_384


@final
class Service:
    """One model, served.

    Attributes:
        options: Limits.
        engine: Runs the model.
        sessions: Texts that are kept between requests.
        metrics: Counters.
        created: Seconds since 1970.
    """

    def __init__(self, predictor: Predictor, options: ServeOptions) -> None:
        """Make the stream pool.

        Raises:
            ServeError: As for `Engine`.
            PoolError: As for `Engine`.
        """
        self.options = options
        self.engine = Engine(predictor, options)
        self.sessions = Sessions(options)
        self.metrics = Metrics(self.engine, self.sessions)
        self.created = int(time.time())

    async def read_body(self, request: Request, schema: type[Body]) -> Body:
        """Read and check a request's body.

        Raises:
            ApiError: The body is too large, too slow, not JSON, does not match the schema, or names another model.
        """
        data = await _read_bytes(request, self.options)
        value = await call(functools.partial(_parse_json, data), in_thread=len(data) >= _LARGE_BODY_BYTES)
        body = parse_body(schema, value)
        check_model(getattr(body, "model", None), self.options)
        return body

    def deadline(self) -> float:
        """When a request that starts now must be done, in the event loop's seconds."""
        return asyncio.get_running_loop().time() + self.options.request_seconds


async def _read_bytes(request: Request, options: ServeOptions) -> bytes:
    """Read a JSON body within its limits of size and time.

    The content type is required because browsers ask before they send JSON from a page of another origin; forms cannot
    send it.

    Raises:
        ApiError: The body has another type, 415; is too large, 413; or is too slow, 408.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != _JSON:
        raise ApiError(415, "unsupported_media_type", f"the content-type is {content_type!r}, expected {_JSON}")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and (len(length) > _MAX_LENGTH_DIGITS or int(length) > options.max_body_bytes):
        raise _too_large(length[:_MAX_LENGTH_DIGITS], options)
    body = bytearray()
    try:
        async with asyncio.timeout(options.body_seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > options.max_body_bytes:
                    raise _too_large(f"more than {options.max_body_bytes:,}", options)
    except ClientDisconnect:
        raise disconnected() from None
    except TimeoutError as error:
        raise ApiError(
            408, "body_timeout", f"the body did not come within {options.body_seconds:g} s; send it at once"
        ) from error
    return bytes(body)


def _too_large(size: str, options: ServeOptions) -> ApiError:
    return ApiError(413, "body_too_large", f"the body has {size} bytes, expected {options.max_body_bytes:,} or fewer")


def _parse_json(body: bytes) -> Any:
    """Parse UTF-8 JSON.

    Raises:
        ApiError: The body is not UTF-8 or not JSON, holds NaN or infinity, or is nested too deeply.
    """
    try:
        return json.loads(body.decode(), parse_constant=_refuse_constant)
    except RecursionError:
        raise invalid("the body is nested too deeply, expected a flat JSON object") from None
    except ValueError as error:
        raise invalid(f"the body is not JSON ({error}), expected a JSON object in UTF-8") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
