"""Errors of export and verification."""

from ..runtime.errors import LmtoolError


class ExportError(LmtoolError, ValueError):
    """The export is not possible: unsuitable layers or sizes, or damaged or conflicting files."""


class ParityError(LmtoolError, AssertionError):
    """The export differs from its original: the network by more than its precision allows, or the tokens."""

    exit_code = 3
