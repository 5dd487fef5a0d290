"""What the endpoints share, and what they do alike: read a body, answer with JSON."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, final

from starlette.requests import Request
from starlette.responses import Response

from ..runtime.predictor import Predictor
from .bodies import parsed_json, read_body
from .encoding import json_text
from .engine import Engine
from .metrics import Metrics
from .options import ServeOptions
from .requests import Body, parsed
from .sessions import Sessions

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
