"""No command writes outside the working and the temporary folder, looks up a name or contacts another machine."""

import shutil
import socket
import sys
from pathlib import Path

import onnxruntime
import pytest
from lmtool.bench import BenchError
from lmtool.bench.backends.openvino import OpenVinoSession
from lmtool.cli.app import app
from lmtool.runtime.session.providers import import_onnxruntime
from support.faults.strace import reason_against_strace, require_strace
from support.processes.commands import TRAIN
from support.processes.watched import Watched
from typer.main import get_command

SWITCH = "ORT_DISABLE_TELEMETRY"
# Workers of other runtimes are started in the same way.
BENCH = ["--model", "alone.onnx", "--against", "openvino", "--scenario", "single-stream", "--rounds", "1"]
SENDS_TELEMETRY = sys.platform == "linux" and tuple(map(int, onnxruntime.__version__.split(".")[:2])) >= (1, 29)


def short_forms(data: Path, port: int) -> dict[str, list[str]]:
    """Arguments with which a command takes little time; for `demo` also its corpus."""
    return {
        "score": ["score", "the cat"],
        "rescore": ["rescore", "nbest.jsonl"],
        "generate": ["generate", "--seed", "1", "the"],
        "suggest": ["suggest", "the"],
        "info": ["info", "--graph", "graph.png"],
        "serve": ["serve", "--model", "alone.onnx", "--port", str(port)],
        "data list": ["data", "list"],
        "data prepare": ["data", "prepare", str(data), "--out", "prepared"],
        "train": [*TRAIN, "--data", str(data), "--epochs", "1", "--tensorboard"],
        "import": ["import", "runs/tiny/checkpoints/best.safetensors", "--run", "imported"],
        "evaluate": ["evaluate"],
        "export": ["export", "--onnx", "--precision", "int8"],
        "verify": ["verify"],
        "doctor": ["doctor", "alone.onnx"],
        "embeddings": ["embeddings", "--words", "12"],
        "bench": ["bench", *BENCH],
        "demo": ["demo", str(data)],
        "presets": ["presets"],
        "settings": ["settings"],
    }


NAMES = [
    name if below is None else f"{name} {below}"
    for name, command in vars(get_command(app))["commands"].items()
    for below in getattr(command, "commands", [None])
]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, project: Path, corpus_folder: Path) -> Watched:
    """Every command, one after another; `score` is the first to import onnxruntime."""
    folder = tmp_path_factory.mktemp("watched")
    shutil.copytree(project, folder / "work")
    shutil.copy(project / "runs" / "tiny" / "model.onnx", folder / "work" / "alone.onnx")
    nbest = '{"id": "a", "hypotheses": [{"text": "the cat", "score": -1}, {"text": "the", "score": -1}]}\n'
    (folder / "work" / "nbest.jsonl").write_text(nbest)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    forms = short_forms(corpus_folder, port)
    return Watched(folder, {name: forms[name] for name in forms if name in NAMES}, not reason_against_strace())


@pytest.mark.parametrize("name", NAMES)
def test_no_command_writes_under_home(watched: Watched, name: str) -> None:
    outcome = watched.outcomes[name]  # a new command needs a short form
    assert outcome["code"] == (143 if name == "serve" else 0), outcome["errors"]
    assert outcome["new"] == []


def test_no_command_writes_elsewhere_or_contacts_another_machine(watched: Watched) -> None:
    require_strace()
    assert watched.written_elsewhere() == set()
    assert watched.contacted() == set()


def test_a_user_may_leave_telemetry_on(tmp_path: Path, artifact_path: Path) -> None:
    """The positive control: what the tests above would find."""
    if not SENDS_TELEMETRY:
        pytest.skip(f"onnxruntime {onnxruntime.__version__} sends none")
    traced = not reason_against_strace()
    left_on = Watched(tmp_path, {"score": ["score", "--model", str(artifact_path), "the"]}, traced, **{SWITCH: "0"})
    assert any("deviceid" in path for path in left_on.outcomes["score"]["new"])
    if traced:
        assert any("deviceid" in path for path in left_on.written_elsewhere())


def test_strace_shows_files_and_addresses(tmp_path: Path) -> None:
    """The positive control for what HOME does not show."""
    require_strace()
    outside, inside = tmp_path / "outside", tmp_path / "work" / "inside"
    seen = Watched(tmp_path, {"touch": [str(outside), str(inside)], "connect": ["192.0.2.1", "name.invalid"]}, True)
    assert seen.written_elsewhere() == {str(outside)}
    assert {"192.0.2.1", "/etc/resolv.conf"} <= seen.contacted()


def test_the_rest_is_switched_off_where_onnxruntime_is_imported_first(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(onnxruntime, "disable_telemetry_events", lambda: calls.append("off"))
    monkeypatch.setenv(SWITCH, "0")
    import_onnxruntime()
    assert calls == []
    monkeypatch.setenv(SWITCH, "1")
    import_onnxruntime()
    assert calls == ["off"]


def test_openvino_is_imported_without_its_telemetry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("openvino", "openvino_telemetry"):
        monkeypatch.setitem(sys.modules, name, None)  # the state before is restored at the end
        del sys.modules[name]
    (tmp_path / "openvino_telemetry.py").write_text("")
    lines = ["try: import openvino_telemetry as found", "except ImportError: found = None", "__version__ = str(found)"]
    core = "def Core(): raise RuntimeError('no core')"
    (tmp_path / "openvino.py").write_text("\n".join([*lines, core]))
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BenchError, match="OpenVINO None cannot run"):
        OpenVinoSession(tmp_path / "model.onnx", 1, "f32")
