"""`POST /v1/completions`."""

import asyncio
import functools
from collections.abc import AsyncGenerator, Callable
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response

from .answers import Answer
from .choices import Delta
from .completing import Completion
from .events import EventResponse, event
from .requests import CompletionRequest, check_completion, check_model
from .service import Service, json_response
from .waiting import while_connected

Result = TypeVar("Result")
_MANY_TOKENS = 256


async def complete(service: Service, request: Request) -> Response:
    """Write on from prompts; whole, or as server-sent events while it is written.

    Raises:
        ApiError: The request is refused. One that is streamed has its first tokens by then.
    """
    asked = await service.body(request, CompletionRequest)
    check_model(asked.model, service.options)
    check_completion(asked, service.options)
    completion = Completion(service.engine, service.sessions, asked, service.options.max_prompt_tokens)
    answer = Answer(service.options.name, service.engine.vocabulary, completion, asked.logprobs is not None)
    deadline = service.deadline()
    deltas = _counted(service, completion, completion.deltas(deadline))
    if not asked.stream:
        found = await while_connected(request.receive, _all(deltas))
        return await _made(lambda: json_response(answer.whole(found)), sum(len(delta.tokens) for delta in found))
    try:
        first = await while_connected(request.receive, anext(deltas))
    except BaseException:
        await deltas.aclose()
        raise
    with_usage = asked.stream_options is not None and asked.stream_options.include_usage
    return EventResponse(_chunks(answer, first, deltas, with_usage), deadline)


async def _counted(
    service: Service, completion: Completion, deltas: AsyncGenerator[Delta, None]
) -> AsyncGenerator[Delta, None]:
    """The same deltas; in the end the tokens are counted, and what was taken is given back."""
    try:
        async for delta in deltas:
            yield delta
    finally:
        await deltas.aclose()
        service.metrics.generated.inc(completion.completion_tokens)


async def _all(deltas: AsyncGenerator[Delta, None]) -> list[Delta]:
    try:
        return [delta async for delta in deltas]
    finally:
        await deltas.aclose()


async def _chunks(
    answer: Answer, first: Delta, deltas: AsyncGenerator[Delta, None], with_usage: bool
) -> AsyncGenerator[bytes, None]:
    def chunk_of(delta: Delta) -> bytes:
        return event(answer.chunk(delta, with_usage))

    try:
        yield await _made(lambda: chunk_of(first), len(first.tokens))
        async for delta in deltas:
            if delta.tokens or delta.blank or delta.finish_reason is not None:
                yield await _made(functools.partial(chunk_of, delta), len(delta.tokens))
        if with_usage:
            yield event(answer.usage_chunk())
    finally:
        await deltas.aclose()


async def _made(make: Callable[[], Result], tokens: int) -> Result:
    """JSON of so many tokens, made in another thread where they are many."""
    return make() if tokens < _MANY_TOKENS else await asyncio.to_thread(make)
