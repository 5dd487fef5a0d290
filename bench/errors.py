"""The errors of benchmarking; the family is `lmtool.runtime.LmtoolError`."""

from ..runtime.errors import LmtoolError


class BenchError(LmtoolError, RuntimeError):
    """A benchmark that cannot be run, or a measured process that ended before its time."""
