"""Find unusual sessions in logs.

    python logs.py fit NORMAL --out DETECTOR        learn from a file of normal sessions, or from a folder of them
    python logs.py find SESSIONS --detector DETECTOR      print the sessions that are not normal, and why
    python logs.py watch --detector DETECTOR < EVENTS     the same for `SESSION KEY` lines, as they come

Sessions are lines of keys; templates.py makes them from raw lines. See README.md.
"""

import argparse
import sys
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import cast

from detector import RULES, Detector, LogError, Surprise, fit, read_log
from lmtool.runtime import LmtoolError, OptionError
from lmtool.runtime.io.files import json_text
from lmtool.runtime.io.lines import read_lines
from monitor import Monitor


def main() -> int:
    """Run the command line; returns the exit code."""
    options = _options()
    try:
        return {"fit": _fit, "find": _find, "watch": _watch}[options.command](options)
    except KeyboardInterrupt:
        return _print_error("interrupted", 130)
    except BrokenPipeError:
        return 141
    except LmtoolError as error:
        return _print_error(str(error), error.exit_code)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Find unusual sessions in logs.")
    commands = parser.add_subparsers(dest="command", required=True)
    fits = commands.add_parser("fit", help="learn a detector from normal sessions")
    fits.add_argument("normal", type=Path, help="file of normal sessions, or folder with one file for each log source")
    fits.add_argument("--out", type=Path, required=True, help="new folder for the detector, or for one of each source")
    fits.add_argument("--quantile", type=float, default=0.99, help="share of held-out sessions within the limits")
    fits.add_argument("--set", action="append", metavar="KEY=VALUE", help="a setting of the training (lmtool settings)")
    fits.add_argument("--seed", type=int, default=1, help="seed of the split and of the training")
    finds = commands.add_parser("find", help="print the unusual sessions of a file")
    finds.add_argument("sessions", type=Path, help="file of sessions, or folder with one file for each log source")
    watches = commands.add_parser("watch", help="read lines of a session's name and a key from standard input")
    watches.add_argument("--most-sessions", type=int, default=100_000, help="open sessions; the idlest makes room")
    for command in (finds, watches):
        command.add_argument("--detector", type=Path, required=True, help="what fit wrote")
        command.add_argument("--rule", choices=RULES, default=RULES[0], help="what decides (default: surprisal)")
        command.add_argument("--json", action="store_true", help="print one JSON object a line for each alarm")
    return parser.parse_args()


def _fit(options: argparse.Namespace) -> int:
    settings = dict(_setting(text) for text in options.set or [])
    for normal, out in _sources(options.normal, options.out):
        detector = fit(normal, out, options.quantile, options.seed, settings)
        limits = ", ".join(f"{rule} {limit:.3g}" for rule, limit in detector.limits.items())
        _print(f"{out}: {len(detector.predictor.vocabulary) - 2:,} keys, limits: {limits}")
    return 0


def _setting(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise OptionError(f"--set is {text!r}, expected KEY=VALUE")
    return key, value


def _find(options: argparse.Namespace) -> int:
    for path, folder in _sources(options.sessions, options.detector):
        detector = Detector.load(folder, options.rule)
        sessions = alarms = 0
        for surprise in detector.find(read_log(path)):
            sessions += 1
            if surprise is not None:
                alarms += 1
                _print_alarm(surprise, options.json)
        sys.stderr.write(f"{path}: {sessions:,} sessions, {alarms:,} alarms\n")
    return 0


def _watch(options: argparse.Namespace) -> int:
    monitor = Monitor(Detector.load(options.detector, options.rule), options.most_sessions)
    for lines in read_lines(cast(BufferedIOBase, sys.stdin.buffer), "standard input"):
        for surprise in monitor.add([_event(line) for line in lines if line.strip()]):
            _print_alarm(surprise, options.json)
    for surprise in monitor.end_all():
        _print_alarm(surprise, options.json)
    return 0


def _event(line: str) -> tuple[str, str]:
    parts = line.split()
    if len(parts) != 2:
        raise LogError(f"found the line {line[:80]!r}, expected a session's name and a key")
    return parts[0], parts[1]


def _sources(path: Path, folder: Path) -> Iterator[tuple[Path, Path]]:
    """The file with the folder of its detector; for a folder each of its files with the folder of the same name."""
    if not path.is_dir():
        yield path, folder
        return
    files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    if not files:
        raise LogError(f"{path} holds no files, expected one for each log source")
    yield from ((file, folder / file.stem) for file in files)


def _print_alarm(surprise: Surprise, as_json: bool) -> None:
    _print(json_text(surprise.to_json()) if as_json else surprise.format())


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _print_error(message: str, code: int) -> int:
    sys.stderr.write(f"error: {message}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
