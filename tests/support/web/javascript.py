"""The examples' JavaScript modules, run in node."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[3] / "examples"
WEB = EXAMPLES / "web"
NODE = EXAMPLES / "node"
PATIENCE_SECONDS = 120


def node() -> str:
    """The node program; the test is skipped where it is missing."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("node is not installed")
    return program


def require_packages(folder: Path, name: str) -> None:
    """Skip the test where an npm package is missing in an example's folder."""
    if not (folder / "node_modules" / name).is_dir():
        pytest.skip(f"{name} is missing: npm ci --ignore-scripts in examples/{folder.name}")


def run_node(*arguments: object, cwd: Path | None = None, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run node with these arguments."""
    command = [node(), *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, input=stdin, capture_output=True, encoding="utf-8", timeout=PATIENCE_SECONDS, check=False
    )


def evaluate(source: str, given: Any = None, folder: Path = WEB) -> Any:
    """Run the source of a module in `folder`: it reads `given`, and `give(value)` returns a value, both as JSON."""
    prelude = (
        'import { readFileSync } from "node:fs";\n'
        'const given = JSON.parse(readFileSync(0, "utf-8"));\n'
        "const give = (value) => process.stdout.write(JSON.stringify(value));\n"
    )
    finished = run_node("--input-type=module", "-e", prelude + source, cwd=folder, stdin=json.dumps(given))
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)
