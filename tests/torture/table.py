"""The table of `make torture`: a row per promise, from the recorded figures of its tests.

python tests/torture/table.py build/torture.jsonl
"""

import json
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HEAD = "| promise | tries and results | seconds | positive controls |\n|---|---|---:|---|"


def table(entries: Iterable[dict[str, Any]]) -> str:
    """One row per promise, sorted by promise and test."""
    promises: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in sorted(entries, key=lambda entry: (entry["promise"], entry["test"])):
        promises[entry["promise"]].append(entry)
    return "\n".join([HEAD, *(_row(promise, entries) for promise, entries in promises.items())])


def _row(promise: str, entries: list[dict[str, Any]]) -> str:
    tried = [_line(entry["tried"], dict(entry["figures"])) for entry in entries if "what" in entry["figures"]]
    tried += [f"{entry['test']} {entry['figures']['outcome']}" for entry in entries if "outcome" in entry["figures"]]
    controls = [entry["figures"]["control"] for entry in entries if "control" in entry["figures"]]
    seconds = sum(entry["seconds"] for entry in entries)
    return f"| {promise} | {'<br>'.join(tried)} | {seconds:,.0f} | {'<br>'.join(controls)} |"


def _line(tried: int, figures: dict[str, Any]) -> str:
    what = figures.pop("what")
    figures.pop("control", None)
    return f"{tried:,} {what}: " + ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in figures.items())


if __name__ == "__main__":
    lines = Path(sys.argv[1]).read_text().splitlines()
    sys.stdout.write(table(json.loads(line) for line in lines) + "\n")
