"""A predictor embedded in an application: documentation, options, threads and forks."""

import os
import pkgutil
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import lmtool.runtime
import numpy as np
import onnxruntime
import pytest
from lmtool.runtime import OptionError, Predictor
from lmtool.runtime.session.providers import PROVIDERS
from lmtool.runtime.session.session import SessionOptions, start_session
from support.pools import same
from support.scale import FULL, scaled

MODULES = [module.name for module in pkgutil.walk_packages(lmtool.runtime.__path__, "lmtool.runtime.")]


def test_the_examples_in_the_documentation_run(artifact_path: Path, tmp_path: Path) -> None:
    """The examples load an artifact named `model.onnx` and check what they print."""
    shutil.copy(artifact_path, tmp_path / "model.onnx")
    code = (
        "import doctest, importlib, sys\n"
        "results = [doctest.testmod(importlib.import_module(name)) for name in sys.argv[1:]]\n"
        "print(sum(one.failed for one in results), sum(one.attempted for one in results))"
    )
    command = [sys.executable, "-W", "error", "-c", code, *MODULES]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    failed, attempted = map(int, done.stdout.split()[-2:])
    assert failed == 0, done.stdout
    assert attempted >= 25


@scaled
def test_threads_share_a_predictor(predictor: Predictor) -> None:
    """Eight threads with many closed-loop steps each compute the same bits as one thread."""
    steps = 10_000 if FULL else 1000

    def walk(seed: int) -> tuple[list[int], Any]:
        token, state, read = seed, predictor.initial_state(1), []
        for _ in range(steps):
            logits, state = predictor.step([[token]], state)
            token = (int(logits[0, 0].argmax()) + len(read) * seed) % len(predictor.vocabulary)
            read.append(token)
        return read, state

    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(walk, range(8)))
    for seed, (tokens, state) in enumerate(together):
        expected, end = walk(seed)
        assert tokens == expected
        assert same(state, end)


@pytest.mark.parametrize(
    "options", [{}, {"memory_arena": True}, {"spinning": True, "threads": 2}, {"provider_options": {}}]
)
def test_options_do_not_change_results(artifact_path: Path, predictor: Predictor, options: dict[str, Any]) -> None:
    loaded = Predictor.load(artifact_path, **options)
    ids = np.arange(40).reshape(2, 20) % len(predictor.vocabulary)
    logits, expected = (each.step(ids, each.initial_state(2))[0] for each in (loaded, predictor))
    np.testing.assert_allclose(logits, expected, atol=1e-6)


