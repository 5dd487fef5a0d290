"""The command serve; its options for the server are the fields of `ServeOptions`."""

import dataclasses
import functools
import inspect
import os
from pathlib import Path
from typing import Annotated, Any, final

from typer import Context, Exit, Option, Typer
from typer.main import get_command

from .options import Json, Provider, ServedModel, Threads, latest_model, print_if_outdated, read_numbers
from .output import exit_codes, print_result, print_status
from .paths import PathCommand, path_option
from .text import NeverFile, never_words

_KEY_VARIABLE = "LMTOOL_API_KEY"


@final
class ServeCommand(PathCommand):
    """Completed with `server_options` when its options are first used, as `lmtool --help` must not load the server."""

    _params: list[Any]
    _is_complete = False

    @property
    def params(self) -> list[Any]:
        """All options: one list, as typer appends to it."""
        if not self._is_complete:
            self._params += _server_params()
            self._is_complete = True
        return self._params

    @params.setter
    def params(self, declared: list[Any]) -> None:
        self._params = declared

    def invoke(self, ctx: Any) -> Any:
        """Call the function, with the server's options in `ctx.obj`."""
        values = {param.name: ctx.params.pop(param.name) for param in _server_params()}
        ctx.obj = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        return super().invoke(ctx)


@functools.cache
def _server_params() -> list[Any]:
    def template() -> None: ...

    with exit_codes():
        options = server_options()
        read_numbers(option.annotation for option in options)
        template.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    app = Typer(add_completion=False)
    app.command()(template)
    return get_command(app).params


def server_options() -> list[inspect.Parameter]:
    """The fields of `ServeOptions` that are options, with their types, defaults and help texts, and `never_file`."""
    from ..serve import ServeOptions

    options = []
    for field in dataclasses.fields(ServeOptions):
        if field.name not in ("name", "api_key"):
            options.append(_option(field))
        if field.name == "never":
            kind = inspect.Parameter.KEYWORD_ONLY
            options.append(inspect.Parameter("never_file", kind, default=None, annotation=NeverFile))
    return options


def _option(field: "dataclasses.Field[Any]") -> inspect.Parameter:
    several = field.default == ()
    name = field.metadata.get("option", f"--{field.name.replace('_', '-')}")
    kind = list[str] if several else field.type
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=field.default,
        annotation=Annotated[kind, Option(name, help=field.metadata["help"], show_default=not several)],
    )


def serve(
    ctx: Context,
    model: ServedModel = None,
    name: Annotated[
        str | None, Option(help="Name of the model for clients (default: the file's name without its ending).")
    ] = None,
    api_key_file: Annotated[
        Path | None, path_option(f"File with the key that clients must send (or the variable {_KEY_VARIABLE}).")
    ] = None,
    provider: Provider = "cpu",
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Serve an artifact over HTTP to OpenAI's clients, until SIGINT, SIGTERM or SIGHUP."""
    from ..serve import ModelFile, ServeOptions, run_server

    path = model or latest_model(serving=True, provider=provider)
    ctx.obj["never"] += tuple(never_words(None, ctx.obj.pop("never_file")))
    options = ServeOptions(name=path.stem if name is None else name, api_key=_api_key(api_key_file), **ctx.obj)
    if not options.on_loopback and options.api_key is None:
        print_status(
            f"warning: {options.host} is not loopback and there is no key: whoever reaches this machine can use the "
            f"server; give it --api-key-file or {_KEY_VARIABLE}, or leave --host out"
        )
    file = ModelFile(path, provider=provider, threads=threads)
    predictor = file.load()
    print_if_outdated(path, predictor.artifact)

    def on_ready(url: str) -> None:
        text = f"serving {options.name} at {url}"
        print_result(as_json, text, {"url": url, "model": options.name, "path": str(path)})

    try:
        run_server(predictor, options, on_ready, file)
    except KeyboardInterrupt:  # the usual end of a server on a terminal
        raise Exit(130) from None


def _api_key(file: Path | None) -> str | None:
    """The key from the file, else from the environment."""
    from ..serve import checked_key, read_key

    if file is not None:
        return read_key(file)
    key = os.environ.get(_KEY_VARIABLE)
    return None if key is None else checked_key(key, _KEY_VARIABLE)
