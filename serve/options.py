"""The server's options, limits and defaults.

Each field of `ServeOptions` carries its help text and its range as metadata, from which the command makes its options.
"""

import math
import re
from dataclasses import dataclass, field, fields
from typing import Any, final

from ..runtime.errors import OptionError

MAX_STOPS = 4
"""Stop strings of one request, as for OpenAI."""
MAX_LOGPROBS = 5
"""Most probable tokens that a request can have beside each token, as for OpenAI."""
MAX_BIAS = 100
"""Largest bias of a logit, as for OpenAI; its negative rules the token out."""
MAX_SEED = 2**63 - 1
RETRY_AFTER_SECONDS = 1
"""When a client should repeat a request that was answered with 429 or 503."""
PROBE_SECONDS = 5.0
"""How long `/health` waits for the model."""
GRACE_SECONDS = 1.0
"""How long after `request_seconds` a finished answer may still be on its way to a slow client."""
EVENT_SECONDS = 0.05
"""How long a streamed answer gathers tokens for an event, after the first one, which has what is there first."""
EVENT_SECONDS_PER_CHOICE = 0.002
"""It gathers for this long for each choice that the server writes, if that is more: events cost as much as tokens."""
CONNECTION_BACKLOG = 1024
"""Connections that the system holds before they are accepted."""


_HOST = re.compile(r"\[[0-9a-f:.]+\]|[a-z0-9._-]+", re.IGNORECASE | re.ASCII)
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d+)?", re.ASCII)
_DEFAULT_PORTS = ("http://", ":80"), ("https://", ":443")


def _count(default: int, help_text: str) -> Any:
    return field(default=default, metadata={"help": help_text, "above": 0, "below": math.inf, "expected": "1 or more"})


def _texts(option: str, help_text: str) -> Any:
    return field(default=(), metadata={"help": help_text, "option": option})


def _seconds(default: float, help_text: str) -> Any:
    expected = "a positive number of seconds"
    return field(default=default, metadata={"help": help_text, "above": 0, "below": math.inf, "expected": expected})


@final
@dataclass(frozen=True)
class ServeOptions:
    """The server's address and limits.

    A field's metadata has `help`; that of a number also `above` and `below`, the open interval of its values, and
    `expected`, the same in words; that of several texts `option`, the option that adds one.
    """

    host: str = field(default="127.0.0.1", metadata={"help": "Name or address to listen on."})
    port: int = field(
        default=8000,
        metadata={
            "help": "TCP port; 0: one that is free.",
            "above": -1,
            "below": 65536,
            "expected": "0 (one that is free) to 65535",
        },
    )
    name: str = field(default="model", metadata={"help": "Name of the model for clients."})
    api_key: str | None = field(
        default=None, repr=False, metadata={"help": "Bearer token that clients must send; None: they need none."}
    )
    allow_inexact: bool = field(
        default=False, metadata={"help": "Take an artifact that is not batch-invariant, as some from elsewhere are."}
    )
    cors_origins: tuple[str, ...] = _texts(
        "--cors-origin",
        "Origin of web pages that may use the server, as https://app.example; may be repeated (default: none).",
    )
    allow_hosts: tuple[str, ...] = _texts(
        "--allow-host",
        "Host name that a proxy passes on to a loopback server, without port; may be repeated "
        "(default: loopback's names only).",
    )
    never: tuple[str, ...] = _texts(
        "--never", "A word that is neither written nor suggested, in any letter case; may be repeated."
    )
    metrics_need_key: bool = field(default=False, metadata={"help": "Ask for the API key at /metrics too."})
    access_log: bool = field(
        default=False,
        metadata={"help": "Log each request on stderr: time, method, path, status, duration, tokens, X-Request-Id."},
    )
    max_choices: int = _count(256, "Choices that are written at once, of all requests together; one more gets 429.")
    max_body_bytes: int = _count(262_144, "Size of a request's body.")
    max_header_bytes: int = _count(16_384, "Size of a request's line and headers.")
    max_connections: int = _count(1024, "Connections at once, idle ones included; one more gets 503.")
    max_prompt_tokens: int = _count(8192, "Tokens of one prompt, and bytes of a prefix.")
    max_tokens: int = _count(1024, "Tokens that one choice may write.")
    # It bounds the memory of an answer and the time to encode it: 16,384 tokens with log-probabilities are 4 MB.
    max_answer_tokens: int = _count(
        16_384,
        "Tokens of one answer: max_tokens of every choice, and the prompts that it echoes (their tokens, or a 16th of "
        "their characters where that is more).",
    )
    max_prompts: int = _count(32, "Prompts of one request.")
    max_n: int = _count(16, "Choices for each prompt.")
    max_stop_chars: int = _count(64, "Characters of one stop string.")
    max_suggestions: int = _count(100, "Words that one request may have suggested.")
    max_sessions: int = _count(1000, "Sessions that are kept at once.")
    session_idle_seconds: float = _seconds(600.0, "How long an idle session is kept.")
    request_seconds: float = _seconds(60.0, "How long a request may take, from its last byte to its answer's last.")
    body_seconds: float = _seconds(10.0, "How long a request's body may take to arrive.")
    # Proxies keep idle connections for 60 s (nginx, AWS). They must close first: else they send a request to a
    # connection that the server closes at that moment.
    keep_alive_seconds: int = _count(
        75,
        "How long an idle connection is kept after an answer: longer than a proxy in front keeps it. Where "
        "max_connections are there, one that is idle for client_seconds gives way.",
    )
    client_seconds: int = _count(
        5,
        "How long a new connection may send nothing, a request's headers may take to arrive, and a client may take "
        "to read what was sent (64 KiB or less).",
    )
    shutdown_seconds: int = _count(5, "How long running requests may go on after SIGINT, SIGTERM or SIGHUP.")

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            OptionError: A field is outside its range.
        """
        for option in fields(self):
            value, limits = getattr(self, option.name), option.metadata
            if "above" in limits and not limits["above"] < value < limits["below"]:
                raise OptionError(f"{option.name} is {value}, expected {limits['expected']}")
        for name in ("host", "name"):
            if not getattr(self, name).strip():
                raise OptionError(f"{name} is empty, expected some text")
        for origin in self.cors_origins:
            _check_origin(origin)
        for host in self.allow_hosts:
            if not _HOST.fullmatch(host):
                raise OptionError(f"allow_hosts holds {host[:100]!r}, expected a name or address without port")

    @property
    def on_loopback(self) -> bool:
        """Whether only programs on this machine can reach the server."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")


def _check_origin(origin: str) -> None:
    """Check that browsers may send this as the header `Origin`.

    Raises:
        OptionError: It is `*` or `null`, which all pages could send, or has another form.
    """
    has_default_port = any(origin.startswith(scheme) and origin.endswith(port) for scheme, port in _DEFAULT_PORTS)
    if not _ORIGIN.fullmatch(origin) or has_default_port:
        raise OptionError(
            f"cors_origins holds {origin[:100]!r}, expected what the browser sends as Origin: scheme, host in lower "
            "case, and a port that is not the default, without a path, as https://app.example"
        )