def test_options_reach_onnxruntime(artifact_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def session(data: bytes, settings: Any, **others: Any) -> Any:
        seen.append((settings, others["disabled_optimizers"]))
        return original(data, settings, **others)

    original = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    data = artifact_path.read_bytes()
    for options in (SessionOptions(), SessionOptions(3, True, True)):
        started = start_session(data, PROVIDERS["cpu"], options)
        settings, disabled = seen[-1]
        assert disabled == ["ConstantFolding"]
        assert settings.intra_op_num_threads == options.threads
        assert settings.enable_cpu_mem_arena is options.memory_arena
        assert settings.get_session_config_entry("session.intra_op.allow_spinning") == str(int(options.spinning))
        assert settings.get_session_config_entry("session.load_model_format") == "ONNX"
        assert started._enable_fallback is False
    with pytest.raises(OptionError, match="threads is 0"):
        Predictor.load(artifact_path, threads=0)
    with pytest.raises(OptionError, match="device_id is 'x', expected a number from 0"):
        Predictor.load(artifact_path, provider_options={"device_id": "x"})


def test_a_predictor_does_not_keep_the_file(artifact_path: Path) -> None:
    data = artifact_path.read_bytes()
    others = sys.getrefcount(data)
    predictor = Predictor.load(data)
    assert sys.getrefcount(data) == others
    assert predictor.score("the cat").tokens == ("the", "cat")
    kept = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    assert sys.getrefcount(data) > others, kept  # the positive control


def test_loading_needs_no_temporary_folder(artifact_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mkdtemp", "mkstemp", "gettempdir", "TemporaryFile"):
        monkeypatch.setattr(f"tempfile.{name}", lambda *_, **__: pytest.fail("it wants a temporary file"))
    assert Predictor.load(artifact_path).score("the cat").tokens == ("the", "cat")


READ_ONLY = """
for folder in $(cut -d " " -f 2 /proc/self/mounts); do mount -o remount,bind,ro "$folder" 2> /dev/null; done
cd "$1" || exit 77
for folder in . /tmp /var/tmp; do
  if touch $folder/lmtool-probe 2> /dev/null; then rm $folder/lmtool-probe; exit 77; fi
done
"$2" -m lmtool.cli score --model "$3" cat && "$2" -m lmtool.cli info --model "$3" > /dev/null
"""


def test_commands_work_where_nothing_can_be_written(artifact_path: Path, tmp_path: Path) -> None:
    """As in a container with a read-only root and no folder for temporary files."""
    apart = ["unshare", "--mount", "--map-root-user"]
    if shutil.which("unshare") is None or subprocess.run([*apart, "true"], check=False).returncode != 0:
        pytest.skip("mount namespaces are not permitted here")
    command = [*apart, "sh", "-c", READ_ONLY, "sh", tmp_path, sys.executable, artifact_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip("mounts cannot be made read-only here")
    assert (done.returncode, done.stderr) == (0, "")
    assert "cat" in done.stdout


def test_memory_of_a_large_call_is_freed(artifact_path: Path) -> None:
    """The resident set after one call of 12,000 streams, compared with that of an arena, which keeps it."""
    code = (
        "import sys; from lmtool.runtime import Predictor; import numpy as np\n"
        "from pathlib import Path\n"
        "def resident(): return int(Path('/proc/self/statm').read_text().split()[1]) * 4096\n"
        "predictor = Predictor.load(sys.argv[1], memory_arena=sys.argv[2] == 'arena')\n"
        "predictor.step([[1]], predictor.initial_state(1)); before = resident()\n"
        "predictor.step(np.ones((12_000, 40), np.int64), predictor.initial_state(12_000), logits_to_keep=1)\n"
        "print(resident() - before)"
    )
    if not Path("/proc/self/statm").exists():
        pytest.skip("this system does not tell the resident memory as Linux does")
    grown = {}
    for kind in ("plain", "arena"):
        command = [sys.executable, "-c", code, artifact_path, kind]
        grown[kind] = int(subprocess.run(command, capture_output=True, check=True).stdout)
    assert grown["arena"] > 50e6, grown
    assert grown["plain"] < grown["arena"] / 4, grown


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_must_load_the_artifact_again(artifact_path: Path) -> None:
    code = (
        "import os, sys; from lmtool.runtime import ForkError, Predictor\n"
        "predictor = Predictor.load(sys.argv[1]); stream = predictor.stream(); stream.feed('the cat')\n"
        "uses = [lambda: predictor.step([[1]], predictor.initial_state(1)), lambda: predictor.score('the cat'),\n"
        "        lambda: stream.suggest(3), lambda: next(stream.generate(3))]\n"
        "if os.fork() == 0:\n"
        "    for use in uses:\n"
        "        try: use()\n"
        "        except ForkError as error: print(error)\n"
        "    print(Predictor.load(sys.argv[1]).score('the cat').log_prob == float(sys.argv[2]))\n"
        "    sys.stdout.flush(); os._exit(0)\n"
        "os.wait(); print(predictor.score('the cat').log_prob == float(sys.argv[2]))"
    )
    expected = repr(Predictor.load(artifact_path).score("the cat").log_prob)
    command = [sys.executable, "-c", code, str(artifact_path), expected]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    lines = done.stdout.splitlines()
    assert len(lines) == 6
    assert all("load the artifact in each process, after the fork" in line for line in lines[:4])
    assert lines[4:] == ["True", "True"]
