"""The documentation matches the code: commands, options, settings, messages, metrics, error codes, files."""

import ast
import dataclasses
import importlib
import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from lmtool.model import PRESETS, TrainConfig
from lmtool.runtime import Predictor
from lmtool.serve import ServeOptions, Service
from support.pages import PAGES, ROOT, blocks

DOCS = ROOT / "docs"
ROOMS = ("runtime", "model", "export", "serve", "bench")
COMMAND = re.compile(r"\blmtool ((?:data )?[a-z]+)((?:(?!, )[^|#&;>`\n]|\\\n)*)")
OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z0-9-]*")
GLOBAL_OPTIONS = ("--version", "--install-completion", "--show-completion")
FOREIGN_OPTIONS = {
    *("--upgrade", "--group"),  # pip
    *("--ignore-scripts",),  # npm
    *("--nproc-per-node",),  # torchrun
    *("--model_args", "--tasks", "--logdir", "--model-repository", "--head"),  # lm_eval, tensorboard, Triton, Ray
    *("--separate",),  # examples/cpp
    *("--address", "--pattern", "--part-bytes", "--attempts", "--workers"),  # examples/ray
    *("--detector", "--normal", "--abnormal", "--open", "--events", "--session", "--skip"),  # examples/logs
    *("--clients", "--seconds", "--words", "--peer", "--repeats", "--kenlm", "--work", "--rounds"),  # bench/studies
    *("--part", "--small"),  # bench/studies/gpu
}
"""Options of other programs that appear in the documentation."""


