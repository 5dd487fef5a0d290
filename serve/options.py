"""The server's options, limits and defaults.

Each field of `ServeOptions` carries its help text and its range as metadata, from which the command makes its options.
"""

import math
from dataclasses import dataclass, field, fields
from typing import Any, final

from ..runtime.errors import OptionError

MAX_STOPS = 4
"""Stop strings of one request, as for OpenAI."""
MAX_LOGPROBS = 5
"""Most probable tokens that a request can have beside each token, as for OpenAI."""
MAX_SEED = 2**63 - 1
RETRY_AFTER_SECONDS = 1
"""When a client should repeat a request that was answered with 429 or 503."""
PROBE_SECONDS = 5.0
"""How long `/health` waits for the model."""
GRACE_SECONDS = 1.0
"""How long after `request_seconds` a finished answer may still be on its way to a slow client."""
CONNECTION_BACKLOG = 1024
"""Connections that the system holds before they are accepted."""


def _count(default: int, help_text: str) -> Any:
    return field(default=default, metadata={"help": help_text, "above": 0, "below": math.inf, "expected": "1 or more"})


def _seconds(default: float, help_text: str) -> Any:
    expected = "a positive number of seconds"
    return field(default=default, metadata={"help": help_text, "above": 0, "below": math.inf, "expected": expected})


@final
@dataclass(frozen=True)
class ServeOptions:
    """The server's address and limits.

    A field's metadata has `help`; that of a number also `above` and `below`, the open interval of its values, and
    `expected`, the same in words.
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
        default=False, metadata={"help": "Take an artifact that is not batch-invariant (dynamic int8)."}
    )
    max_choices: int = _count(256, "Choices that are written at once, of all requests together; one more gets 429.")
    max_body_bytes: int = _count(262_144, "Size of a request's body.")
    max_header_bytes: int = _count(16_384, "Size of a request's line and headers.")
    max_connections: int = _count(1024, "Connections at once, idle ones included; one more gets 503.")
    max_prompt_tokens: int = _count(8192, "Tokens of one prompt.")
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
    keep_alive_seconds: int = _count(
        5,
        "How long an idle connection is kept, a request's headers may take to arrive, and a client may take to read "
        "what was sent (64 KiB or less).",
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

    @property
    def on_loopback(self) -> bool:
        """Whether only programs on this machine can reach the server."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")
