"""Numbers stay numbers: NaN and infinity in weights, states and losses never become a score, nor the best weights."""

import functools
import json
import math
import random
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sabotage
from commands import Finished, lmtool
from corpora import write_corpus
from lmtool.export import export_run
from lmtool.model import Checkpoint, Run, Trainer
from lmtool.runtime import (
    ArtifactError,
    Autocompletion,
    Cache,
    CacheOptions,
    LmtoolError,
    NumberError,
    PoolOptions,
    Predictor,
    State,
    StateError,
    StreamPool,
)
from planting import NONE, PLACES, Planter, floats, is_number, planted
from thoroughness import FULL, Many, Tally
from tiny import Silent
from trainings import DROPOUT, new_trainer
from unstopped import complaint

PROMISE = "Numbers stay numbers"
AVERAGED = {**DROPOUT, "averaging": "exponential"}
_NO_NUMBER = re.compile(r"\b(nan|inf|Infinity)\b", re.IGNORECASE)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("numbers"), (35, 10, 10))


@pytest.fixture(scope="module")
def artifacts(run: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("artifacts")
    found = {"fp32": run.artifact("fp32"), "int8": run.artifact("int8")}
    for precision in ("fp16", "w8"):
        found[precision] = export_run(run, precision, folder / f"{precision}.onnx").path
    return found


@pytest.fixture(scope="module")
def overflowing(artifacts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact of finite weights whose logits are infinite: both terms of their sums are near the largest float."""
    path, source = tmp_path_factory.mktemp("overflowing") / "model.onnx", artifacts["fp32"]
    for name in (name for name in floats(source) if name.startswith("projection")):
        path.write_bytes(planted(source, name, 3e38, random.Random(1), 20))
        source = path
    return path


@pytest.fixture
def draw() -> random.Random:
    seed = random.randrange(1 << 32)
    sys.stdout.write(f"seed {seed}\n")  # shown where a test fails
    return random.Random(seed)


def hit(corpus: Path, folder: Path, place: str, value: float, draw: random.Random) -> tuple[Planter, str]:
    """Train with a number planted at a random step; the planter, and how it ended."""
    trainer = new_trainer(corpus, folder, AVERAGED)
    total = 2 * len(trainer._batches.spans(0))
    planter = Planter(trainer, place, value, draw.randrange(1, total), draw)
    try:
        trainer.train(planter, draw.choice((1e-9, 180.0)))
    except LmtoolError as error:
        return planter, f"{type(error).__name__}: {error}"
    return planter, ""


def test_what_is_planted_in_a_training_never_reaches_a_checkpoint(
    tmp_path: Path, corpus: Path, draw: random.Random, many: Many, tally: Tally
) -> None:
    tried, places = many(2, 49), draw.sample(PLACES, len(PLACES))
    for number in range(tried):
        place, value, folder = places[number % len(places)], draw.choice(NONE), tmp_path / f"{number}"
        planter, message = hit(corpus, folder, place, value, draw)
        what = f"{value} in {place}"
        assert message.startswith("TrainingError: "), what
        run = Run(folder)
        assert (run.best.read_bytes() if run.best.exists() else None) == planter.best, what
        for path in filter(Path.exists, (run.best, run.latest)):
            assert all(bool(tensor.isfinite().all()) for tensor in Checkpoint.read(path).tensors.values()), what
        resumed = new_trainer(corpus, folder, AVERAGED, create=False)
        resumed.restore()
        resumed.train(Silent())
        assert is_number(run.trained()[1].facts["test_perplexity"])
    tally(
        PROMISE,
        tried=tried,
        what="NaN or infinity planted in trainings",
        finished_anyway=0,
        best_replaced=0,
        not_resumed=0,
    )


def test_trainings_that_do_not_look_replace_the_best(
    tmp_path: Path,
    corpus: Path,
    draw: random.Random,
    monkeypatch: pytest.MonkeyPatch,
    many: Many,
    tally: Tally,
) -> None:
    """Positive control: a vector of a word that no text has, which no loss will ever show."""
    monkeypatch.setattr(Trainer, "_require_finite", lambda _: None)
    for number in range(tried := many(1, 3)):
        hit(corpus, tmp_path / f"{number}", "unseen", math.nan, draw)
        best = Checkpoint.read(Run(tmp_path / f"{number}").best)
        assert not all(bool(tensor.isfinite().all()) for tensor in best.tensors.values())
    control = f"trainings that do not look: {tried} of {tried} replaced the best by weights with NaN"
    tally(PROMISE, tried=tried, control=control)


def results(predictor: Predictor, start: State | None = None) -> Iterator[Callable[[], Any]]:
    """All that makes something of logits."""
    stream = functools.partial(predictor.stream, start)
    cached = functools.partial(predictor.stream, start, cache=CacheOptions(size=5))
    ids = np.arange(len(predictor.vocabulary))
    yield lambda: stream().score("the cat saw a dog").token_log_probs
    yield lambda: cached().score("the cat saw a dog the cat").token_log_probs
    yield lambda: [share for _, share in fed(stream()).suggest(3)]
    yield lambda: [share for _, share in fed(stream()).suggest(3, prefix="t")]
    yield lambda: [share for _, share in fed(cached()).suggest(3)]
    yield lambda: fed(stream()).logits()
    yield lambda: list(fed(stream()).generate(5, method="greedy")) and 0
    yield lambda: list(fed(stream()).generate(5, seed=1)) and 0
    if start is not None:
        return
    yield lambda: predictor.score("the cat saw the <unk>").log_prob
    yield lambda: logarithm(predictor.perplexity(ids))
    yield lambda: logarithm(predictor.perplexity(ids, cache=CacheOptions(size=5)))
    yield lambda: predictor.log_probs(ids[None], predictor.initial_state(), ids[None])[0]
    yield lambda: [found.probability for found in Autocompletion(predictor, 3).suggestions("the cat ")]


def logarithm(perplexity: float) -> float:
    """A perplexity may be too large for a number, which infinity says, but never none."""
    return math.log(min(perplexity, sys.float_info.max))


def fed(stream: Any) -> Any:
    stream.feed("the cat saw <unk>")
    return stream


def judged(actions: Iterator[Callable[[], Any]]) -> Counter[str]:
    """How many of the results were numbers, were refused, or were none."""
    found = Counter[str]()
    for act in actions:
        try:
            found["numbers" if is_number(act()) else "none"] += 1
        except NumberError:
            found["refused"] += 1
    return found


def test_weights_that_are_no_numbers_are_refused_at_load(
    artifacts: dict[str, Path], draw: random.Random, many: Many, tally: Tally
) -> None:
    cases = [(path, name, value) for path in artifacts.values() for name in floats(path) for value in NONE]
    for path, name, value in (chosen := draw.sample(cases, many(20, len(cases)))):
        with pytest.raises(ArtifactError, match=f"its weight '{re.escape(name)}' holds numbers that are not finite"):
            Predictor.load(planted(path, name, value, draw))
    tally(PROMISE, tried=len(chosen), what="NaN or infinity in weights of artifacts", loaded=0)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_weights_too_large_give_numbers_or_an_error(
    artifacts: dict[str, Path],
    overflowing: Path,
    draw: random.Random,
    many: Many,
    tally: Tally,
) -> None:
    found = judged(results(Predictor.load(overflowing)))
    assert found["refused"] > 5
    for _ in range(tried := many(6, 150)):
        path = artifacts[draw.choice(("fp32", "int8"))]
        data = planted(path, draw.choice(floats(path)), 10 ** draw.uniform(30, 38.5), draw, draw.choice((0, 0.3, 1)))
        found += judged(results(Predictor.load(data)))
        assert found["none"] == 0
    assert found["numbers"] > tried
    tally(PROMISE, tried=found.total(), what="weights up to 3e38", refused=found["refused"], not_a_number=0)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_results_that_nobody_looks_at_are_no_numbers(
    artifacts: dict[str, Path], draw: random.Random, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    """Positive control. onnxruntime's LSTM even makes numbers of NaN, which mean nothing: so weights are looked at."""
    for name in ("predictor", "stream"):
        monkeypatch.setattr(f"lmtool.runtime.{name}.require_finite", lambda *_: None)
    monkeypatch.setattr("lmtool.runtime.initializers.require_finite", lambda _: None)
    found = Counter[str]()
    for name in floats(artifacts["fp32"]):
        found += judged(results(Predictor.load(planted(artifacts["fp32"], name, math.nan, draw, 1))))
    assert found["none"] > 10
    assert found["numbers"] > 10
    tally(PROMISE, tried=found.total(), control=f"nothing checked: {dict(found)}")


def spoilt(predictor: Predictor, draw: random.Random) -> State:
    """A state of a stream, with one number of its tensors or its cache that is none."""
    stream = predictor.stream(cache=CacheOptions(size=5))
    stream.score("the cat saw a dog")
    state = stream.state
    arrays = [array.copy() for array in (*state.tensors, state.cache.hidden)]
    flat = draw.choice(arrays).reshape(-1)
    flat[draw.randrange(flat.size)] = draw.choice(NONE)
    cache = Cache(state.cache.options, arrays[-1], state.cache.token_ids, state.cache.oldest)
    return State(state.model_sha256, tuple(arrays[:-1]), state.pending, cache)


def test_states_that_hold_no_numbers_are_refused(
    predictor: Predictor, draw: random.Random, many: Many, tally: Tally
) -> None:
    wrong = "the state holds numbers that are not finite"
    with StreamPool(predictor, PoolOptions(max_streams=4)) as pool:
        for _ in range(tried := many(30, 500)):
            state = spoilt(predictor, draw)
            with pytest.raises(StateError, match=wrong):
                State.from_bytes(state.to_bytes())
            with pytest.raises(StateError, match=wrong):
                predictor.stream(state)
            plain = replace(state, cache=None, pending=np.zeros((1, 0), np.int64))
            if not all(is_number(tensor) for tensor in plain.tensors):
                with pytest.raises(StateError, match=wrong):
                    pool.open_stream(plain)
        assert pool.stats.open_streams == 0
    tally(PROMISE, tried=tried, what="NaN or infinity in states and caches", taken=0)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_states_too_large_give_numbers_or_an_error(
    predictor: Predictor, draw: random.Random, many: Many, tally: Tally
) -> None:
    found = Counter[str]()
    for _ in range(tried := many(10, 200)):
        size = 10 ** draw.uniform(0, 38.5)
        zero, start = predictor.initial_state(), np.array([[predictor.vocabulary.end_of_sentence_id]], np.int64)
        tensors = tuple(
            np.array([[draw.choice((-1, 1)) * size for _ in range(tensor.shape[1])]], np.float32)
            for tensor in zero.tensors
        )
        found += judged(results(predictor, State(zero.model_sha256, tensors, start)))
    assert found["none"] == 0
    assert found["numbers"] > tried
    tally(PROMISE, tried=found.total(), what="states up to 3e38", refused=found["refused"], not_a_number=0)


COMMANDS = (
    ["score", "the cat"],
    ["score", "--json", "--per-token", "the cat"],
    ["suggest", "the"],
    ["generate", "the"],
    ["evaluate", "--data", "."],
    ["evaluate", "--data", ".", "--cache", "5"],
    ["verify"],
    ["info"],
    ["bench", "--batch", "8", "--rounds", "1"],
)


def shows_none(finished: Finished) -> bool:
    """Whether a command that says it is done printed something that is no number."""
    return finished.returncode == 0 and bool(_NO_NUMBER.search(finished.stdout))


def test_commands_say_it_and_fail(
    tmp_path: Path,
    run: Run,
    corpus: Path,
    draw: random.Random,
    many: Many,
    tally: Tally,
) -> None:
    cases = [(command, value) for command in COMMANDS for value in NONE]
    shutil.copytree(run.path, place := tmp_path / "run")
    names = floats(run.artifact("fp32"))
    for command, value in (chosen := draw.sample(cases, many(2, len(cases)))):
        (place / "model.onnx").write_bytes(planted(run.artifact("fp32"), draw.choice(names), value, draw))
        finished = lmtool(*command, "--model", place / "model.onnx", cwd=corpus)
        assert complaint(finished) == [], command
        assert "holds numbers that are not finite" in finished.stderr, command
    for option in (precisions := ("int8", "fp32")[: many(1, 2)]):
        best = Checkpoint.read(Run(place).best)
        tensors = {name: tensor.clone() for name, tensor in best.tensors.items()}
        draw.choice(list(tensors.values())).view(-1)[0] = math.nan
        Checkpoint(tensors, best.facts).write(Run(place).best)
        finished = lmtool("export", "--onnx", "--precision", option, "--run", place)
        assert complaint(finished) == []
        assert "holds numbers that are not finite" in finished.stderr
        shutil.copy(run.best, Run(place).best)
    tally(PROMISE, tried=len(chosen) + len(precisions), what="NaN or infinity in files of commands", nan_with_exit_0=0)


def test_commands_with_weights_too_large_never_print_what_is_no_number(
    tmp_path: Path,
    run: Run,
    overflowing: Path,
    corpus: Path,
    draw: random.Random,
    tally: Tally,
) -> None:
    """The last layer's weights are so large that products of them overflow."""
    shutil.copytree(run.path, place := tmp_path / "run")
    best = Checkpoint.read(run.best)
    tensors = {name: tensor * (3e38 if "projection.weight" in name else 1) for name, tensor in best.tensors.items()}
    Checkpoint(tensors, best.facts).write(Run(place).best)
    shutil.copy(overflowing, place / "model.onnx")
    commands = [[*command, "--model", place / "model.onnx"] for command in COMMANDS if command[0] not in ("info",)]
    commands += [["export", "--onnx", "--run", place], ["evaluate", "--run", place]]
    quick = [command for command in commands if command[0] != "bench"]  # which starts many processes
    for command in (chosen := commands if FULL else draw.sample(quick, 2)):
        finished = lmtool(*command, cwd=corpus)
        assert finished.returncode in (1, 3), (command, finished)
        assert "Traceback" not in finished.stderr, command
        assert not _NO_NUMBER.search(finished.stdout.replace("infinite", "")) or finished.returncode == 3
    tally(PROMISE, tried=len(chosen), what="weights of 3e38 in files of commands", nan_with_exit_0=0)


def test_commands_that_do_not_look_print_what_is_no_number(
    tmp_path: Path, run: Run, draw: random.Random, tally: Tally
) -> None:
    """Positive control."""
    path = tmp_path / "model.onnx"
    name = next(name for name in floats(run.artifact("fp32")) if "projection" in name)
    path.write_bytes(planted(run.artifact("fp32"), name, math.nan, draw, 1))
    commands = [["score", "the cat"], ["suggest", "the"]]
    found = [lmtool(*command, "--model", path, prepare=sabotage.unchecked_numbers) for command in commands]
    assert all(map(shows_none, found)), found
    tally(PROMISE, tried=2, control="nothing checked: 2 of 2 commands print nan with exit 0")


def test_json_of_a_refused_score_is_none(tmp_path: Path, run: Run, draw: random.Random) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(planted(run.artifact("fp32"), floats(run.artifact("fp32"))[0], math.nan, draw))
    finished = lmtool("score", "--json", "the cat", "--model", path)
    assert (finished.returncode, finished.stdout) == (1, "")
    with pytest.raises(LmtoolError):
        Predictor.load(path)
    with pytest.raises(json.JSONDecodeError):
        json.loads(finished.stdout)
