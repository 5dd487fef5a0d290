"""Reading a request's body: of a bounded size, in bounded time, JSON and nothing else."""

import asyncio
import json
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect, Request

from .errors import ApiError, gone, invalid
from .options import ServeOptions

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
