"""`POST /v1/completions`."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response

from ..concurrency import while_connected
from ..responses import EventResponse, PiecewiseResponse, event, json_text
from ..schemas import CompletionRequest, check_completion, check_model
from ..service import Service
from .choice import Delta
from .completion import Completion
from .response import Answer

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
    completion = Completion(service.engine, service.sessions, asked, service.options)
    answer = Answer(service.options.name, service.engine.vocabulary, completion, asked.logprobs is not None)
    deadline = service.deadline()
    if not asked.stream:
        body = await while_connected(request.receive, _whole(service, completion, answer, deadline))
        return PiecewiseResponse(body, deadline)
    with_usage = asked.stream_options is not None and asked.stream_options.include_usage
    events = _events(service, completion, answer, deadline, with_usage)
    try:
        first = await while_connected(request.receive, anext(events))
    except BaseException:
        await events.aclose()
        raise
    return EventResponse(first, events, deadline)


async def _whole(service: Service, completion: Completion, answer: Answer, deadline: float) -> bytes:
    """The body of an answer that is not streamed; what it took is given back when it is made."""
    with _counted(service, completion):
        async with contextlib.aclosing(completion.steps(deadline)) as steps:
            deltas = [delta async for step in steps for delta in step]
        body = await _made(lambda: json_text(answer.whole(deltas)).encode(), deltas, deadline)
        completion.finish()
        return body


async def _events(
    service: Service, completion: Completion, answer: Answer, deadline: float, with_usage: bool
) -> AsyncGenerator[bytes, None]:
    """The events of each step together; what they took is given back before the last ones come."""

    def events_of(deltas: Sequence[Delta]) -> bytes:
        return b"".join(event(answer.chunk(delta, with_usage)) for delta in deltas)

    with _counted(service, completion):
        async with contextlib.aclosing(completion.steps(deadline)) as steps:
            async for step in steps:
                told = [delta for delta in step if delta.tokens or delta.blank or delta.finish_reason is not None]
                data = await _made(functools.partial(events_of, told), told, deadline)
                if completion.is_written:
                    completion.finish()
                if data:
                    yield data
        if with_usage:
            yield event(answer.usage_chunk())


@contextlib.contextmanager
def _counted(service: Service, completion: Completion) -> Iterator[None]:
    """In the end what was taken is given back, and the tokens are counted."""
    try:
        yield
    finally:
        completion.give_back()
        service.metrics.generated.inc(completion.completion_tokens)


async def _made(make: Callable[[], Result], deltas: Sequence[Delta], deadline: float) -> Result:
    """What is made of these deltas, in another thread where they have many tokens.

    Raises:
        TimeoutError: It is not made in time.
    """
    if sum(len(delta.tokens) for delta in deltas) < _MANY_TOKENS:
        return make()
    async with asyncio.timeout_at(deadline):
        return await asyncio.to_thread(make)
