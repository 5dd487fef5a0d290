"""`lmtool serve`: an HTTP server over the runtime's stream pool (starlette, uvicorn, pydantic, prometheus-client)."""

from .app import create_app
from .errors import ApiError, ServeError
from .model_file import ModelFile
from .options import ServeOptions
from .server import checked_key, read_key, run_server
from .service import Service

__all__ = [
    "ApiError",
    "ModelFile",
    "ServeError",
    "ServeOptions",
    "Service",
    "checked_key",
    "create_app",
    "read_key",
    "run_server",
]
