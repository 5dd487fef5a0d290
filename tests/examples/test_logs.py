"""The example of logs: a detector learnt from a small source, its alarms, open sessions, templates, baselines."""

import importlib
import io
import itertools
import json
import math
import random
import re
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from lmtool.runtime import ArtifactError, LmtoolError, OptionError, StorageError
from support.corpora import real_corpus

EXAMPLE = Path(__file__).parents[2] / "examples" / "logs"
MODULES = ("detector", "monitor", "templates", "compare", "logs", "rate")


@pytest.fixture(scope="module")
def logs() -> Iterator[Any]:
    """The modules of the example, by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLE)
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in MODULES})


def normal_sessions(count: int) -> list[str]:
    rng = random.Random(count)
    return [f"open {'read ' * rng.randint(1, 3)}{rng.choice(['close', 'sync close'])}" for _ in range(count)]


SETTINGS = {"embedding_size": "16", "layer_sizes": "16", "batch_size": "4", "steps": "8", "learning_rate": "0.02"}


@pytest.fixture(scope="module")
def folder(logs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector of 600 sessions, learnt in some seconds."""
    folder = tmp_path_factory.mktemp("logs")
    (folder / "normal.txt").write_text("\n".join(normal_sessions(600)) + "\n")
    logs.detector.fit(folder / "normal.txt", folder / "detector", settings={**SETTINGS, "epochs": "2"})
    return folder / "detector"


@pytest.fixture
def detector(logs: Any, folder: Path) -> Any:
    return logs.detector.Detector.load(folder)


def test_the_detector_finds_sessions_that_are_not_normal_and_says_why(logs: Any, folder: Path) -> None:
    sessions = ["open read close", "open read", "open read crash close", "close", f"open {'read ' * 10_000}close"]
    for rule in logs.detector.RULES:
        detector = logs.detector.Detector.load(folder, rule)
        found = list(detector.find(sessions))
        assert found[0] is None
        assert [(each.session, each.position, each.event) for each in found[1:4]] == [
            (2, 3, logs.detector.END),
            (3, 3, "crash"),
            (4, 1, "close"),
        ]
        assert [each.is_known for each in found[1:4]] == [True, False, True]
        assert found[3].expected[0][0] == "open"
        assert sum(probability for _, probability in found[3].expected) <= 1 + 1e-9
        assert len(found) == 5
    assert re.fullmatch(
        r"session 3, event 3: crash, never seen in training \(surprisal [\d.]+, rank \d\); expected .* [\d.]+%, .*",
        found[2].format(),
    )
    assert list(detector.find([])) == []


def test_alarms_of_normal_sessions_are_about_as_rare_as_the_quantile_says(detector: Any) -> None:
    alarms = [surprise for surprise in detector.find(normal_sessions(601)) if surprise is not None]
    assert len(alarms) < 601 * 0.05


def test_open_sessions_get_the_numbers_of_whole_ones(logs: Any, detector: Any) -> None:
    sessions = [*normal_sessions(40), "open crash", "close", "read " * 60]
    detector.limits.update(dict.fromkeys(logs.detector.RULES, -1.0))  # every event is an alarm
    monitor, found = logs.monitor.Monitor(detector), []
    events = [[(str(number), event) for event in session.split()] for number, session in enumerate(sessions)]
    together = [event for events in itertools.zip_longest(*events) for event in events if event is not None]
    for start in range(0, len(together), 7):
        found += monitor.add(together[start : start + 7])
    assert len(monitor) == len(sessions)
    found += monitor.end_all()
    assert len(monitor) == 0
    scores = list(logs.detector.scores_of(detector.predictor, sessions))
    for number, (session, score) in enumerate(zip(sessions, scores, strict=True)):
        own = sorted((each for each in found if each.session == str(number)), key=lambda each: each.position)
        assert [each.event for each in own] == [*session.split(), logs.detector.END]
        assert [each.rank for each in own] == list(score.ranks)
        known = [place for place, each in enumerate(own) if each.is_known]
        expected = logs.detector.surprisals(score)[known]
        np.testing.assert_allclose([own[place].surprisal for place in known], expected, atol=1e-5)


