"""The command that serves: serve."""

import os
from pathlib import Path
from typing import Annotated

import typer

from .options import Json, Model, Provider, Threads, latest_model, parse_path
from .output import print_result, print_status, require_module

_KEY_VARIABLE = "LMTOOL_API_KEY"


def serve(
    model: Model = None,
    host: Annotated[str, typer.Option(help="Name or address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="TCP port; 0: one that is free.")] = 8000,
    name: Annotated[
        str | None, typer.Option(help="What clients call the model (default: the file's name without its ending).")
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            help=f"File with the key that clients must send (or the variable {_KEY_VARIABLE}).", parser=parse_path
        ),
    ] = None,
    provider: Provider = "cpu",
    threads: Threads = 1,
    allow_inexact: Annotated[
        bool, typer.Option("--allow-inexact", help="Take an artifact that is not batch-invariant (dynamic int8).")
    ] = False,
    max_choices: Annotated[int, typer.Option(help="Choices that are written at once; one more gets 429.")] = 256,
    max_body_bytes: Annotated[int, typer.Option(help="Size of a request's body.")] = 262_144,
    max_header_bytes: Annotated[int, typer.Option(help="Size of a request's line and headers.")] = 16_384,
    max_connections: Annotated[int, typer.Option(help="Connections at once; one more gets 503.")] = 1024,
    max_prompt_tokens: Annotated[int, typer.Option(help="Tokens of one prompt.")] = 8192,
    max_tokens: Annotated[int, typer.Option(help="Tokens that one choice may write.")] = 1024,
    max_answer_tokens: Annotated[
        int, typer.Option(help="Tokens of one answer: those of all its choices, and of the prompts that it echoes.")
    ] = 16_384,
    max_prompts: Annotated[int, typer.Option(help="Prompts of one request.")] = 32,
    max_n: Annotated[int, typer.Option(help="Choices for each prompt.")] = 16,
    max_stop_chars: Annotated[int, typer.Option(help="Characters of one stop string.")] = 64,
    max_suggestions: Annotated[int, typer.Option(help="Words that one request may have suggested.")] = 100,
    max_sessions: Annotated[int, typer.Option(help="Sessions that are kept at once.")] = 1000,
    session_idle_seconds: Annotated[float, typer.Option(help="How long an idle session is kept.")] = 600.0,
    request_seconds: Annotated[float, typer.Option(help="How long a request may take.")] = 60.0,
    body_seconds: Annotated[float, typer.Option(help="How long a request's body may take to come.")] = 10.0,
    keep_alive_seconds: Annotated[int, typer.Option(help="How long an idle connection is kept.")] = 5,
    shutdown_seconds: Annotated[int, typer.Option(help="How long running requests are waited for at the end.")] = 5,
    as_json: Json = False,
) -> None:
    """Serve an artifact over HTTP, as OpenAI's clients expect it, until SIGINT or SIGTERM."""
    require_module("uvicorn")
    from ..runtime import Predictor
    from ..serve import ServeOptions, run_server

    path = model or latest_model()
    options = ServeOptions(
        host=host,
        port=port,
        name=path.stem if name is None else name,
        api_key=_api_key(api_key_file),
        allow_inexact=allow_inexact,
        max_choices=max_choices,
        max_body_bytes=max_body_bytes,
        max_header_bytes=max_header_bytes,
        max_connections=max_connections,
        max_prompt_tokens=max_prompt_tokens,
        max_tokens=max_tokens,
        max_answer_tokens=max_answer_tokens,
        max_prompts=max_prompts,
        max_n=max_n,
        max_stop_chars=max_stop_chars,
        max_suggestions=max_suggestions,
        max_sessions=max_sessions,
        session_idle_seconds=session_idle_seconds,
        request_seconds=request_seconds,
        body_seconds=body_seconds,
        keep_alive_seconds=keep_alive_seconds,
        shutdown_seconds=shutdown_seconds,
    )
    if not options.on_loopback and options.api_key is None:
        print_status(
            f"warning: {host} is not loopback and there is no key: whoever reaches this machine can use the server; "
            f"give it --api-key-file or {_KEY_VARIABLE}, or leave --host out"
        )
    predictor = Predictor.load(path, provider=provider, threads=threads)

    def on_ready(url: str) -> None:
        print_result(
            as_json, f"serving {options.name} at {url}", {"url": url, "model": options.name, "path": str(path)}
        )

    try:
        run_server(predictor, options, on_ready)
    except KeyboardInterrupt:  # which is how a server at a terminal is ended
        raise typer.Exit(130) from None


def _api_key(file: Path | None) -> str | None:
    """The key of the file, else of the environment, else none."""
    from ..serve import checked_key, read_key

    if file is not None:
        return read_key(file)
    key = os.environ.get(_KEY_VARIABLE)
    return None if key is None else checked_key(key, _KEY_VARIABLE)
