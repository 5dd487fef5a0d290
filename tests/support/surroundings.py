"""What tests inherit from the shell that runs them, set to the same values everywhere."""

import os
import signal

VARIABLES = (
    *("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "TTY_INTERACTIVE"),
    *("LC_ALL", "LC_CTYPE", "LC_MESSAGES", "LANGUAGE", "PYTHONIOENCODING", "PYTHONUNBUFFERED", "PYTHONWARNINGS"),
    *("LMTOOL_API_KEY", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "TORCHELASTIC_RUN_ID", "RANK", "WORLD_SIZE"),
)
"""Environment variables that change what commands print or do."""

_SIGNALS = ("SIGTERM", "SIGHUP", "SIGALRM", "SIGCHLD")


def reset() -> None:
    """Set environment, signals and umask of this process, for all that it starts."""
    for name in VARIABLES:
        os.environ.pop(name, None)
        os.unsetenv(name)  # importing readline sets COLUMNS and LINES where `os.environ` does not show them
    os.environ |= {"LANG": "C.UTF-8", "TERM": "xterm-256color"}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    for name in _SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)  # nohup and some launchers ignore them
    os.umask(0o022)