def test_the_session_that_is_idle_longest_makes_room(logs: Any, detector: Any) -> None:
    monitor = logs.monitor.Monitor(detector, most_sessions=2)
    assert monitor.add([("a", "open"), ("b", "open"), ("a", "read")]) == []
    (alarm,) = monitor.add([("c", "open")])
    assert (alarm.session, alarm.position, alarm.event) == ("b", 2, logs.detector.END)
    again = monitor.add([("a", "open"), ("c", "open"), ("b", "open")])  # a second open of one session is not normal
    assert [(each.session, each.event) for each in again] == [
        ("a", "open"),
        ("c", "open"),
        ("a", logs.detector.END),
    ]
    assert len(monitor) == 2
    with pytest.raises(OptionError, match="most_sessions is 0"):
        logs.monitor.Monitor(detector, 0)


def test_bad_input_is_answered(logs: Any, folder: Path, tmp_path: Path) -> None:
    fit, load, error = logs.detector.fit, logs.detector.Detector.load, logs.detector.LogError
    empty = tmp_path / "empty.txt"
    empty.write_text("\n \n")
    assert logs.detector.read_sessions(empty) == list(load(folder).find(logs.detector.read_log(empty))) == []
    with pytest.raises(error, match="empty.txt holds 0 sessions, expected 10 or more"):
        fit(empty, tmp_path / "out")
    with pytest.raises(OptionError, match="--quantile is 1, expected a number between 0 and 1"):
        fit(empty, tmp_path / "out", quantile=1.0)
    with pytest.raises(error, match=r"50 sessions are held out .* needs 100; give 500 normal sessions"):
        logs.detector.Detector.of_normal(load(folder).predictor, ["open"] * 50, 0.99)
    with pytest.raises(error, match="is there already, expected a new folder"):
        fit(folder.parent / "normal.txt", folder)
    for _ in range(2):  # the folder is free again after a training that was refused
        with pytest.raises(LmtoolError, match="there is no setting 'epoch'"):
            fit(folder.parent / "normal.txt", tmp_path / "out", settings={"epoch": "1"})
    with pytest.raises(error, match="holds no detector"):
        load(tmp_path)
    shutil.copy(folder / "model.onnx", tmp_path)
    for text in ("{", "[]", '{"limits": {"rank": 1}}', '{"limits": {"rank": 1, "surprisal": []}}'):
        (tmp_path / "detector.json").write_text(text)
        with pytest.raises(error, match=r"detector.json is damaged"):
            load(tmp_path)
    (tmp_path / "detector.json").write_text((folder / "detector.json").read_text().replace('256": "', '256": "0'))
    with pytest.raises(ArtifactError, match="the pinned one is 0"):
        load(tmp_path)
    (tmp_path / "bad.txt").write_bytes(b"open\n\xff\n")
    found = load(folder).find(logs.detector.read_log(tmp_path / "bad.txt"))
    assert next(found).event == logs.detector.END
    with pytest.raises(StorageError, match=r"line 2 of .*bad.txt is not UTF-8 text"):
        next(found)


def test_the_command_finds_by_source_and_prints_json(
    logs: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "detector.txt").write_text("open read close\n\nopen\n")
    arguments = ["logs.py", "find", str(tmp_path), "--detector", str(folder.parent), "--json"]
    monkeypatch.setattr("sys.argv", arguments)
    assert logs.logs.main() == 0
    printed = capsys.readouterr()
    alarm = json.loads(printed.out)
    assert (alarm["session"], alarm["event"]) == (3, logs.detector.END)
    assert alarm["expected"][0]["event"] == "read"
    assert "2 sessions, 1 alarms" in printed.err
    monkeypatch.setattr("sys.argv", [*arguments[:3], "--detector", str(tmp_path)])
    assert logs.logs.main() == 1
    assert "error:" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["logs.py", "watch", "--detector", str(folder)])
    lines = io.BytesIO(b"s1 open\ns2 open\ns1 read\n\ns1 close\nalone\n")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=lines))
    assert logs.logs.main() == 1
    assert "found the line 'alone', expected a session's name and a key" in capsys.readouterr().err


