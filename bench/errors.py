"""The errors of benchmarking; the family is `lmtool.runtime.LmtoolError`."""

from ..runtime.errors import LmtoolError


class BenchError(LmtoolError, RuntimeError):
    """A benchmark that cannot run, or a process that ended early."""
