"""The Ray example on a real cluster of two nodes: exact scores, resumed runs, lost workers."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from lmtool.model import Run
from lmtool.runtime import Predictor
from support.corpora import sentences

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "ray" / "score.py"
CLUSTER = ROOT / "tests" / "support" / "ray_cluster.py"
# The second variable keeps Ray on 127.0.0.1, as is the default on Windows and macOS.
ENVIRONMENT = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
PATIENCE_SECONDS = 120
PART_BYTES = 20_000
LOADED = re.compile(r"worker (\d+) on \S+ \(\w+\) has loaded the model")

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed")


@contextlib.contextmanager
def time_limit(process: subprocess.Popen[str]) -> Iterator[None]:
    """Kill the process when it runs too long, so that reading from it ends."""
    timer = threading.Timer(PATIENCE_SECONDS, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster of two nodes with one core each."""
    # Ray's sockets are in this folder. The path of a socket holds 107 bytes, and pytest's folders may be longer.
    with (
        tempfile.TemporaryDirectory(prefix="ray") as folder,
        subprocess.Popen(
            [sys.executable, CLUSTER, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=ENVIRONMENT,
            text=True,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        with time_limit(process):
            address = process.stdout.readline().strip()
        assert address
        yield address
        process.stdin.close()
        assert process.wait(PATIENCE_SECONDS) == 0


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A file of many parts, a small file, and a file in a sub-folder."""
    folder = tmp_path / "texts"
    (folder / "below").mkdir(parents=True)
    (folder / "large.txt").write_text(sentences(12_000, seed=1))
    (folder / "small.log").write_text("the zebra saw\r\n\n\nthe fish")
    (folder / "below" / "large.txt").write_text(sentences(3_000, seed=2))
    return folder


@pytest.fixture
def long_texts(texts: Path) -> Path:
    """The same with a file that takes seconds, so that tests can interfere while it is scored."""
    (texts / "long.txt").write_text(sentences(30_000, seed=3))
    return texts


def command(texts: Path, model: Path, *options: object) -> list[str]:
    out = texts.parent / "scores"
    parts = [sys.executable, EXAMPLE, texts, "--model", model, "--out", out, "--part-bytes", PART_BYTES, "--json"]
    return [str(part) for part in (*parts, *options)]


def score(texts: Path, model: Path, *options: object, code: int = 0) -> tuple[dict[str, Any], str]:
    """The summary and stderr of a run that exits with `code`."""
    run = subprocess.run(
        command(texts, model, *options),
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert run.returncode == code, run.stderr
    assert "Traceback" not in run.stderr
    return json.loads(run.stdout or "{}"), run.stderr


def interfere(texts: Path, model: Path, *options: object, act: Callable[[int, str], bool]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a run; `act` gets its pid and each line of stderr until it returns True."""
    with (
        subprocess.Popen(
            command(texts, model, *options), env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process,
        time_limit(process),
    ):
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if act(process.pid, line):
                break
        stdout, stderr = process.communicate(timeout=PATIENCE_SECONDS)
        return process.returncode, stdout, "".join(lines) + stderr


def results(texts: Path) -> dict[str, Path]:
    """Path in the folder of scores -> result file."""
    out = texts.parent / "scores"
    return {path.relative_to(out).as_posix(): path for path in sorted(out.rglob("*")) if path.is_file()}


def assert_scores(texts: Path, predictor: Predictor, names: list[str]) -> None:
    """Check that every line of these files has the predictor's score, once and in order."""
    for name in names:
        data = (texts / name).read_bytes()
        records = [
            json.loads(row)
            for path, file in results(texts).items()
            if Path(path).parent.as_posix() == name
            for row in file.read_text().splitlines()[1:]
        ]
        lines = data.decode().removesuffix("\n").split("\n")
        assert len(records) == len(lines)
        known: dict[str, Any] = {}
        for record, line in zip(records, lines, strict=True):
            if line not in known:
                known[line] = predictor.score(line.removesuffix("\r"))
            result = known[line]
            assert data[record["offset"] :].split(b"\n", 1)[0].decode() == line
            expected = (result.log_prob, result.perplexity, len(result.tokens), result.unknown)
            assert tuple(record[key] for key in ("log_prob", "perplexity", "tokens", "unknown")) == expected


def write_times(texts: Path) -> dict[str, int]:
    return {name: path.stat().st_mtime_ns for name, path in results(texts).items()}


ALL = ["below/large.txt", "large.txt", "small.log"]
LONG = [*ALL, "long.txt"]


def scored_by_both(cluster: str, texts: Path, artifact_path: Path) -> dict[str, Any]:
    """The summary of a run in which both nodes scored parts; on a busy machine one may start too late."""
    for _ in range(6):
        shutil.rmtree(texts.parent / "scores", ignore_errors=True)
        summary: dict[str, Any] = score(texts, artifact_path, "--address", cluster)[0]
        if len(summary["workers"]) == 2 and all(worker["parts"] > 1 for worker in summary["workers"]):
            return summary
    pytest.fail(f"of six runs none had two nodes at work: {summary['workers']}")


def test_both_nodes_score_and_every_line_equals_the_predictor(
    cluster: str, texts: Path, artifact_path: Path, predictor: Predictor
) -> None:
    summary = scored_by_both(cluster, texts, artifact_path)
    workers = summary["workers"]
    assert len({worker["node"] for worker in workers}) == 2
    assert len({worker["pid"] for worker in workers}) == 2
    assert all(worker["parts"] > 1 and worker["batched"] for worker in workers)
    assert sum(worker["tokens"] for worker in workers) == summary["tokens"]
    assert_scores(texts, predictor, ALL)
    assert (summary["lines"], summary["unknown"], summary["failed"]) == (15_004, 1, [])
    assert summary["model"] == predictor.artifact.sha256
    assert summary["tokens_per_second"] > 0
    whole = [predictor.score(line) for line in (texts / "below" / "large.txt").read_text().splitlines()[:50]]
    assert 0.5 < summary["perplexity"] / (sum(result.perplexity for result in whole) / 50) < 2


def test_only_changed_parts_are_scored_again(
    cluster: str, texts: Path, artifact_path: Path, predictor: Predictor, run: Run
) -> None:
    first, _ = score(texts, artifact_path, "--address", cluster)
    before = write_times(texts)
    count = len(before)
    again, stderr = score(texts, artifact_path, "--address", "127.0.0.1:1")  # nothing to do, so it does not connect
    assert again["parts"] == {"scored": 0, "kept": count, "retried": 0}
    assert again["log_prob"] == pytest.approx(first["log_prob"])
    assert write_times(texts) == before
    assert f"{count} parts, {count} of them scored before" in stderr

    missing, cut, *_ = (path for name, path in results(texts).items() if name.startswith("large.txt/"))
    missing.unlink()
    cut.write_bytes(cut.read_bytes()[:50])
    (texts / "small.log").write_text("the zebra saw\na fish and more\n")
    changed, _ = score(texts, artifact_path, "--address", cluster, "--workers", 1)
    assert changed["parts"] == {"scored": 3, "kept": count - 3, "retried": 0}
    assert len(changed["workers"]) == 1
    assert_scores(texts, predictor, ALL)

    other = run.artifact("int8")
    everything, _ = score(texts, other, "--address", cluster, "--part-bytes", 60_000)
    assert everything["parts"]["kept"] == 0
    assert everything["parts"]["scored"] == len(results(texts)) < count
    assert all(worker["batched"] for worker in everything["workers"])
    assert_scores(texts, Predictor.load(other), ALL)


def kill_first_worker(_: int, line: str) -> bool:
    if match := LOADED.search(line):
        os.kill(int(match[1]), signal.SIGKILL)
    return match is not None


def test_the_part_of_a_killed_worker_is_scored_by_another(
    cluster: str, long_texts: Path, artifact_path: Path, predictor: Predictor
) -> None:
    code, stdout, stderr = interfere(long_texts, artifact_path, "--address", cluster, act=kill_first_worker)
    assert code == 0, stderr
    summary = json.loads(stdout)
    assert summary["parts"]["retried"] == 1
    assert len(summary["workers"]) >= 2
    assert re.search(r"worker \d+ was lost with \S+ from [\d,]+: ", stderr)
    assert_scores(long_texts, predictor, LONG)


def test_a_part_out_of_attempts_is_an_error_and_the_next_run_scores_it(
    cluster: str, long_texts: Path, artifact_path: Path, predictor: Predictor
) -> None:
    options = ("--address", cluster, "--attempts", 1)
    code, stdout, stderr = interfere(long_texts, artifact_path, *options, act=kill_first_worker)
    assert code == 1
    summary = json.loads(stdout)
    (failed,) = summary["failed"]
    assert summary["parts"]["retried"] == 0
    assert f"error: {failed['error']}\n" in stderr
    assert re.search(r" from [\d,]+ was not scored: workers died with it, 1 in a row$", failed["error"])
    repaired, _ = score(long_texts, artifact_path, "--address", cluster)
    assert repaired["parts"] == {"scored": 1, "kept": summary["parts"]["scored"], "retried": 0}
    assert_scores(long_texts, predictor, LONG)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_stopped_run_continues(
    cluster: str, long_texts: Path, artifact_path: Path, predictor: Predictor, number: signal.Signals, code: int
) -> None:
    def stop(pid: int, line: str) -> bool:
        if is_fourth := line.startswith("4/"):
            os.kill(pid, number)
        return is_fourth

    ended, stdout, stderr = interfere(long_texts, artifact_path, "--address", cluster, act=stop)
    assert (ended, stdout) == (code, "")
    assert "Traceback" not in stderr
    summary, _ = score(long_texts, artifact_path, "--address", cluster)
    assert summary["parts"]["kept"] >= 4
    assert summary["parts"]["scored"] >= 1
    assert_scores(long_texts, predictor, LONG)


def test_a_file_that_is_not_text_does_not_stop_the_others(
    cluster: str, texts: Path, artifact_path: Path, predictor: Predictor
) -> None:
    (texts / "bad.bin").write_bytes(b"the cat\n" * 5_000 + b"\xff\n" + b"the cat\n" * 5_000)
    summary, stderr = score(texts, artifact_path, "--address", cluster, code=1)
    (failed,) = summary["failed"]
    assert failed["file"] == "bad.bin"
    assert f"{texts / 'bad.bin'} is not UTF-8 text: byte 0xff at offset 40,000; convert it" in failed["error"]
    assert stderr.count("error: ") == 1
    assert_scores(texts, predictor, ALL)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--address", "127.0.0.1:1"], 1, "no Ray cluster answers at 127.0.0.1:1: "),
        (["--address", "auto:x"], 1, "no Ray cluster answers at auto:x: "),
        (["--pattern", "*.md"], 1, "holds no file like '*.md'; choose another --pattern"),
        (["--model", EXAMPLE], 1, "cannot be used: it is no ONNX file"),
        (["--model", "missing.onnx"], 1, "cannot read missing.onnx: No such file"),
        (["--out", "{texts}/scores"], 2, "lies in the folder that is scored; choose one beside it"),
        (["--out", "{texts}/small.log/x"], 2, "lies in the folder that is scored"),
        (["--workers", "0"], 2, "argument --workers: '0' is no whole number from 1"),
    ],
)
def test_usage_errors_are_one_line(
    texts: Path, artifact_path: Path, options: list[object], code: int, message: str
) -> None:
    given = [str(option).format(texts=texts) for option in options]
    _, stderr = score(texts, artifact_path, *given, code=code)
    assert message in stderr
    assert stderr.count("error: ") == 1
