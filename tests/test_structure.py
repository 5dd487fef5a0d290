"""The rooms: who imports whom, what is public, and what the runtime stays free of."""

import ast
import importlib
import itertools
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "runtime": set(),
    "model": {"runtime"},
    "export": {"model", "runtime"},
    "serve": {"runtime"},
    "bench": {"export", "model", "runtime"},
    "cli": {"bench", "export", "model", "runtime", "serve"},
}
HEAVY = {"torch", "onnx", "typer", "rich", "matplotlib", "safetensors", "onnxruntime", "numpy", "sklearn"}
HEAVY |= {"prompt_toolkit"}
SERVER = {"starlette", "uvicorn", "pydantic", "prometheus_client", "anyio", "h11"}


def imports(path: Path, *, top_level_only: bool = False) -> list[tuple[str, int]]:
    """Imported module and level of the relative import (0: absolute)."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found = []
    for node in nodes:
        if isinstance(node, ast.Import):
            found += [(alias.name, 0) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.module or "", node.level))
    return found


def files(room: str) -> list[Path]:
    return sorted((ROOT / room).glob("*.py"))


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_rooms_import_only_what_they_may(room: str) -> None:
    for path in files(room):
        for module, level in imports(path):
            assert not module.startswith("lmtool"), f"{path.name}: inside a room imports are relative"
            if level == 2:
                assert module.partition(".")[0] in MAY_IMPORT[room], f"{path.name} imports {module}"
            assert level <= 2


def test_commands_import_rooms_only_inside_their_bodies() -> None:
    for path in files("cli"):
        for module, level in imports(path, top_level_only=True):
            assert level < 2, f"{path.name} imports {module} at the top"


def test_the_runtime_needs_numpy_and_onnxruntime_only() -> None:
    allowed = set(sys.stdlib_module_names) | {"numpy", "onnxruntime"}
    for path in files("runtime"):
        outside = {module.partition(".")[0] for module, level in imports(path) if level == 0} - allowed
        assert not outside, f"{path.name} imports {outside}"


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_importing_the_runtime_loads_nothing_heavy() -> None:
    assert loaded_by("import lmtool.runtime") & (HEAVY | SERVER) == {"numpy"}


def test_listing_near_words_loads_no_scikit_learn() -> None:
    assert "sklearn" not in loaded_by("import lmtool.model.embeddings")


def test_training_loads_tensorboard_only_when_it_is_asked_for() -> None:
    assert "tensorboard" not in loaded_by("import lmtool.model.job")


def test_predicting_loads_onnxruntime_but_neither_torch_nor_onnx(artifact_path: Path) -> None:
    statement = f"from lmtool.runtime import Predictor; Predictor.load({str(artifact_path)!r}).score('the cat')"
    assert loaded_by(statement) & HEAVY == {"numpy", "onnxruntime"}


def test_the_command_line_loads_no_room_before_a_command_runs() -> None:
    assert loaded_by("import lmtool.cli.app") & (HEAVY | SERVER) == {"typer"}


def test_serving_loads_neither_torch_nor_onnx_nor_the_command_line() -> None:
    assert loaded_by("import lmtool.serve") & (HEAVY | SERVER) == {"numpy", *SERVER}


@pytest.mark.parametrize("room", ["runtime", "model", "export", "serve", "bench", "cli"])
def test_public_names_exist(room: str) -> None:
    module = importlib.import_module(f"lmtool.{room}")
    assert [name for name in module.__all__ if not hasattr(module, name)] == []


PUBLIC = """
Architecture Artifact ArtifactError Autocompletion BusyError CELLS Cache CacheOptions ForkError LayerRow LmtoolError
METHODS NumberError OptionError OwnerError PRECISIONS PROVIDERS PURPOSES PoolError PoolOptions PoolStats Predictor
ProviderError RULES RequestTimeoutError Sampling Score State StateError StorageError Stream StreamPool Suggestion
Summary TokenError Tokenization Vocabulary VocabularyError available_providers latest_artifact layer_table summarize
"""


def test_the_public_surface_of_the_runtime_is_this() -> None:
    assert sorted(importlib.import_module("lmtool.runtime").__all__) == sorted(PUBLIC.split())


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_the_readme_lists_every_file_of_a_room(room: str) -> None:
    layout = (ROOT / "README.md").read_text().partition("\n## Layout\n")[2]
    lines = layout.partition(f"\n    {room}/")[2].splitlines()[1:]
    listed = [line.split()[0] for line in itertools.takewhile(lambda line: line.startswith("      "), lines)]
    there = [path.name for path in (ROOT / room).iterdir() if path.suffix in (".py", ".mjs", ".html", ".css")]
    assert sorted({*listed, "__init__.py"}) == sorted(there)
    assert len(set(listed)) == len(listed)
