"""The model card and the folder for Hugging Face's hub: read by the hub's own library, true, and never in the way."""

import dataclasses
import importlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from lmtool.export import ExportError, write_card, write_hub_folder
from lmtool.export.formats.card import _READS, card_bytes, exports_beside
from lmtool.model import Run
from lmtool.runtime import Artifact, ArtifactError, Predictor, StorageError
from lmtool.runtime.tokenization import RULES

FILES = ["README.md", "config.json", "onnx/model.onnx", "onnx/model_int8.onnx"]


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def hub(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hub_folder(run.artifact("fp32"), tmp_path_factory.mktemp("hub") / "tiny-model")


@pytest.fixture
def own_run(run: Run, tmp_path: Path) -> Run:
    """The run's exports in a folder that a test may change."""
    for precision in ("fp32", "int8"):
        shutil.copy(run.artifact(precision), tmp_path)
    return Run(tmp_path)


def read_by_the_hub(text: str) -> Any:
    """The card as the hub's library reads it; what the hub itself refuses in a head fails here too.

    `ModelCard.validate` sends the text to the hub. The hub then checks `model-index`, `datasets` and `license`.
    """
    library = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    card = library.ModelCard(text)
    again = library.ModelCard(str(card))
    assert again.data.to_dict() == card.data.to_dict()
    assert again.text == card.text
    head = card.data.to_dict()
    assert all(isinstance(tag, str) for tag in head["tags"])
    assert isinstance(head["pipeline_tag"], str)
    for model in head.get("model-index", []):
        assert isinstance(model["name"], str)
        for result in model["results"]:
            assert isinstance(result["task"]["type"], str)
            assert all(isinstance(result["dataset"][key], str) for key in ("type", "name"))
            assert all(isinstance(metric["type"], str) and "value" in metric for metric in result["metrics"])
    return card


def test_the_folder_is_laid_out_as_the_hub_lays_it_out(hub: Path, run: Run) -> None:
    assert files_in(hub) == FILES
    assert (hub / "onnx" / "model.onnx").read_bytes() == run.artifact("fp32").read_bytes()
    assert Predictor.load(hub / "onnx" / "model_int8.onnx").artifact.precision == "int8"
    config, vocabulary = json.loads((hub / "config.json").read_text()), run.vocabulary()
    assert config["model_type"] == "lstm-language-model"
    assert config["layer_sizes"] == [7, 3]
    assert config["vocab_size"] == len(vocabulary)
    assert vocabulary.text(config["eos_token_id"]) == "<eos>"
    assert vocabulary.text(config["unk_token_id"]) == "<unk>"


def test_the_hubs_library_reads_the_head_with_the_measured_perplexities(hub: Path, run: Run) -> None:
    card = read_by_the_hub((hub / "README.md").read_text())
    assert card.data.pipeline_tag == "text-generation"
    assert card.data.model_name == "tiny-model"
    results = [(result.dataset_split, result.metric_name, result.metric_value) for result in card.data.eval_results]
    parity = {name: Artifact.read(run.artifact(name)).parity["artifact_perplexity"] for name in ("fp32", "int8")}
    assert results == [("test", f"perplexity, {name}", value) for name, value in parity.items()]


def test_the_lines_of_the_card_run(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (hub / "README.md").read_text(), re.S)
    assert len([line for line in block.splitlines() if line]) == 5
    (tmp_path / "lines_of_the_card.py").write_text(block)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(hub)
    importlib.import_module("lines_of_the_card")
    suggestions, perplexity = re.fullmatch(r"(\[.*\]) ([\d.]+)\n", capsys.readouterr().out).groups()
    assert "('" in suggestions
    assert float(perplexity) < len(Predictor.load("onnx/model.onnx").vocabulary)


def test_the_figures_of_the_card_are_those_of_the_files(hub: Path, run: Run) -> None:
    text = (hub / "README.md").read_text()
    for precision, name in (("fp32", "model"), ("int8", "model_int8")):
        artifact = Artifact.read(run.artifact(precision))
        size, logit = run.artifact(precision).stat().st_size, artifact.parity["largest_differences"]["logits"]
        perplexity = artifact.parity["artifact_perplexity"]
        assert f"| `onnx/{name}.onnx` | {precision} | {size:,} | {perplexity:.2f} | {logit:.2g} | " in text
        assert f"`onnx/{name}.onnx`: `{artifact.sha256}`" in text
    assert f"| corpus SHA-256 | {artifact.training['corpus_sha256']} |" in text
    assert str(run.path.parent) not in text


def test_a_card_beside_an_artifact_covers_the_exports_of_the_same_weights_only(own_run: Run) -> None:
    shutil.copy(own_run.artifact("int8"), own_run.path / "another.onnx")
    (own_run.path / "broken.onnx").write_bytes(b"no model")
    path = own_run.artifact("int8")
    assert [file.name for file in exports_beside(path)] == ["model.onnx", "model.int8.onnx"]
    assert write_card(path) == own_run.path / "README.md"
    assert "`model.int8.onnx`" in (own_run.path / "README.md").read_text()


def test_what_somebody_edited_or_wrote_is_kept(own_run: Run, tmp_path: Path) -> None:
    path, folder = own_run.artifact("fp32"), tmp_path / "hub"
    for _ in range(2):  # an unchanged card is replaced
        write_card(path)
        write_hub_folder(path, folder)
    (folder / ".gitattributes").write_text("*.onnx filter=lfs\n")
    for card, write in ((path.parent / "README.md", lambda: write_card(path)), (folder / "README.md", None)):
        edited = f"{card.read_text()}license: mine\n"
        card.write_text(edited)
        with pytest.raises(ExportError, match=r"README.md is not a card of lmtool, or was edited since, and is kept"):
            (write or (lambda: write_hub_folder(path, folder)))()
        assert card.read_text() == edited
    (folder / "README.md").unlink()
    own_run.artifact("int8").unlink()
    write_hub_folder(path, folder)
    assert files_in(folder) == [".gitattributes", "README.md", "config.json", "onnx/model.onnx"]


@pytest.mark.parametrize("name", FILES)
def test_a_folder_of_another_program_is_refused(name: str, run: Run, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text('{"model_type": "gpt2"}')
    with pytest.raises(ExportError, match=re.escape(name)):
        write_hub_folder(run.artifact("fp32"), tmp_path)
    assert files_in(tmp_path) == [name]
    assert path.read_text() == '{"model_type": "gpt2"}'
    with pytest.raises(StorageError, match="it is a file, expected a folder"):
        write_hub_folder(run.artifact("fp32"), path)


@pytest.mark.parametrize("name", ['a"b\\c: {x}', "`<b>|*\n\x7f\u2028- #", "日本 😀", "\udc80"])
def test_names_of_any_characters_neither_break_the_head_nor_the_text(name: str, run: Run) -> None:
    (file,) = exports_beside(run.artifact("fp32"))[:1]
    facts = {**file.artifact.training, "corpus": name}
    parity = {**file.artifact.parity, "text": f"the test split of {name}"}
    odd = file._replace(artifact=dataclasses.replace(file.artifact, training=facts, parity=parity))
    text = card_bytes(name, [odd]).decode()
    assert "<b>" not in text.split("\n---\n")[1]
    assert read_by_the_hub(text).data.eval_results[0].dataset_name == name


def test_what_was_not_measured_is_not_in_the_card(run: Run) -> None:
    (file,) = exports_beside(run.artifact("fp32"))[:1]
    bare = file._replace(artifact=dataclasses.replace(file.artifact, training={}, parity={"tokens": "many"}))
    text = card_bytes("bare", [bare]).decode()
    assert read_by_the_hub(text).data.eval_results is None
    assert "| `model.onnx` | fp32 | " in text
    assert " | - | - | - of - | yes |" in text
    assert "What it learnt from is not recorded." in text
    assert "Its quality was not measured on a text." in text


def test_every_rule_of_tokenization_is_described() -> None:
    assert set(_READS) == set(RULES)


def test_artifacts_of_earlier_versions_are_refused(dynamic_int8_path: Path) -> None:
    with pytest.raises(ArtifactError, match="of an earlier version"):
        write_card(dynamic_int8_path)
