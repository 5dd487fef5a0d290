"""Detects forbidden access: files that report every open, and a monitor of Python's audit events."""

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


class Honeypot:
    """A folder whose files report every open, from any language (inotify).

    `secret.bin` lies elsewhere and is reached by its absolute path, by `linked.bin` (a symbolic link) and by `hard.bin`
    (a hard link) in the folder `inside`, which becomes the current folder.
    """

    def __init__(self, folder: Path) -> None:
        outside = folder / "outside"
        self.inside = folder / "inside"
        for directory in (outside, self.inside):
            directory.mkdir(parents=True, exist_ok=True)
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

    def was_accessed(self) -> bool:
        """Whether a file was opened since the last call."""
        try:
            return bool(os.read(self._inotify, 1 << 16))
        except BlockingIOError:
            return False


class AuditMonitor:
    """Records suspicious audit events: code, processes, sockets, and files outside the allowed folders.

    Allowed are `readable`, the files of the interpreter and of this project, and the system's files about processors
    and the limits on their use.
    """

    def __init__(self, *readable: Path) -> None:
        python = [sys.prefix, sys.base_prefix, *filter(None, sys.path)]
        self._prefixes = (*map(str, readable), *map(os.path.realpath, python), *python, str(Path(__file__).parents[3]))
        self._prefixes += ("/proc/self/", "/proc/cpuinfo", "/sys/devices/system/cpu/", "/dev/null", "/dev/urandom")
        self._prefixes += ("/sys/fs/cgroup/",)
        self._recording = False
        self.events: list[str] = []
        sys.addaudithook(self._hook)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record events within the block."""
        self.events, self._recording = [], True
        try:
            yield
        finally:
            self._recording = False

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._recording and self._is_suspicious(event, arguments):
            self._recording = False  # str() below may raise events too
            self.events.append(f"{event} {str(arguments)[:200]}")
            self._recording = True

    def _is_suspicious(self, event: str, arguments: tuple[Any, ...]) -> bool:
        if event == "open":
            return isinstance(arguments[0], (str, bytes, os.PathLike)) and not self._is_known(arguments[0])
        if event == "exec":
            return not self._is_known(arguments[0].co_filename)
        if event == "import":
            return False  # opening the module file is checked instead
        return event in _FORBIDDEN or event.startswith(("os.exec", "os.posix_spawn", "os.spawn", "socket."))

    def _is_known(self, path: str | bytes | os.PathLike[Any]) -> bool:
        absolute = os.path.abspath(os.fsdecode(path))  # noqa: PTH100  # resolving would ask the disk
        return absolute.startswith(self._prefixes) or os.fsdecode(path).startswith("<frozen")


_FORBIDDEN = {"subprocess.Popen", "os.system", "os.fork", "os.forkpty", "pickle.find_class", "compile", "ctypes.dlopen"}
_FORBIDDEN |= {"marshal.loads", "code.__new__", "os.startfile", "webbrowser.open"}
