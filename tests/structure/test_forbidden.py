"""Forbidden calls: those that run code from files or from users."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CALLS = {"eval", "exec", "compile", "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}
CALLS |= {"torch.load", "torch.save", "numpy.load"}
MODULES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "runpy"}
IMPORTERS = {"__import__", "importlib.import_module"}
KEYWORDS = {("shell", True), ("weights_only", False), ("allow_pickle", True)}
TESTS_MAY = {"pickle"}  # to make hostile files
TESTS_MAY_CALL = {"torch.save"}  # to make files as other programs do
NOT_OURS = {".venv", ".venv-lowest", ".venv-newest", "build", "node_modules"}
WEIGHTS_ONLY = {"model/foreign/weights_file.py"}  # reads state_dicts of other programs, and no other objects
CONTROLS = {"tests/support/hostile/unprotected_loaders.py"}  # uses forbidden calls as a positive control

HARMLESS = """
import re, subprocess, json as pickled
from .loading import load
subprocess.run(command, shell=False)
literal = 'eval(x)'
re.compile(pattern), network.eval(), load(path), importlib.import_module(name), importlib.import_module("json")
"""
SCRIPTS = ("*.mjs", "*.js", "*.cjs", "*.html")
SCRIPT_CALLS = re.compile(r"(?<![\w.$-])(?:(?:window|globalThis)\s*\.\s*)?(?:eval\s*\(|(?:new\s+)?Function\s*\()")


def forbidden(source: str, modules: set[str]) -> Iterator[str]:
    """The full name of each forbidden use in the source of a program, also under another name."""
    tree = ast.parse(source)
    known = imported(tree)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from (name for name in modules_of(node) if name.partition(".")[0] in modules)
        elif isinstance(node, (ast.Name, ast.Attribute)):
            yield from [name] if (name := full_name(node, known)) in CALLS else []
        elif isinstance(node, ast.Call):
            yield from in_call(node, known, modules)


def loads_only_weights(source: str) -> bool:
    """Whether torch.load is used in calls with weights_only=True alone."""
    tree = ast.parse(source)
    known = imported(tree)
    uses = [node for node in ast.walk(tree) if isinstance(node, (ast.Name, ast.Attribute))]
    safe = [
        node.func
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and any(keyword.arg == "weights_only" and ast.unparse(keyword.value) == "True" for keyword in node.keywords)
    ]
    return all(node in safe for node in uses if full_name(node, known) == "torch.load")


def in_call(node: ast.Call, known: dict[str, str], modules: set[str]) -> Iterator[str]:
    """Forbidden uses in the arguments of a call: the name of a module or function, or a keyword."""
    for keyword in node.keywords:
        if isinstance(keyword.value, ast.Constant) and (keyword.arg, keyword.value.value) in KEYWORDS:
            yield f"{keyword.arg}={keyword.value.value}"
    name = full_name(node.func, known)
    texts = [str(argument.value) if isinstance(argument, ast.Constant) else None for argument in node.args]
    if name in IMPORTERS and texts:
        if texts[0] is None and name == "__import__":
            yield name
        if (texts[0] or "").partition(".")[0] in modules:
            yield f"{name} of {texts[0]}"
    if name == "getattr" and len(texts) > 1 and f"{full_name(node.args[0], known)}.{texts[1]}" in CALLS:
        yield f"getattr of {texts[1]}"


def imported(tree: ast.AST) -> dict[str, str]:
    """Name in a program -> full name of its import."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname: alias.name for alias in node.names if alias.asname is not None}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def modules_of(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if not node.level else []


def full_name(node: ast.AST, known: dict[str, str]) -> str:
    """`os.system` for `o.system` after `import os as o`; empty for an expression without a name."""
    if isinstance(node, ast.Name):
        return known.get(node.id, node.id).removeprefix("builtins.")
    if isinstance(node, ast.Attribute) and (owner := full_name(node.value, known)):
        return f"{owner}.{node.attr}".removeprefix("builtins.")
    return ""


def tracked(*patterns: str) -> list[Path]:
    command = ["git", "ls-files", *patterns]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    files = [path for name in listed.splitlines() if (path := ROOT / name).exists()]
    everything = (path for pattern in patterns for path in ROOT.rglob(pattern))
    return files or [path for path in everything if not NOT_OURS & set(path.parts)]


def test_no_forbidden_calls() -> None:
    files = tracked("*.py")
    assert len(files) > 150
    uses = []
    for path in files:
        if path.relative_to(ROOT).as_posix() in CONTROLS:
            continue
        is_test = "tests" in path.relative_to(ROOT).parts
        modules = MODULES - TESTS_MAY if is_test else MODULES
        name, source = path.relative_to(ROOT).as_posix(), path.read_text()
        allowed = TESTS_MAY_CALL if is_test else set()
        if name in WEIGHTS_ONLY and loads_only_weights(source):
            allowed = {"torch.load"}
        uses += [f"{name}: {use}" for use in forbidden(source, modules) if use not in allowed]
    assert uses == []


def test_no_forbidden_calls_in_scripts() -> None:
    files = tracked(*SCRIPTS)
    assert len(files) > 10
    assert [str(path) for path in files if SCRIPT_CALLS.search(path.read_text())] == []


@pytest.mark.parametrize(
    "source",
    ["eval(text)", "x = new Function('a', text)", "globalThis.eval(text)", "window . eval (text)", "Function(text)()"],
)
def test_forbidden_scripts_are_detected(source: str) -> None:
    assert SCRIPT_CALLS.search(f"<script>\n{source};\n</script>")
    assert not SCRIPT_CALLS.search(
        "script-src 'wasm-unsafe-eval'; model.eval(); function(x) {}; evaluate(x); isFunction(x)"
    )


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
        "from os import system\nsystem(x)",
        "from torch import load\nload(x)",
        "from numpy import load as read\nread(x)",
        "import os as o\no.system(x)",
        "import os\nrun = os.system",
        "import os\ngetattr(os, 'system')(x)",
        "import subprocess\nsubprocess.getoutput(x)",
        "from subprocess import getstatusoutput\ngetstatusoutput(x)",
        "__import__('pickle')",
        "__import__(name)",
        "import importlib\nimportlib.import_module('pickle')",
        "from importlib import import_module as get\nget('joblib.numpy_pickle')",
        "import runpy\nrunpy.run_path(x)",
        "import builtins\nbuiltins.eval(x)",
        "from builtins import exec as go\ngo(x)",
    ],
)
def test_forbidden_calls_are_detected(source: str) -> None:
    assert list(forbidden(source, MODULES))
    assert not list(forbidden(HARMLESS, MODULES))


@pytest.mark.parametrize(
    ("source", "is_safe"),
    [
        ("torch.load(path, weights_only=True)", True),
        ("torch.load(path)", False),
        ("torch.load(path, weights_only=flag)", False),
        ("torch.load(path, weights_only=True), torch.load(path)", False),
        ("from torch import load\nload(path)", False),
        ("read = torch.load\nread(path, weights_only=True)", False),
    ],
)
def test_only_weights_are_loaded(source: str, is_safe: bool) -> None:
    assert loads_only_weights(f"import torch\n{source}") == is_safe
