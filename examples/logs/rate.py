"""Measure the monitor: many open sessions, whose events come in random order.

    python rate.py DETECTOR SESSIONS --open 100000 --events 1000000

Sessions are drawn from a file. Where one ends, another opens. Only the monitor's own time counts.
"""

import argparse
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from detector import Detector, LogError, read_sessions
from lmtool.runtime import LmtoolError
from monitor import Monitor


class Batch(NamedTuple):
    """Events that come together, and the sessions that end after them."""

    events: list[tuple[str, str]]
    ended: list[str]


def batches(sessions: list[list[str]], most_open: int, size: int) -> Iterator[Batch]:
    """Endless batches of `size` events of `most_open` sessions."""
    rng = random.Random(1)
    names = [str(number) for number in range(most_open)]
    rest = [iter(rng.choice(sessions)) for _ in names]
    opened = most_open
    while True:
        batch = Batch([], [])
        while len(batch.events) < size:
            place = rng.randrange(most_open)
            event = next(rest[place], None)
            if event is not None:
                batch.events.append((names[place], event))
            else:
                batch.ended.append(names[place])
                names[place], rest[place] = str(opened), iter(rng.choice(sessions))
                opened += 1
        yield batch


def resident_megabytes() -> float:
    """The memory of this process (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def main() -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Measure the monitor.")
    parser.add_argument("detector", type=Path, help="what logs.py fit wrote")
    parser.add_argument("sessions", type=Path, help="file of sessions to draw from")
    parser.add_argument("--open", type=int, default=100_000, help="sessions that are open at once")
    parser.add_argument("--events", type=int, default=1_000_000, help="events to read")
    parser.add_argument("--batch", type=int, default=1024, help="events that come together")
    options = parser.parse_args()
    try:
        measure(options.detector, options.sessions, options.open, options.events, options.batch)
    except LmtoolError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


def measure(folder: Path, file: Path, most_open: int, events: int, size: int) -> None:
    """Print the monitor's rate and memory."""
    sessions = [session.split() for session in read_sessions(file)]
    if not sessions:
        raise LogError(f"{file} holds no sessions")
    monitor = Monitor(Detector.load(folder), most_open)
    source = batches(sessions, most_open, size)
    next(source)
    before = resident_megabytes()
    read = alarms = 0
    wall = processor = 0.0
    while read < events:
        batch = next(source)
        clocks = time.perf_counter(), time.process_time()
        alarms += len(monitor.add(batch.events)) + len(monitor.end(batch.ended))
        wall, processor = wall + time.perf_counter() - clocks[0], processor + time.process_time() - clocks[1]
        read += len(batch.events)
    grown = resident_megabytes() - before
    sys.stdout.write(
        f"{read:,} events, {len(monitor):,} sessions open, {alarms:,} alarms\n"
        f"{read / processor:,.0f} events/s of processor time, {read / wall:,.0f} by the clock\n"
        f"{grown:,.0f} MB more than before, {1e3 * grown / len(monitor):.2f} kB a session\n"
    )


if __name__ == "__main__":
    sys.exit(main())
