"""The errors that a user of any room can cause: one family, each member also a builtin of its kind.

A message names the thing, what was found, what was expected and, where there is one, the fix. `exit_code` is what the
command line returns for it: 1 failed, 2 wrong usage, 3 a gate was not met.
"""


class LmtoolError(Exception):
    """Base of every error that lmtool raises on purpose."""

    exit_code: int = 1


class ArtifactError(LmtoolError, ValueError):
    """The file is no lmtool artifact, is damaged, or follows a format that this version does not read."""


class VocabularyError(LmtoolError, ValueError):
    """A vocabulary that contradicts itself: duplicate tokens, a missing unknown token, unknown rules."""


class StateError(LmtoolError, ValueError):
    """A state of another model, type, shape or batch size."""


class NumberError(LmtoolError, ArithmeticError):
    """A network whose results are no finite numbers."""


class TokenError(LmtoolError, ValueError):
    """Token ids of a wrong type or shape, or outside the vocabulary."""


class OptionError(LmtoolError, ValueError):
    """An argument outside its range."""

    exit_code = 2


class ProviderError(LmtoolError, RuntimeError):
    """The execution provider that was asked for is not there, or did not take the graph's heavy nodes."""

    exit_code = 3


class JsonError(LmtoolError, ValueError):
    """A text that is not JSON, or JSON of more than is read; its message begins with `is`."""


class StorageError(LmtoolError, OSError):
    """A file could not be read or written."""


class ForkError(LmtoolError, RuntimeError):
    """A predictor or pool that was made before this process was forked: neither thread nor session lives on."""


class OwnerError(LmtoolError, RuntimeError):
    """Two threads use one stream at the same time; the second one's call changed nothing."""


class PoolError(LmtoolError, RuntimeError):
    """A stream pool that is closed or cannot be, a stream that is not open in it, or a call of it that failed."""


class BusyError(PoolError):
    """A stream pool has no room for another request or stream; nothing was changed, try again later."""


class RequestTimeoutError(PoolError, TimeoutError):
    """A request waited longer than it was allowed to; its stream is as it was before."""


def truncated(error: Exception, most: int = 1000) -> str:
    """The beginning of another library's message, which may quote a whole file."""
    text = str(error)
    return text if len(text) <= most else f"{text[:most]}..."
