"""`POST /v1/sessions`, and `GET` and `DELETE` of one."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from .prompts import start_of_text
from .requests import SessionRequest
from .service import Service, json_response
from .sessions import Session, Snapshot


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
