"""Endpoints: suggestions, sessions, health, metrics, models, and the model's tokenizer.

`/tokenizer_info`, `/tokenize` and `/detokenize` are those of vLLM's servers. EleutherAI's lm-evaluation-harness uses
them (`tokenizer_backend=remote`) to count the tokens of a context.

An endpoint raises `ApiError` to refuse a request.
"""

import asyncio
import contextlib
import functools
from collections.abc import Sequence
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from ..runtime.errors import LmtoolError, TokenError
from ..runtime.state import State
from ..runtime.suggestions import suggest_tokens
from ..runtime.word_search.word_finder import NextWords
from .completions.prompt import split_prompts
from .concurrency import while_connected
from .engine import Engine
from .errors import ApiError, invalid
from .options import PROBE_SECONDS
from .responses import json_response
from .schemas import DetokenizeRequest, EmptyRequest, SuggestRequest, TokenizeRequest, check_model, check_suggest
from .service import Service
from .sessions import Session, SessionState

_LARGE_VOCABULARY = 32_768
"""From this size on, suggestions are sorted in another thread."""


async def suggest(service: Service, request: Request) -> Response:
    """The words that may follow a text, or that complete its last word."""
    body = await service.read_body(request, SuggestRequest)
    check_suggest(body, service.options)
    words, exact = await while_connected(request.receive, _suggest(service, request, body), service.deadline())
    suggestions = [{"token": word, "probability": probability} for word, probability in words]
    answer: dict[str, Any] = {"object": "suggestions", "model": service.options.name, "suggestions": suggestions}
    if not exact:
        answer["exact"] = False
    return json_response(answer)


async def _suggest(service: Service, request: Request, body: SuggestRequest) -> NextWords:
    """Read the text, and rank what follows. A session moves on only if there is text."""
    engine: Engine = request.state.engine
    vocabulary = engine.vocabulary
    with contextlib.ExitStack() as resources:
        taken = contextlib.nullcontext() if body.session is None else service.sessions.take(body.session, engine.sha256)
        session = resources.enter_context(taken)
        resources.enter_context(engine.slots.take(1))
        start = SessionState(engine.start) if session is None else session.state
        text = start.text_end(vocabulary)
        (prompt,) = await split_prompts(
            [body.text], vocabulary, text, service.options.max_prompt_tokens, with_pieces=False
        )
        text.skip(prompt.ids)
        request.state.tokens = (len(prompt.ids), 0)
        state, tokens = start.state, [*start.pending, *prompt.ids]
        if session is not None and prompt.ids:
            state, tokens = await engine.read_to_end(state, tokens)
        found = await _next_words(engine, state, tokens, body, service.options.never)
        if session is not None and prompt.ids:
            session.state = SessionState(engine.with_pending(state, tokens, text), start.tokens + len(prompt.ids))
        return found


async def _next_words(
    engine: Engine, state: State, tokens: list[int], body: SuggestRequest, never: Sequence[str]
) -> NextWords:
    """The words after these tokens; those of parts of words are searched in another thread."""
    if engine.vocabulary.tokenization.unit == "subword":
        stream = engine.stream(state, tokens)
        return await asyncio.to_thread(stream.next_words, body.count, prefix=body.prefix, never=never)
    logits, _ = await engine.read(state, tokens)
    rank = functools.partial(
        suggest_tokens, lambda: logits, engine.vocabulary, body.count, prefix=body.prefix, never=never
    )
    found = await asyncio.to_thread(rank) if len(logits) >= _LARGE_VOCABULARY else rank()
    return NextWords([(engine.vocabulary.text(token_id), probability) for token_id, probability in found], True)


async def create_session(service: Service, request: Request) -> Response:
    """Start a text that is kept."""
    await service.read_body(request, EmptyRequest)
    session = service.sessions.create(SessionState(service.engine.start))
    return json_response(_session_json(service, session), 201)


async def show_session(service: Service, request: Request) -> Response:
    """The length of a session's text, and how long it will be kept."""
    return json_response(_session_json(service, service.sessions.get(request.path_params["id"])))


async def delete_session(service: Service, request: Request) -> Response:
    """Delete a session."""
    service.sessions.delete(request.path_params["id"])
    return json_response({"id": request.path_params["id"], "object": "session", "deleted": True})


async def health(service: Service, request: Request) -> Response:
    """Whether the model works: it reads a token."""
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            await request.state.engine.probe()
    except (LmtoolError, TimeoutError) as error:
        raise ApiError(503, "not_ready", f"the model does not answer: {error or 'it takes too long'}") from error
    return json_response({"status": "ready", "model": service.options.name})


async def metrics(service: Service, _: Request) -> Response:
    """All metrics."""
    return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)


async def list_models(service: Service, request: Request) -> Response:
    """The served model, in a list."""
    return json_response({"object": "list", "data": [_model_json(service, request.state.engine)]})


async def show_model(service: Service, request: Request) -> Response:
    """The served model."""
    check_model(request.path_params["id"], service.options)
    return json_response(_model_json(service, request.state.engine))


async def reload_model(service: Service, request: Request) -> Response:
    """Replace the model by the one that its file holds now; requests that run end on the old one."""
    await service.read_body(request, EmptyRequest)
    replaced = await service.reload()
    return json_response({**_model_json(service, service.engine), "replaced": replaced})


async def tokenizer_info(_: Service, request: Request) -> Response:
    """The special tokens. A text begins after an end of sentence, so that is also its first token."""
    vocabulary = request.state.engine.vocabulary
    end, unknown = vocabulary.text(vocabulary.end_of_sentence_id), vocabulary.tokenization.unknown
    return json_response(
        {"bos_token": end, "eos_token": end, "unk_token": unknown, "rule": vocabulary.tokenization.rule}
    )


async def tokenize(service: Service, request: Request) -> Response:
    """The token ids of a text."""
    body = await service.read_body(request, TokenizeRequest)
    ids = await asyncio.to_thread(request.state.engine.vocabulary.encode, body.prompt)
    return json_response({"count": len(ids), "max_model_len": service.options.max_prompt_tokens, "tokens": ids})


async def detokenize(service: Service, request: Request) -> Response:
    """The text of token ids."""
    body = await service.read_body(request, DetokenizeRequest)
    try:
        return json_response({"prompt": request.state.engine.vocabulary.decode(body.tokens)})
    except TokenError as error:
        raise invalid(str(error), "tokens") from error


def _session_json(service: Service, session: Session) -> dict[str, Any]:
    return {
        "id": session.id,
        "object": "session",
        "created": session.created,
        "model": service.options.name,
        "tokens": session.state.tokens,
        "idle_seconds_left": round(service.sessions.idle_seconds_left(session), 3),
    }


def _model_json(service: Service, engine: Engine) -> dict[str, Any]:
    return {
        "id": service.options.name,
        "object": "model",
        "created": engine.created,
        "owned_by": "lmtool",
        "sha256": engine.sha256,
    }
