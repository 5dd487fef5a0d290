"""Raw log lines to sessions of keys: a key is a line's template, its parts that vary masked.

    python templates.py LOG --session 'blk_-?[0-9]+' --out SESSIONS
    python templates.py LOG --session 'blk_-?[0-9]+' --out SESSIONS --drain3 STATE

The pattern of `--session` finds the sessions that a line belongs to. By default a key is the line itself with numbers,
addresses, paths and the session masked, so the same line has the same key in every run. With `--drain3` the package of
that name (`pip install drain3`) groups lines, and keeps its templates in the file STATE for the next run.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from lmtool.runtime import LmtoolError, OptionError
from lmtool.runtime.io.files import opened, write_atomically
from lmtool.runtime.io.lines import read_lines

_MASKS = (
    (r"(?:/?\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b)", "<ip>"),
    (r"(?<![\w<])(?:/[\w.+-]+){2,}", "<path>"),
    (r"\b0x[0-9a-fA-F]+\b|\b(?=\d*[a-f])(?=[a-f]*\d)[0-9a-f]{8,}\b", "<hex>"),
    (r"(?<![\w.])-?\d+(?:[.,:]\d+)*(?![\w])", "<n>"),
)
Keys = Callable[[str], str]
"""A line's message to its key."""


def masked(message: str, session: re.Pattern[str]) -> str:
    """The key of a message: one word, its parts that vary masked."""
    text = session.sub("<session>", message)
    for pattern, mask in _MASKS:
        text = re.sub(pattern, mask, text)
    return "_".join(text.split()) or "<empty>"


def drain3_keys(state: Path) -> Keys:
    """Keys by the package drain3, whose templates are in the file `state`.

    Raises:
        OptionError: The package is not installed.
    """
    try:
        from drain3 import TemplateMiner
        from drain3.file_persistence import FilePersistence
    except ImportError as error:
        raise OptionError("--drain3 needs the package of that name: pip install drain3") from error
    miner = TemplateMiner(FilePersistence(str(state)))
    return lambda message: f"E{miner.add_log_message(message)['cluster_id']}"


def sessions_of(lines: Iterable[str], session: re.Pattern[str], key: Keys) -> dict[str, list[str]]:
    """The keys of each session in order; a line without a session is left out."""
    found: dict[str, list[str]] = {}
    for line in lines:
        names = dict.fromkeys(match[0] for match in session.finditer(line))
        if names:
            event = key(line)
            for name in names:
                found.setdefault(name, []).append(event)
    return found


def _lines(path: Path) -> Iterator[str]:
    with opened(path, pipes=True) as file:
        for lines in read_lines(file, str(path)):
            yield from lines


def main() -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Make sessions of keys from raw log lines.")
    parser.add_argument("log", type=Path, help="file of log lines")
    parser.add_argument("--session", required=True, help="regular expression that finds a line's sessions")
    parser.add_argument("--out", type=Path, required=True, help="file of sessions, one on each line")
    parser.add_argument("--skip", default="", help="regular expression of what to leave out of each line, as its time")
    parser.add_argument("--drain3", type=Path, metavar="STATE", help="group lines by drain3, its templates in STATE")
    options = parser.parse_args()
    try:
        session, skip = (_pattern(text) for text in (options.session, options.skip or r"(?!)"))
        key = drain3_keys(options.drain3) if options.drain3 else lambda message: masked(message, session)
        sessions = sessions_of((skip.sub("", line) for line in _lines(options.log)), session, key)
        if not sessions:
            raise OptionError(f"--session {options.session!r} is in no line of {options.log}; expected it in some")
        write_atomically(options.out, "".join(f"{' '.join(keys)}\n" for keys in sessions.values()).encode())
    except LmtoolError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    keys = len({key for keys in sessions.values() for key in keys})
    sys.stdout.write(f"{options.out}: {len(sessions):,} sessions of {keys:,} keys\n")
    return 0


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise OptionError(f"{text!r} is no regular expression: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
