"""Fuzzing by mutation: change inputs at random, and mutate those further that reach new lines of code."""

import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

_ROOMS = tuple(str(path) for path in (Path("lmtool", room) for room in ("runtime", "model", "export", "bench")))
_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF_FFFF, 0xFFFF_FFFF, 2**63 - 1, 2**64 - 1)
_PIECES = (b"[", b"{", b'"', b"-1", b"1e999", b"null", b"NaN", b"\\ud800", b"\0", b"\xff\xfe", b"\r\n", b"\xef\xbb\xbf")
_LONGEST = 1 << 18


class Lines:
    """Records which lines of the product run, by `sys.settrace`."""

    def __init__(self) -> None:
        self.seen: set[tuple[CodeType, int]] = set()
        self._ours: dict[CodeType, bool] = {}

    def run(self, work: Callable[[bytes], Any], data: bytes) -> int:
        """Run `work(data)`; the number of new lines. Exceptions pass through."""
        before = len(self.seen)
        sys.settrace(self._enter)
        try:
            work(data)
        finally:
            sys.settrace(None)
            self.new = len(self.seen) - before
        return self.new

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        if code not in self._ours:
            self._ours[code] = any(room in code.co_filename for room in _ROOMS) or "planted" in code.co_name
        return self._line if self._ours[code] else None

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            self.seen.add((frame.f_code, frame.f_lineno))
        return self._line


class Mutator:
    """Mutates inputs, deterministically by seed."""

    def __init__(self, seed: int, seeds: Sequence[bytes], mend: Callable[[bytes], bytes]) -> None:
        """Start with `seeds`; `mend` corrects the checksums of every second input."""
        self._draw = random.Random(seed)
        self._pool = list(seeds)
        self._mend = mend

    def next(self) -> bytes:
        """An input with one to eight changes."""
        data = bytearray(self._draw.choice(self._pool))
        for _ in range(self._draw.choice((1, 1, 1, 1, 2, 4, 8))):
            self._change(data)
        mutated = bytes(data[:_LONGEST])
        return self._mend(mutated) if self._draw.random() < 0.5 else mutated

    def keep(self, data: bytes) -> None:
        """Add an input that reached new lines, to mutate it further."""
        self._pool.append(data)

    def _change(self, data: bytearray) -> None:
        draw = self._draw
        at = draw.randrange(len(data) + 1)
        kind = draw.randrange(10)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            data[at : at + draw.choice((1, 4, 64))] = b""
        elif kind == 2:
            data[at:at] = draw.randbytes(draw.choice((1, 4, 64)))
        elif kind == 3:
            data[at:at] = draw.choice(_PIECES) * draw.choice((1, 1, 2, 3000))
        elif kind == 4:
            size = draw.choice((1, 4, 8))
            data[at : at + size] = (draw.choice(_NUMBERS) & (1 << 8 * size) - 1).to_bytes(size, "little")
        elif kind == 5:
            other = draw.choice(self._pool)
            start = draw.randrange(len(other) + 1)
            data[at : at + draw.choice((0, 16, 256))] = other[start : start + draw.choice((8, 64, 1024))]
        elif kind == 6:
            data[:] = data[:at]
        else:
            self._change_number(data)

    def _change_number(self, data: bytearray) -> None:
        """Replace a decimal digit by another number."""
        start = self._draw.randrange(max(len(data) - 4096, 0) + 1) if self._draw.random() < 0.5 else 0
        places = [start + at for at, byte in enumerate(data[start : start + 4096]) if 0x30 <= byte <= 0x39]
        if places:
            at = self._draw.choice(places)
            data[at : at + 1] = self._draw.choice((b"-1", b"0", b"1.5", b"99999999999999999999", b'"1"', b"null"))
