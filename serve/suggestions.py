"""`POST /v1/suggest`: the most probable next words."""

import asyncio
import contextlib
import functools

from starlette.requests import Request
from starlette.responses import Response

from ..runtime.state import State
from ..runtime.suggesting import suggested
from .prompts import Place, split_prompt, start_of_text
from .requests import SuggestRequest, check_count, check_model
from .service import Service, json_response
from .sessions import Snapshot
from .waiting import while_connected

_LONG_TEXT = 4096
"""Characters from which on a text is split in another thread."""
_LARGE_VOCABULARY = 4096
"""Tokens from which on they are sorted in another thread."""


async def suggest(service: Service, request: Request) -> Response:
    """The words that may follow a text, or that complete one of which some letters are there.

    Raises:
        ApiError: The request is refused.
    """
    asked = await service.body(request, SuggestRequest)
    check_model(asked.model, service.options)
    check_count(asked, service.options)
    async with asyncio.timeout_at(service.deadline()):
        words = await while_connected(request.receive, _suggest(service, asked))
    shown = [{"token": word, "probability": probability} for word, probability in words]
    return json_response({"object": "suggestions", "model": service.options.name, "suggestions": shown})


async def _suggest(service: Service, asked: SuggestRequest) -> list[tuple[str, float]]:
    """Read the text. A session moves on by it; without text it stays where it is."""
    engine = service.engine
    with contextlib.ExitStack() as taken:
        session = None if asked.session is None else taken.enter_context(service.sessions.take(asked.session))
        taken.enter_context(engine.take_slots(1))
        start = Snapshot(None, start_of_text(engine.vocabulary)) if session is None else session.snapshot
        largest = service.options.max_prompt_tokens
        split = functools.partial(
            split_prompt, asked.text, engine.vocabulary, start.place.previous, largest, with_pieces=False
        )
        prompt = split() if len(asked.text) < _LONG_TEXT else await asyncio.to_thread(split)
        stream = taken.enter_context(engine.open_stream(start.state))
        *before, last = [*start.place.pending, *prompt.ids]
        if before:
            await engine.read(stream, before)
        state: State = engine.pool.state(stream)
        logits = await engine.read(stream, [last])
        find = functools.partial(suggested, lambda: logits, engine.vocabulary, asked.count, prefix=asked.prefix)
        words = find() if len(engine.vocabulary) < _LARGE_VOCABULARY else await asyncio.to_thread(find)
        if session is not None and prompt.ids:
            session.snapshot = Snapshot(state, Place((last,), last), start.tokens + len(prompt.ids))
        return words