LOG = """081109 203615 148 INFO dfs.DataNode: Received block blk_38865049064139660 of size 67108864 from /10.250.10.6
081109 203807 222 INFO dfs.DataNode: Received block blk_-6952295868487656571 of size 67108864 from /10.250.14.224:50010
081109 204005 35 INFO dfs.FSNamesystem: addStoredBlock: blk_38865049064139660 0x1f /mnt/data/x.y
no session here
"""


def test_lines_become_keys_without_the_parts_that_vary(
    logs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "log").write_text(LOG)
    arguments = ["templates.py", str(tmp_path / "log"), "--session", r"blk_-?\d+", "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", [*arguments, "--skip", r"^\d+ \d+ \d+ "])
    assert logs.templates.main() == 0
    received = "INFO_dfs.DataNode:_Received_block_<session>_of_size_<n>_from_<ip>"
    added = "INFO_dfs.FSNamesystem:_addStoredBlock:_<session>_<hex>_<path>"
    assert (tmp_path / "out").read_text() == f"{received} {added}\n{received}\n"
    assert "2 sessions of 2 keys" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", [*arguments[:3], "[", *arguments[4:]])
    assert logs.templates.main() == 2
    assert "'[' is no regular expression" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", [*arguments[:3], "xyz", "--out", str(tmp_path / "none")])
    assert logs.templates.main() == 2
    assert "--session 'xyz' is in no line of" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.skipif(find_spec("drain3") is None, reason="drain3 is not installed")
def test_drain3_keeps_its_keys_for_the_next_run(logs: Any, tmp_path: Path) -> None:
    lines = LOG.splitlines()
    first, again = ([key(line) for line in lines] for key in map(logs.templates.drain3_keys, [tmp_path / "state"] * 2))
    assert first == again
    assert first[0] == first[1] != first[2]


def test_the_baselines_are_right(logs: Any, detector: Any) -> None:
    learnt = normal_sessions(50)
    for order in (1, 2, 3):
        model = logs.compare.NGram(learnt, order)
        for before in ("", "open", "open read", "never seen"):
            total = sum(math.exp(-model.surprisals(f"{before} {key}")[len(before.split())]) for key in KEYS)
            total += math.exp(-model.surprisals(before)[-1])
            assert total == pytest.approx(1)
    assert logs.compare.NGram(["a b"] * 9, 3).surprisals("a b")[1] < 0.2
    sessions = ["open read read close", "open", "read read read read"]
    state = detector.predictor.initial_state()
    ids = [detector.predictor.vocabulary.encode(session) for session in sessions]
    worst = [0.0, 0.0, 0.0]
    for row, end in ((row, end) for row, events in enumerate(ids) for end in range(2, len(events))):
        logits = detector.predictor.step([ids[row][end - 2 : end]], state)[0][0, -1]
        worst[row] = max(worst[row], float((logits >= logits[ids[row][end]]).sum()))
    assert logs.compare.window_ranks(detector, 2)(sessions).tolist() == worst
    cells = logs.compare.quality(np.array([True, False, False, False]), np.array([True, True, False, False]))
    assert cells == "25.0% | 0.6667 | 0.5000 | 0.5714"


KEYS = ("open", "read", "sync", "close", "any other key")


def test_the_events_of_the_measurement_are_those_of_whole_sessions(logs: Any) -> None:
    sessions = [session.split() for session in normal_sessions(20)]
    seen: dict[str, list[str]] = {}
    for batch in itertools.islice(logs.rate.batches(sessions, 50, 16), 100):
        for name, event in batch.events:
            seen.setdefault(name, []).append(event)
        assert all(seen[name] in sessions for name in batch.ended)
    assert len(seen) > 100


def test_a_3_gram_finds_the_abnormal_sessions_of_hdfs(logs: Any) -> None:
    folder = real_corpus("hdfs")
    names = [folder / f"{name}.txt" for name in ("train", "test_normal", "test_abnormal")]
    learnt, normal, abnormal = (logs.detector.read_sessions(name)[:1500] for name in names)
    model = logs.compare.NGram(learnt[300:], 3)
    held_out, found, false = (
        np.array([max(model.surprisals(session)) for session in part]) for part in (learnt[:300], abnormal, normal)
    )
    limit = np.quantile(held_out, 0.99, method="higher")
    assert (found > limit).mean() > 0.97
    assert (false > limit).mean() < 0.05
