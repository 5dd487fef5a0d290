"""What the server says about itself and its model: `/health`, `/metrics`, `/v1/models`, and the model's tokenizer.

`/tokenizer_info`, `/tokenize` and `/detokenize` are those of vLLM's servers. EleutherAI's lm-evaluation-harness asks
them (`tokenizer_backend=remote`) how many tokens of a text are its context."""

import asyncio
import contextlib
import functools
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from ..runtime.errors import LmtoolError, TokenError
from ..runtime.state import State
from ..runtime.stream import suggested
from .completions.prompt import Place, split_prompt, start_of_text
from .concurrency import while_connected
from .errors import ApiError, invalid
from .options import PROBE_SECONDS
from .schemas import DetokenizeRequest, SessionRequest, SuggestRequest, TokenizeRequest, check_count, check_model
from .service import Service, json_response
from .sessions import Session, Snapshot

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


async def create_session(service: Service, request: Request) -> Response:
    """Begin a text that is kept.

    Raises:
        ApiError: As many are kept as may be, or the body is no empty object.
    """
    await service.body(request, SessionRequest)
    session = service.sessions.create(Snapshot(None, start_of_text(service.engine.vocabulary)))
    return json_response(_shown(service, session), 201)


async def show_session(service: Service, request: Request) -> Response:
    """How long a session's text is, and how long it will be kept.

    Raises:
        ApiError: There is none.
    """
    return json_response(_shown(service, service.sessions.get(request.path_params["id"])))


async def delete_session(service: Service, request: Request) -> Response:
    """Forget a session.

    Raises:
        ApiError: There is none.
    """
    service.sessions.delete(request.path_params["id"])
    return json_response({"id": request.path_params["id"], "object": "session", "deleted": True})


def _shown(service: Service, session: Session) -> dict[str, Any]:
    return {
        "id": session.id,
        "object": "session",
        "created": session.created,
        "model": service.options.name,
        "tokens": session.snapshot.tokens,
        "idle_seconds_left": round(service.sessions.idle_seconds_left(session), 3),
    }


async def health(service: Service, _: Request) -> Response:
    """Whether the model answers: it reads a token.

    Raises:
        ApiError: It does not, 503.
    """
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            await service.engine.probe()
    except (LmtoolError, TimeoutError) as error:
        raise ApiError(503, "not_ready", f"the model does not answer: {error or 'it takes too long'}") from error
    return json_response({"status": "ready", "model": service.options.name})


async def metrics(service: Service, _: Request) -> Response:
    """All counters."""
    return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)


async def list_models(service: Service, _: Request) -> Response:
    """The one model, in a list."""
    return json_response({"object": "list", "data": [_model(service)]})


async def show_model(service: Service, request: Request) -> Response:
    """The model.

    Raises:
        ApiError: It has another name, 404.
    """
    check_model(request.path_params["id"], service.options)
    return json_response(_model(service))


async def tokenizer_info(service: Service, _: Request) -> Response:
    """The tokens with a meaning of their own. A text begins after an end of sentence: that is its first token too."""
    tokenization = service.engine.vocabulary.tokenization
    end = tokenization.end_of_sentence
    return json_response(
        {"bos_token": end, "eos_token": end, "unk_token": tokenization.unknown, "rule": tokenization.rule}
    )


async def tokenize(service: Service, request: Request) -> Response:
    """The token ids of a text.

    Raises:
        ApiError: The request is refused.
    """
    asked = await service.body(request, TokenizeRequest)
    check_model(asked.model, service.options)
    ids = await asyncio.to_thread(service.engine.vocabulary.encode, asked.prompt)
    return json_response({"count": len(ids), "max_model_len": service.options.max_prompt_tokens, "tokens": ids})


async def detokenize(service: Service, request: Request) -> Response:
    """The text of token ids.

    Raises:
        ApiError: The request is refused.
    """
    asked = await service.body(request, DetokenizeRequest)
    check_model(asked.model, service.options)
    try:
        return json_response({"prompt": service.engine.vocabulary.decode(asked.tokens)})
    except TokenError as error:
        raise invalid(str(error), "tokens") from error


def _model(service: Service) -> dict[str, Any]:
    return {"id": service.options.name, "object": "model", "created": service.created, "owned_by": "lmtool"}
