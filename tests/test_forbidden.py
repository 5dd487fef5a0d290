"""What is nowhere in the project, whatever it is for: calls that run what a file or a user says."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CALLS = {"eval", "exec", "compile", "os.system", "os.popen", "torch.load", "torch.save", "np.load"}
MODULES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
KEYWORDS = {("shell", True), ("weights_only", False), ("allow_pickle", True)}
TESTS_MAY = {"pickle"}  # which make hostile files
NOT_OURS = {".venv", ".venv-lowest", ".venv-newest", "build", "node_modules"}
CONTROLS = {"tests/support/careless.py"}  # does what none of the others may, to show what comes of it


def forbidden(source: str, modules: set[str]) -> Iterator[str]:
    """Every use in a program's text."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] in modules)
        elif isinstance(node, ast.ImportFrom):
            yield from [node.module or ""] if (node.module or "").partition(".")[0] in modules else []
        elif isinstance(node, ast.Call):
            if ast.unparse(node.func).replace("numpy.", "np.") in CALLS:
                yield ast.unparse(node.func)
            for keyword in node.keywords:
                if isinstance(keyword.value, ast.Constant) and (keyword.arg, keyword.value.value) in KEYWORDS:
                    yield f"{keyword.arg}={keyword.value.value}"


def programs() -> list[Path]:
    tracked = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    found = [ROOT / name for name in tracked.splitlines()]
    return found or [path for path in ROOT.rglob("*.py") if not NOT_OURS & set(path.parts)]


def test_no_program_runs_what_a_file_says() -> None:
    files = programs()
    assert len(files) > 150
    found = []
    for path in files:
        if path.relative_to(ROOT).as_posix() in CONTROLS:
            continue
        modules = MODULES - TESTS_MAY if "tests" in path.relative_to(ROOT).parts else MODULES
        found += [f"{path.relative_to(ROOT)}: {use}" for use in forbidden(path.read_text(), modules)]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import torch\ntorch.load(path, weights_only=True)",
        "from pickle import loads",
        "import numpy\nnumpy.load(path, allow_pickle=True)",
        "subprocess.run(command, shell=True)",
        "load(path, weights_only=False)",
        "value = eval(text)",
        "exec(text, {})",
        "import joblib.numpy_pickle",
    ],
)
def test_each_of_them_would_be_found(source: str) -> None:
    assert list(forbidden(source, MODULES))
    assert not list(forbidden("subprocess.run(command, shell=False)\nliteral = 'eval(x)'", MODULES))
