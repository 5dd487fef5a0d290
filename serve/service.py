"""Service: one model with its engines, sessions and metrics; it reads request bodies."""

import asyncio
import functools
import json
from concurrent.futures import Future
from typing import Any, NoReturn, final

from starlette.requests import Request

from ..runtime.errors import LmtoolError
from ..runtime.predictor import Predictor
from .access_log import LOG
from .engine import Engine
from .engines import Engines
from .errors import ApiError, disconnected, invalid
from .metrics import Metrics
from .model_file import ModelFile
from .options import ServeOptions
from .schemas import Body, check_model, parse_body
from .sessions import Sessions
from .slots import Slots

_JSON = "application/json"
_MAX_LENGTH_DIGITS = 18
_LARGE_BODY_BYTES = 16_384


@final
class Service:
    """One model, served; it can be replaced by the file that is there now.

    Attributes:
        options: Limits.
        slots: Bounds the choices that are written at once.
        engines: Run the model; requests lease one.
        sessions: Texts that are kept between requests.
        metrics: Counters.
    """

    def __init__(self, predictor: Predictor, options: ServeOptions, file: ModelFile | None = None) -> None:
        """Make the stream pool.

        Args:
            predictor: The model.
            options: Limits.
            file: Where the model came from, and may come from again; None: it cannot be replaced.

        Raises:
            ServeError: As for `Engine`.
            PoolError: As for `Engine`.
        """
        self.options = options
        self.slots = Slots(options.max_choices)
        self.engines = Engines(Engine(predictor, options, self.slots))
        self.sessions = Sessions(options)
        self.metrics = Metrics(options.name, self.engines, self.slots, self.sessions)
        self._file = file
        self._is_loading = False

    @property
    def engine(self) -> Engine:
        """The engine of new requests."""
        return self.engines.current

    def close(self) -> None:
        """Stop the pools; requests that run fail."""
        self.engines.close()

    async def reload(self) -> bool:
        """Replace the model by the one that its file holds now. Requests that run end on the old one.

        Returns:
            Whether it was replaced; not if the file holds the same model.

        Raises:
            ApiError: There is no file, or the server is open and has no key, 403; the model is being loaded already,
                409; or the file cannot be used, 422.
        """
        file = self._reloadable_file()
        self._is_loading = True
        try:
            engine = await self._load_in_thread(file)
        except Exception as error:
            file.forget()
            self.metrics.reloads.labels("refused").inc()
            LOG.warning("the model stays, as its file cannot be used: %s", error)
            if not isinstance(error, LmtoolError):
                raise
            message = str(error).replace(str(file.path), file.path.name)  # clients need not know the folder
            raise ApiError(422, "model_refused", f"the model stays, as its file cannot be used: {message}") from error
        finally:
            self._is_loading = False
        if engine is not None:
            LOG.info("the model %s is replaced by %s", self.engine.sha256, engine.sha256)
            self.engines.replace(engine)
            self.sessions.drop_others(engine.sha256)
        self.metrics.reloads.labels("unchanged" if engine is None else "replaced").inc()
        return engine is not None

    def _reloadable_file(self) -> ModelFile:
        if self._file is None:
            raise ApiError(403, "reload_not_allowed", "this server was started without its model's file")
        if not self.options.on_loopback and self.options.api_key is None:
            raise ApiError(
                403,
                "reload_not_allowed",
                "the server is open to others and has no key, so anyone could ask for this; give it --api-key-file",
            )
        if self._is_loading:
            raise ApiError(409, "reload_running", "the model is being loaded already; wait for that answer")
        return self._file

    async def _load_in_thread(self, file: ModelFile) -> Engine | None:
        """As `_load_other`. If this is cancelled, as at the server's end, the engine is closed once it is there."""
        loading: Future[Engine | None] = Future()
        try:
            await asyncio.to_thread(lambda: loading.set_result(self._load_other(file)))
        except asyncio.CancelledError:
            loading.add_done_callback(functools.partial(_drop_loaded, file))
            raise
        return loading.result()

    def _load_other(self, file: ModelFile) -> Engine | None:
        """The engine of the file's model; None if it is the current one. Runs in another thread."""
        if not file.has_changed:
            return None
        predictor = file.load()
        if predictor.artifact.sha256 == self.engine.sha256:
            return None
        return Engine(predictor, self.options, self.slots)

    async def read_body(self, request: Request, schema: type[Body]) -> Body:
        """Read and check a request's body.

        Raises:
            ApiError: The body is too large, too slow, not JSON, does not match the schema, or names another model.
        """
        data = await _read_bytes(request, self.options)
        is_large = len(data) >= _LARGE_BODY_BYTES
        value = await asyncio.to_thread(_parse_json, data) if is_large else _parse_json(data)
        body = parse_body(schema, value)
        check_model(getattr(body, "model", None), self.options)
        return body

    def deadline(self) -> float:
        """When a request that starts now must be done, in the event loop's seconds."""
        return asyncio.get_running_loop().time() + self.options.request_seconds


def _drop_loaded(file: ModelFile, loading: "Future[Engine | None]") -> None:
    file.forget()
    if (engine := loading.result()) is not None:
        engine.pool.close()


async def _read_bytes(request: Request, options: ServeOptions) -> bytearray:
    """Read a JSON body within its limits of size and time.

    The content type is required because browsers ask before they send JSON from a page of another origin; forms cannot
    send it.

    Raises:
        ApiError: The body has another type, 415; is too large, 413; or is too slow, 408.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != _JSON:
        raise ApiError(415, "unsupported_media_type", f"the content-type is {content_type!r}, expected {_JSON}")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and (len(length) > _MAX_LENGTH_DIGITS or int(length) > options.max_body_bytes):
        raise _too_large(length[:_MAX_LENGTH_DIGITS], options)
    body = bytearray()
    try:
        async with asyncio.timeout(options.body_seconds):
            while (message := await request.receive())["type"] == "http.request":
                body += message.get("body", b"")
                if len(body) > options.max_body_bytes:
                    raise _too_large(f"more than {options.max_body_bytes:,}", options)
                if not message.get("more_body", False):
                    return body
            raise disconnected()
    except TimeoutError as error:
        raise ApiError(
            408, "body_timeout", f"the body did not come within {options.body_seconds:g} s; send it at once"
        ) from error


def _too_large(size: str, options: ServeOptions) -> ApiError:
    return ApiError(413, "body_too_large", f"the body has {size} bytes, expected {options.max_body_bytes:,} or fewer")


def _parse_json(body: bytearray) -> Any:
    """Parse UTF-8 JSON.

    Raises:
        ApiError: The body is not UTF-8 or not JSON, holds NaN or infinity, or is nested too deeply.
    """
    try:
        return _DECODER.decode(body.decode())
    except RecursionError:
        raise invalid("the body is nested too deeply, expected a flat JSON object") from None
    except ValueError as error:
        raise invalid(f"the body is not JSON ({error}), expected a JSON object in UTF-8") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
