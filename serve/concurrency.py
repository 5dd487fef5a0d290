"""Helpers for asyncio: several coroutines at once, work in a thread, work that ends with its client."""

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


async def call(function: Callable[[], Result], *, in_thread: bool) -> Result:
    """Call a function here, or in another thread if it would block the event loop for long."""
    return await asyncio.to_thread(function) if in_thread else function()


async def while_connected(receive: Receive, coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine; cancel it if the client disconnects.

    Args:
        receive: Gives the connection's messages; the request's body has been read.
        coroutine: Makes the response.

    Raises:
        ApiError: The client has disconnected, 499.
    """
    task = asyncio.current_task()
    assert task is not None
    watch = asyncio.ensure_future(_cancel_at_disconnect(receive, task))
    try:
        return await coroutine
    except asyncio.CancelledError:
        if watch.done() and not task.uncancel():  # else the server stops, too
            raise disconnected() from None
        raise
    finally:
        watch.cancel()


async def _cancel_at_disconnect(receive: Receive, task: "asyncio.Task[Any]") -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    task.cancel()
