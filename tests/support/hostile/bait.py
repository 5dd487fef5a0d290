"""Who reads what nobody should: files that report every opening, and a guard on what Python itself does."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

_IN_ACCESS, _IN_OPEN = 0x1, 0x20
_NAMES = ("relative.bin", "linked.bin", "hard.bin")


class Bait:
    """A folder whose files say when anybody, in any language, opens them (inotify).

    `secret.bin` lies elsewhere and is reached by its absolute path, by `linked.bin` (a symbolic link) and by `hard.bin`
    (a hard link) in the folder `inside`, which is made the current one.
    """

    def __init__(self, folder: Path) -> None:
        outside = folder / "outside"
        self.inside = folder / "inside"
        for place in (outside, self.inside):
            place.mkdir(parents=True, exist_ok=True)
        self.secret = outside / "secret.bin"
        self.secret.write_bytes(np.arange(4096, dtype=np.float32).tobytes())
        (self.inside / "relative.bin").write_bytes(self.secret.read_bytes())
        for name, link in (("linked.bin", os.symlink), ("hard.bin", os.link)):
            if not (self.inside / name).exists():
                link(self.secret, self.inside / name)
        self.canary = folder / "canary"
        self._inotify = self._watch([self.secret, *(self.inside / name for name in _NAMES)])

    @staticmethod
    def _watch(paths: list[Path]) -> int:
        libc = ctypes.CDLL(None, use_errno=True)
        inotify = int(libc.inotify_init1(os.O_NONBLOCK))
        assert inotify >= 0
        for path in paths:
            assert libc.inotify_add_watch(inotify, os.fsencode(path), _IN_ACCESS | _IN_OPEN) >= 0, path
        return inotify

    def was_taken(self) -> bool:
        """Whether a file was opened since this was last asked."""
        try:
            return bool(os.read(self._inotify, 1 << 16))
        except BlockingIOError:
            return False


class Guard:
    """Takes note of what Python's audit hooks report while it watches: code, processes, sockets and other files.

    What is `readable`, the interpreter's own files, those of this project and what the system tells of its processors
    may be read.
    """

    def __init__(self, *readable: Path) -> None:
        python = [sys.prefix, sys.base_prefix, *filter(None, sys.path)]
        self._prefixes = (*map(str, readable), *map(os.path.realpath, python), *python, str(Path(__file__).parents[3]))
        self._prefixes += ("/proc/self/", "/proc/cpuinfo", "/sys/devices/system/cpu/", "/dev/null", "/dev/urandom")
        self._watching = False
        self.noticed: list[str] = []
        sys.addaudithook(self._hook)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Take note within the block."""
        self.noticed, self._watching = [], True
        try:
            yield
        finally:
            self._watching = False

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._watching and self._is_strange(event, arguments):
            self._watching = False  # the note itself needs no note
            self.noticed.append(f"{event} {str(arguments)[:200]}")
            self._watching = True

    def _is_strange(self, event: str, arguments: tuple[Any, ...]) -> bool:
        if event == "open":
            return isinstance(arguments[0], (str, bytes, os.PathLike)) and not self._is_known(arguments[0])
        if event == "exec":
            return not self._is_known(arguments[0].co_filename)
        if event == "import":
            return False  # of modules that lie where the interpreter does: their opening is checked
        return event in _FORBIDDEN or event.startswith(("os.exec", "os.posix_spawn", "os.spawn", "socket."))

    def _is_known(self, path: str | bytes | os.PathLike[Any]) -> bool:
        found = os.path.abspath(os.fsdecode(path))  # noqa: PTH100  # resolving would ask the disk
        return found.startswith(self._prefixes) or os.fsdecode(path).startswith("<frozen")


_FORBIDDEN = {"subprocess.Popen", "os.system", "os.fork", "os.forkpty", "pickle.find_class", "compile", "ctypes.dlopen"}
_FORBIDDEN |= {"marshal.loads", "code.__new__", "os.startfile", "webbrowser.open"}
