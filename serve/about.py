"""What the server says about itself and its model: `/health`, `/metrics`, `/v1/models`, and the model's tokenizer.

`/tokenizer_info`, `/tokenize` and `/detokenize` are those of vLLM's servers. EleutherAI's lm-evaluation-harness asks
them (`tokenizer_backend=remote`) how many tokens of a text are its context.
"""

import asyncio
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from ..runtime.errors import LmtoolError, TokenError
from .errors import ApiError, invalid
from .requests import DetokenizeRequest, TokenizeRequest, check_model
from .service import Service, json_response

_PROBE_SECONDS = 5.0


async def health(service: Service, _: Request) -> Response:
    """Whether the model answers: it reads a token.

    Raises:
        ApiError: It does not, 503.
    """
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
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
