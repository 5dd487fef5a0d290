"""The endpoint `POST /v1/completions`: a whole response, or server-sent events."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence

from starlette.requests import Request
from starlette.responses import Response

from ..concurrency import while_connected
from ..responses import Events, EventStream, LargeJsonResponse, compact_json, event, json_text
from ..schemas import CompletionRequest, check_completion
from ..service import Service
from .choice import Delta
from .completion import Completion
from .response import CompletionResponse

_MANY_TOKENS = 256
"""From this many tokens on, JSON is encoded in another thread."""


async def complete(service: Service, request: Request) -> Response:
    """Continue prompts."""
    body = await service.read_body(request, CompletionRequest)
    check_completion(body, service.options)
    completion = Completion(request.state.engine, service.sessions, body, service.options)
    response = CompletionResponse(service.options.name, completion, body.logprobs is not None)
    deadline = service.deadline()
    if not body.stream:
        whole = _whole(service, request, completion, response, deadline)
        data = await while_connected(request.receive, whole, deadline)
        return LargeJsonResponse(data, deadline)
    with_usage = body.stream_options is not None and body.stream_options.include_usage
    return EventStream(_events(service, request, completion, response, deadline, with_usage), deadline)


async def _whole(
    service: Service, request: Request, completion: Completion, response: CompletionResponse, deadline: float
) -> bytes:
    """The body of a response that is not streamed. Slots are released once it is encoded."""
    with _released(service, request, completion):
        deltas = await completion.start()
        await completion.wait()
        deltas += completion.take()
        to_text = json_text if _has_many_tokens(deltas) else compact_json
        data = await _encode(lambda: to_text(response.whole(deltas)).encode(), deltas, deadline)
        completion.finish()
        return data


async def _events(
    service: Service,
    request: Request,
    completion: Completion,
    response: CompletionResponse,
    deadline: float,
    with_usage: bool,
) -> AsyncGenerator[Events, None]:
    """The events, each group with what came since the last. Slots are released before the last ones are sent."""

    def encode(deltas: Sequence[Delta]) -> bytes:
        return b"".join(event(response.chunk(delta, with_usage)) for delta in deltas)

    with _released(service, request, completion):
        async with asyncio.timeout_at(deadline):
            deltas = await completion.start()
        while True:
            parts = [delta for delta in deltas if delta.tokens or delta.blank or delta.finish_reason is not None]
            data = await _encode(functools.partial(encode, parts), parts, deadline)
            if completion.is_done:
                completion.finish()
                break
            if data:
                yield Events(data)
            await completion.wait_for_more(deadline)
            deltas = completion.take()
    yield Events(data + (event(response.usage_chunk()) if with_usage else b""), are_last=True)


@contextlib.contextmanager
def _released(service: Service, request: Request, completion: Completion) -> Iterator[None]:
    """Release the completion's resources at the end, and count its tokens."""
    try:
        yield
    finally:
        completion.release()
        request.state.tokens = (completion.prompt_tokens, completion.completion_tokens)
        service.metrics.generated.inc(completion.completion_tokens)


async def _encode(encode: Callable[[], bytes], deltas: Sequence[Delta], deadline: float) -> bytes:
    """Encode deltas, in another thread if they have many tokens.

    Raises:
        TimeoutError: The deadline has passed.
    """
    if not _has_many_tokens(deltas):
        return encode()
    async with asyncio.timeout_at(deadline):
        return await asyncio.to_thread(encode)


def _has_many_tokens(deltas: Sequence[Delta]) -> bool:
    return sum(len(delta.tokens) for delta in deltas) >= _MANY_TOKENS
