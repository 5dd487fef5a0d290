"""A command on a pseudo-terminal, in a fresh process: type keys and read the screen."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path
from types import TracebackType

from support.processes.commands import PATIENCE_SECONDS, fresh_command

_ROWS = 24


class Terminal:
    """Used in a `with` block, which kills the process at its end."""

    def __init__(
        self, *arguments: object, cwd: Path, without: str = "", columns: int = 80, term: str = "xterm-256color"
    ) -> None:
        self.shown = ""
        self._deadline = time.monotonic() + PATIENCE_SECONDS
        self._own, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, columns, 0, 0))
        # This terminal does not answer requests for the cursor position.
        environment = {**os.environ, "TERM": term, "PROMPT_TOOLKIT_NO_CPR": "1"}
        self._process = subprocess.Popen(
            fresh_command(*arguments, without=without),
            cwd=cwd,
            env=environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._own)

    def type(self, keys: str) -> None:
        os.write(self._own, keys.encode())

    def hang_up(self) -> int:
        """Close the terminal as a lost ssh session does, with SIGHUP from system and shell; the exit code."""
        for _ in range(2):
            self._process.send_signal(signal.SIGHUP)
        os.dup2(os.open(os.devnull, os.O_RDONLY), self._own)
        return self._process.wait(PATIENCE_SECONDS)

    def read_until(self, text: str) -> None:
        """Read until the screen has shown `text`.

        Raises:
            AssertionError: The process ended, or time ran out.
        """
        while text not in self.shown:
            assert self._read(), f"{text!r} was not shown: {self.shown!r}"

    def exit_code(self) -> int:
        """Read to the end; the exit code."""
        while self._read():
            pass
        return self._process.wait(PATIENCE_SECONDS)

    def _read(self) -> bool:
        """Read once; whether there may be more."""
        ready, _, _ = select.select([self._own], [], [], max(0.0, self._deadline - time.monotonic()))
        assert ready, f"nothing more was shown in time: {self.shown!r}"
        try:
            data = os.read(self._own, 1 << 16)
        except OSError:  # on Linux: the process has ended
            return False
        self.shown += data.decode(errors="replace")
        return bool(data)
