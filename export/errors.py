"""Errors of export and verification."""

from ..runtime.errors import LmtoolError


class ExportError(LmtoolError, ValueError):
    """The export is not possible: unsuitable layers or sizes, or damaged or conflicting files."""


class ParityError(LmtoolError, AssertionError):
    """The exported network differs from the original by more than its precision allows."""

    exit_code = 3
