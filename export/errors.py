"""The errors of exporting and verifying; the family is `lmtool.runtime.LmtoolError`."""

from ..runtime.errors import LmtoolError


class ExportError(LmtoolError, ValueError):
    """An export that cannot be made: a precision, opset or size outside what the format allows."""


class ParityError(LmtoolError, AssertionError):
    """The exported network does not compute what the original computes, within its precision's bounds."""

    exit_code = 3
