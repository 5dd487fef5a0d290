"""Run a study: an error becomes a message and an exit code, as on the command line."""

import sys
from collections.abc import Callable
from typing import NoReturn

from lmtool.runtime.errors import LmtoolError


def run_program(main: Callable[[], int | None]) -> NoReturn:
    """Run `main` and exit with the code that it returns; None is 0.

    An `LmtoolError` is written to stderr as `error: MESSAGE` and ends the process with the error's exit code; SIGINT
    ends it with 130.
    """
    try:
        sys.exit(main() or 0)
    except KeyboardInterrupt:
        message, code = "interrupted", 130
    except LmtoolError as error:
        message, code = str(error), error.exit_code
    sys.stderr.write(f"error: {message}\n")
    sys.exit(code)
