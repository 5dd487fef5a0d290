"""The errors of lmtool: one family, each member also a subclass of a builtin.

A message names the thing, the value found, the value expected and, if there is one, the fix. `exit_code` is the exit
code of the command line: 1 failed, 2 wrong usage, 3 a gate was not met.
"""


class LmtoolError(Exception):
    """Base of every error that lmtool raises on purpose."""

    exit_code: int = 1


class ArtifactError(LmtoolError, ValueError):
    """The file is not an lmtool artifact, is damaged, or has a format that this version does not read."""


class VocabularyError(LmtoolError, ValueError):
    """An inconsistent vocabulary: duplicate tokens, a missing unknown token, unknown rules."""


class StateError(LmtoolError, ValueError):
    """A state of another model, type, shape or batch size."""


class NumberError(LmtoolError, ArithmeticError):
    """A network computed NaN or infinity."""


class TokenError(LmtoolError, ValueError):
    """Token ids of a wrong type or shape, or outside the vocabulary."""


class OptionError(LmtoolError, ValueError):
    """An argument outside its range."""

    exit_code = 2


class ArgumentError(OptionError, TypeError):
    """An argument of a wrong type."""


class ProviderError(LmtoolError, RuntimeError):
    """The requested execution provider is not available, or does not run the graph's heavy nodes."""

    exit_code = 3


class JsonError(LmtoolError, ValueError):
    """A text that is not JSON, or JSON beyond the limits; its message begins with `is`."""


class StorageError(LmtoolError, OSError):
    """A file could not be read or written."""


class ForkError(LmtoolError, RuntimeError):
    """A predictor or pool from before this process was forked: neither thread nor session survives a fork."""


class OwnerError(LmtoolError, RuntimeError):
    """Two threads use one stream at the same time; the second call changed nothing."""


class PoolError(LmtoolError, RuntimeError):
    """A stream pool is closed or cannot be made, a stream is not open in it, or a call failed."""


class BusyError(PoolError):
    """A stream pool is full; nothing was changed, try again later."""


class RequestTimeoutError(PoolError, TimeoutError):
    """A request waited longer than its time limit; its stream is unchanged."""


def counted(number: int, noun: str) -> str:
    """`1 token`, `2,000 tokens`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def truncated(message: Exception | str, most: int = 1000) -> str:
    """At most `most` characters of a message; another library's may quote a whole file."""
    text = str(message)
    return text if len(text) <= most else f"{text[:most]}..."
