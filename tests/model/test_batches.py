"""Batches: rows of the training text, read step by step."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lmtool.model import DataError, preset_named
from lmtool.model.data.batches import Batches
from lmtool.model.training.config import TrainConfig
from lmtool.model.training.distributed import ProcessGroup
from support.runs.reporters import RecordingReporter
from support.runs.settings import SETTINGS
from support.runs.trainers import new_trainer


def config(**settings: object) -> TrainConfig:
    return preset_named("ptb-200").with_settings({key: str(value) for key, value in settings.items()})


def test_batches_are_rows_read_in_parallel() -> None:
    batches = Batches(np.arange(23, dtype=np.int32), config(batch_size=2, steps=3))
    steps = [[part.tolist() for part in batches.read(0, span)] for span in batches.spans(0)]
    assert steps == [
        [[[0, 1, 2], [11, 12, 13]], [[1, 2, 3], [12, 13, 14]]],
        [[[3, 4, 5], [14, 15, 16]], [[4, 5, 6], [15, 16, 17]]],
        [[[6, 7, 8], [17, 18, 19]], [[7, 8, 9], [18, 19, 20]]],
    ]


def test_processes_share_the_rows() -> None:
    ids = np.arange(50, dtype=np.int32)
    whole = Batches(ids, config(batch_size=4, steps=3))
    parts = [Batches(ids, config(batch_size=4, steps=3), ProcessGroup(process, 2)) for process in range(2)]
    for span in whole.spans(0):
        rows = [row for part in parts for row in part.read(0, span)[0].tolist()]
        assert rows == whole.read(0, span)[0].tolist()
    with pytest.raises(DataError, match="batch_size 5 cannot be shared evenly by 2 processes; try --set batch_size=6"):
        Batches(ids, config(batch_size=5, steps=3), ProcessGroup(0, 2))


def test_a_partial_shuffle_rotates_each_row_by_another_number_in_each_epoch() -> None:
    settings = config(batch_size=4, steps=3, partial_shuffle="true")
    ids = np.arange(400, dtype=np.int32)  # row r holds 100 r to 100 r + 99
    whole = Batches(ids, settings)

    def rows_of(batches: Batches, epoch: int) -> np.ndarray:
        read = [batches.read(epoch, span) for span in batches.spans(epoch)]
        for inputs, targets in read:
            assert (inputs // 100 == targets // 100).all()
            assert ((inputs + 1 - targets) % 100 == 0).all()
        return np.concatenate([inputs.numpy() for inputs, _ in read], axis=1)

    first, second = rows_of(whole, 0), rows_of(whole, 1)
    assert (first // 100 == np.arange(4)[:, None]).all()
    assert (first == 100 * np.arange(4)[:, None] + (first[:, :1] + np.arange(99)) % 100).all()
    assert len(set(first[:, 0] % 100)) > 1
    assert (first[:, 0] != second[:, 0]).any()
    assert (first == rows_of(whole, 0)).all()
    parts = [Batches(ids, settings, ProcessGroup(process, 2)) for process in range(2)]
    assert (np.concatenate([rows_of(part, 0) for part in parts]) == first).all()


def test_a_training_reads_each_epoch_by_its_number(
    tmp_path: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs, read = [], Batches.read

    def recorded(self: Batches, epoch: int, span: tuple[int, int]) -> Any:
        epochs.append(epoch)
        return read(self, epoch, span)

    monkeypatch.setattr(Batches, "read", recorded)
    new_trainer(corpus_folder, tmp_path / "run", {**SETTINGS, "epochs": "2"}).train(RecordingReporter())
    assert set(epochs) == {0, 1}


def test_variable_steps_cover_the_text_and_differ_between_epochs() -> None:
    batches = Batches(np.arange(40_001, dtype=np.int32), config(batch_size=1, steps=70, variable_steps="true"))
    first, second = batches.spans(0), batches.spans(1)
    assert first == batches.spans(0) != second
    assert (first[0][0], first[-1][1]) == (0, 40_000)
    assert all(before[1] == after[0] for before, after in itertools.pairwise(first))
    lengths = np.array([stop - start for start, stop in first[:-1]])
    assert lengths.min() >= 5
    assert np.median(lengths) == pytest.approx(70, abs=2)
    assert 0.01 < np.mean(lengths < 50) < 0.1  # one in twenty has half the length


@pytest.mark.parametrize(
    ("count", "batch_size", "steps", "advice"),
    [
        (100, 30, 20, "--set batch_size=4 or --set steps=2"),
        (100, 90, 20, "--set batch_size=4$"),
        (10, 3, 20, "--set steps=2$"),
        (3, 30, 20, "more text is needed"),
    ],
)
def test_error_for_a_short_corpus_names_settings_that_fit(count: int, batch_size: int, steps: int, advice: str) -> None:
    ids = np.zeros(count, np.int32)
    with pytest.raises(
        DataError, match=f"has {count} tokens, .* needs at least {batch_size * (steps + 1):,}; .*{advice}"
    ):
        Batches(ids, config(batch_size=batch_size, steps=steps))
    for setting in advice.rstrip("$").split(" or "):
        if "=" in setting:
            key, _, value = setting.removeprefix("--set ").partition("=")
            assert Batches(ids, config(**{"batch_size": batch_size, "steps": steps, key: int(value)})).spans(0)
