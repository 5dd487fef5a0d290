"""Helpers for asyncio: several coroutines at once; work that ends with its client, or at a deadline."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

from starlette.types import Receive

from .errors import disconnected

Result = TypeVar("Result")


async def gather(coroutines: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Run coroutines concurrently and return their results in order.

    The first error cancels the others and waits for them before it is raised, so that none uses released resources.
    """
    first, *others = coroutines
    if not others:
        return [await first]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in (first, *others)]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


async def while_connected(receive: Receive, coroutine: Coroutine[Any, Any, Result], deadline: float) -> Result:
    """Run a coroutine; cancel it if the client disconnects, or at the deadline.

    Args:
        receive: Gives the connection's messages; the request's body has been read.
        coroutine: Makes the response.
        deadline: In the event loop's seconds.

    Raises:
        ApiError: The client has disconnected, 499.
        TimeoutError: The deadline has passed.
    """
    task = asyncio.current_task()
    assert task is not None
    ends: list[Exception] = []

    def end(error: Exception) -> None:
        if not ends:  # one cancellation
            ends.append(error)
            task.cancel()

    loop = task.get_loop()
    timer = loop.call_at(deadline, end, TimeoutError())
    watch = loop.create_task(_end_at_disconnect(receive, end))
    try:
        return await coroutine
    except asyncio.CancelledError:
        if ends and not task.uncancel():  # else the server stops, too
            raise ends[0] from None
        raise
    finally:
        timer.cancel()
        watch.cancel()


async def _end_at_disconnect(receive: Receive, end: Callable[[Exception], None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    end(disconnected())
