"""The rooms: which may import which, public names, and packages that must not be loaded."""

import ast
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAY_IMPORT = {
    "runtime": set(),
    "model": {"runtime"},
    "export": {"model", "runtime"},
    "serve": {"runtime"},
    "bench": {"export", "model", "runtime"},
    "cli": {"bench", "export", "model", "runtime", "serve", "__version__"},
}
HEAVY = {"torch", "onnx", "typer", "rich", "matplotlib", "safetensors", "onnxruntime", "numpy", "sklearn"}
HEAVY |= {"prompt_toolkit", "tokenizers", "h5py"}
STUDIES = ROOT / "bench" / "studies"
MOST_FILES = 20
SERVER = {"starlette", "uvicorn", "pydantic", "prometheus_client", "anyio", "h11"}


def imports(path: Path, *, top_level_only: bool = False) -> list[tuple[str, int]]:
    """Imported module and level of the relative import (0: absolute)."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    modules = []
    for node in nodes:
        if isinstance(node, ast.Import):
            modules += [(alias.name, 0) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules += [(node.module or alias.name, node.level) for alias in node.names]
    return modules


def files(room: str) -> list[Path]:
    return sorted(path for path in (ROOT / room).rglob("*.py") if STUDIES not in path.parents)


def depth(path: Path) -> int:
    """Level of a relative import that names the room of this file: 1 in the room's own folder."""
    return len(path.relative_to(ROOT).parts) - 1


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_rooms_import_only_what_they_may(room: str) -> None:
    for path in files(room):
        for module, level in imports(path):
            assert not module.startswith("lmtool"), f"{path}: inside a room imports are relative"
            if level == depth(path) + 1:
                assert module.partition(".")[0] in MAY_IMPORT[room], f"{path} imports {module}"
            assert level <= depth(path) + 1


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_folders_stay_small(room: str) -> None:
    for folder in {path.parent for path in (ROOT / room).rglob("*.py")}:
        assert len(list(folder.glob("*.py"))) <= MOST_FILES, folder


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_sub_packages_are_only_a_docstring(room: str) -> None:
    """An import there would load torch into the process that times onnxruntime."""
    for path in files(room):
        if path.name == "__init__.py" and depth(path) > 1:
            (docstring,) = ast.parse(path.read_text()).body
            assert isinstance(docstring, ast.Expr), path


def test_every_sub_package_is_in_the_wheel() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {path.parent.relative_to(ROOT) for room in MAY_IMPORT for path in files(room)}
    assert sorted(setuptools["packages"]) == sorted(["lmtool", *(".".join(["lmtool", *f.parts]) for f in folders)])


def test_commands_import_rooms_only_inside_their_bodies() -> None:
    for path in files("cli"):
        for module, level in imports(path, top_level_only=True):
            assert level <= depth(path), f"{path} imports {module} at the top"


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


def test_training_loads_tensorboard_only_with_its_option() -> None:
    assert "tensorboard" not in loaded_by("import lmtool.model.training.train")


def test_predicting_loads_onnxruntime_but_neither_torch_nor_onnx(artifact_path: Path) -> None:
    statement = f"from lmtool.runtime import Predictor; Predictor.load({str(artifact_path)!r}).score('the cat')"
    assert loaded_by(statement) & HEAVY == {"numpy", "onnxruntime"}


def test_the_command_line_loads_no_room_before_a_command_runs() -> None:
    assert loaded_by("import lmtool.cli.app") & (HEAVY | SERVER) == {"typer"}


@pytest.mark.parametrize("module", ["workers.job", "workers.plugin", "backends.registry"])
def test_timing_processes_load_no_other_runtime(module: str) -> None:
    loaded = loaded_by(f"import lmtool.bench.{module}")
    assert loaded & {"torch", "onnx", "matplotlib", "openvino", "typer"} == set()


def test_serving_loads_neither_torch_nor_onnx_nor_the_command_line() -> None:
    assert loaded_by("import lmtool.serve") & (HEAVY | SERVER) == {"numpy", *SERVER}


@pytest.mark.parametrize("room", ["runtime", "model", "export", "serve", "bench", "cli"])
def test_public_names_exist(room: str) -> None:
    module = importlib.import_module(f"lmtool.{room}")
    assert [name for name in module.__all__ if not hasattr(module, name)] == []


@pytest.mark.parametrize("room", ["model", "bench"])
def test_no_file_of_a_room_has_the_name_of_what_the_room_imports_on_first_use(room: str) -> None:
    """Once the file is imported, the name would be the file's module."""
    names = {path.name.removesuffix(".py") for path in (ROOT / room).iterdir()}
    assert names & set(importlib.import_module(f"lmtool.{room}").__all__) == set()


PUBLIC = """
Architecture ArgumentError Artifact ArtifactError Autocompletion BusyError CELLS Cache CacheOptions ForkError
GenerationJob Hypothesis LayerRow LmtoolError METHODS NumberError OptionError OwnerError PRECISIONS PROVIDERS
PoolError PoolOptions PoolStats Predictor ProviderError RULES RequestTimeoutError Rescorer Sampling Score State
StateError StateTensors StatefulSession StorageError Stream StreamPool Suggestion Summary TextDecoder TokenError
Tokenization Vocabulary VocabularyError available_providers latest_artifact layer_table summarize
"""


def test_the_public_surface_of_the_runtime_is_this() -> None:
    assert sorted(importlib.import_module("lmtool.runtime").__all__) == sorted(PUBLIC.split())
