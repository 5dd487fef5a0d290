"""Where the server listens and what it lets its clients take."""

import math
from dataclasses import dataclass, field
from typing import final

from ..runtime.errors import OptionError

_COUNTS = (
    "max_body_bytes",
    "max_header_bytes",
    "max_connections",
    "max_prompt_tokens",
    "max_tokens",
    "max_answer_tokens",
    "max_prompts",
    "max_n",
    "max_stop_chars",
    "max_suggestions",
    "max_choices",
    "max_sessions",
    "keep_alive_seconds",
    "shutdown_seconds",
)
_SECONDS = ("session_idle_seconds", "request_seconds", "body_seconds")
_LOOPBACK = ("localhost", "::1")


@final
@dataclass(frozen=True)
class ServeOptions:
    """The server's address and bounds.

    Attributes:
        host: Name or address to listen on.
        port: TCP port; 0 for one that is free.
        name: What clients call the model.
        api_key: What clients must send as a bearer token; None: nothing.
        allow_inexact: Take an artifact that is not batch-invariant; see `PoolOptions`.
        max_body_bytes: Size of a request's body.
        max_header_bytes: Size of a request's line and headers.
        max_connections: Connections at once, idle ones included; one more is answered with 503.
        max_prompt_tokens: Tokens of one prompt.
        max_tokens: Tokens that one choice may write.
        max_answer_tokens: Tokens of one answer, those of all its choices together: for each choice `max_tokens` as they
            are asked for, and the prompt's where it is echoed (as many as it has 16 characters, where those are more).
            It bounds an answer's memory, and the time that making it takes: 16,384 with log-probabilities are 4 MB.
        max_prompts: Prompts of one request.
        max_n: Choices for each prompt.
        max_stop_chars: Characters of one stop string.
        max_suggestions: Words that one request may have suggested.
        max_choices: Choices that are written at once, those of all requests together: the slots. A request that would
            need more than are free is answered with 429.
        max_sessions: Sessions that are kept at once.
        session_idle_seconds: How long a session is kept after its last use.
        request_seconds: How long a request may take from its last byte to its answer's last.
        body_seconds: How long a request's body may take to come.
        keep_alive_seconds: How long an idle connection is kept, how long a request's headers may take to come, and how
            long a client may take to read what was sent, 64 KiB or less, before its connection is broken off.
        shutdown_seconds: How long running requests are waited for after SIGINT or SIGTERM.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    name: str = "model"
    api_key: str | None = field(default=None, repr=False)
    allow_inexact: bool = False
    max_body_bytes: int = 262_144
    max_header_bytes: int = 16_384
    max_connections: int = 1024
    max_prompt_tokens: int = 8192
    max_tokens: int = 1024
    max_answer_tokens: int = 16_384
    max_prompts: int = 32
    max_n: int = 16
    max_stop_chars: int = 64
    max_suggestions: int = 100
    max_choices: int = 256
    max_sessions: int = 1000
    session_idle_seconds: float = 600.0
    request_seconds: float = 60.0
    body_seconds: float = 10.0
    keep_alive_seconds: int = 5
    shutdown_seconds: int = 5

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            OptionError: A field is outside its range.
        """
        for name in _COUNTS:
            if getattr(self, name) < 1:
                raise OptionError(f"{name} is {getattr(self, name)}, expected 1 or more")
        for name in _SECONDS:
            if not 0 < getattr(self, name) < math.inf:
                raise OptionError(f"{name} is {getattr(self, name)}, expected a positive number of seconds")
        if not 0 <= self.port < 65536:
            raise OptionError(f"port is {self.port}, expected 0 (one that is free) to 65535")
        for name in ("host", "name"):
            if not getattr(self, name).strip():
                raise OptionError(f"{name} is empty, expected some text")

    @property
    def on_loopback(self) -> bool:
        """Whether only programs on this machine can reach it."""
        return self.host in _LOOPBACK or self.host.startswith("127.")