def load_hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("documentation_hooks", DOCS / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HOOKS = load_hooks()


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def command_options() -> dict[str, set[str]]:
    """Command -> the spellings of its options."""
    return {name: {*HOOKS.options(command), "--help", "-h"} for name, command in HOOKS.commands().items()}


def code_of(page: Path) -> str:
    """The blocks and the inline code of a page, except messages, which contain an ellipsis."""
    inline = re.findall(r"(?<!`)`([^`\n…]+)`(?!`)", page.read_text(encoding="utf-8"))
    return "\n".join([*(block.body for block in blocks(page) if block.language != "text"), *inline])


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_options_in_command_lines_exist(page: Path) -> None:
    known = command_options()
    for command, rest in COMMAND.findall(code_of(page)):
        if command not in known:
            assert command in {"data"}, f"{name(page)} names the command {command!r}, expected one of {sorted(known)}"
            continue
        unknown = set(OPTION.findall(re.sub(r"'[^']*'|\"[^\"]*\"", "", rest))) - known[command]
        assert not unknown, f"{name(page)}: lmtool {command} has no {sorted(unknown)}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_named_option_exists(page: Path) -> None:
    known = set().union(*command_options().values()) | FOREIGN_OPTIONS | set(GLOBAL_OPTIONS)
    inline = re.findall(r"(?<!`)`(--[a-z][^`\n]*)`(?!`)", page.read_text(encoding="utf-8"))
    named = {option for code in inline for option in OPTION.findall(code) if option.startswith("--")}
    assert not named - known, f"{name(page)} names {sorted(named - known)}"


def test_every_command_has_an_entry_with_all_of_its_options() -> None:
    page = HOOKS.filled((DOCS / "reference" / "commands.md").read_text(encoding="utf-8"), "reference/commands.md")
    sections = dict(re.findall(r"^## lmtool ([a-z ]+?) \{[^\n]*\n(.*?)(?=^## |\Z)", page, re.M | re.S))
    assert sections.keys() == command_options().keys()
    for command, options in command_options().items():
        missing = {option for option in options - {"--help", "-h"} if f"{option}" not in sections[command]}
        assert not missing, f"lmtool {command}: {missing}"


def test_every_setting_and_preset_has_an_entry() -> None:
    page = HOOKS.filled((DOCS / "reference" / "settings.md").read_text(encoding="utf-8"), "reference/settings.md")
    rows = set(re.findall(r"^\| `([\w-]+)` \|", page, re.M))
    fields = {field.name for field in dataclasses.fields(TrainConfig)} - {"preset"}
    assert rows == fields | PRESETS.keys()


def test_settings_that_pages_set_exist() -> None:
    fields = {field.name for field in dataclasses.fields(TrainConfig)} | {"FIELD", "KEY", "droput", "x"}
    for page in PAGES:
        unknown = set(re.findall(r"--set (\w+)=", page.read_text(encoding="utf-8"))) - fields
        assert not unknown, f"{name(page)} sets {unknown}"


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_is_documented_from_its_room(room: str) -> None:
    assert f"::: lmtool.{room}\n" in (DOCS / "reference" / "api" / f"{room}.md").read_text(encoding="utf-8")
    module = importlib.import_module(f"lmtool.{room}")
    for public in module.__all__:
        assert hasattr(module, public)


def messages_of_the_product() -> set[str]:
    """Every string in the code, with … in place of values."""
    texts = set()
    for room in (*ROOMS, "cli"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    texts.add("".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    texts.add(node.value)
    return texts


def test_messages_in_troubleshooting_exist_in_the_code() -> None:
    product = messages_of_the_product()
    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[^|]+) \|", text, re.M)
    documented = [message for row in rows for message in re.findall(r"`([^`]+)`", row)]
    assert len(documented) > 60
    unknown = [message for message in documented if not any(message in text for text in product)]
    assert not unknown, "\n".join(unknown)


def test_metrics_in_the_reference_equal_those_of_the_server(predictor: Predictor) -> None:
    service = Service(predictor, ServeOptions())
    try:
        text = service.metrics.text().decode()
    finally:
        service.close()
    served = dict(re.findall(r"^# TYPE (lmtool_\w+) (\w+)$", text, re.M))
    served = {key: kind for key, kind in served.items() if not key.endswith("_created")}
    page = (DOCS / "reference" / "metrics.md").read_text(encoding="utf-8")
    assert dict(re.findall(r"^\| `(lmtool_\w+)` \| (\w+) \|", page, re.M)) == served


def test_error_codes_in_the_reference_equal_those_of_the_server() -> None:
    page = (DOCS / "reference" / "http.md").read_text(encoding="utf-8").partition("## Errors")[2]
    documented = {
        (int(status), code)
        for statuses, codes in re.findall(r"^\| ([\d, ]+) \| (`[^|]+) \|", page, re.M)
        for status, code in pairs(statuses.split(", "), re.findall(r"`(\w+)`", codes))
    }
    raised = set()
    for path in (ROOT / "serve").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Name(id="ApiError"), args=[ast.Constant(int(status)), ast.Constant(code), *_]):
                    raised.add((status, code))
    assert documented == raised - {(499, "client_closed_request")} | {(404, "no_such_endpoint")}


def pairs(statuses: list[str], codes: list[str]) -> list[tuple[str, str]]:
    """Pair one status with each code, or each status with its code."""
    return list(zip(statuses if len(statuses) > 1 else statuses * len(codes), codes, strict=True))


def test_metadata_keys_in_the_reference_equal_those_of_an_artifact(artifact_path: Path) -> None:
    import onnx

    page = (DOCS / "reference" / "artifact.md").read_text(encoding="utf-8")
    section = page.partition("## Metadata")[2].partition("## Hash")[0]
    rows = re.findall(r"^\| (`[^|]+) \|", section, re.M)
    documented = {key for row in rows for key in re.findall(r"`([\w.]+)`", row)}
    written = {entry.key for entry in onnx.load(artifact_path).metadata_props}
    assert documented == written | {"lmtool.optimize_for", "lmtool.quantization"}


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    listed = set(re.findall(r"([\w/-]+\.md)$", text, re.M))
    assert listed == {str(page.relative_to(DOCS)) for page in PAGES if DOCS in page.parents}


def test_files_that_pages_include_and_generate_exist() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if DOCS in page.parents:
            filled = HOOKS.filled(text, str(page.relative_to(DOCS)))
            assert "<!-- generated" not in filled
            assert "<!-- include" not in filled


def test_the_extras_on_the_first_page_equal_those_of_the_package() -> None:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    section = (DOCS / "index.md").read_text(encoding="utf-8").partition("| extra |")[2].partition("\n\n")[0]
    named = {extra for row in re.findall(r"^\| (`[^|]+) \|", section, re.M) for extra in re.findall(r"`(\w+)`", row)}
    assert named == project["optional-dependencies"].keys()
