"""Corruption is noticed: flipped bits and truncation of artifacts and checkpoints."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lmtool.model import CheckpointError, Run, checkpoint
from lmtool.model.checkpoint import Checkpoint
from lmtool.runtime import Artifact, ArtifactError, LmtoolError
from lmtool.runtime.artifact import artifact
from support.scale import Many, Tally

PROMISE = "Corruption is noticed"
FLIPS_FOR_EACH_END = 4


def damage(data: bytes, seed: int) -> tuple[str, bytes]:
    """Flip one bit, or sometimes truncate; the description and the damaged file."""
    draw = random.Random(seed)
    place = draw.randrange(len(data))
    if seed % (FLIPS_FOR_EACH_END + 1) == 0:
        return f"seed {seed}: cut to {place} of {len(data)} bytes", data[:place]
    changed = bytearray(data)
    changed[place] ^= 1 << draw.randrange(8)
    return f"seed {seed}: a bit of byte {place} of {len(data)}", bytes(changed)


def undetected(data: bytes, count: int, read: Callable[[bytes], Any]) -> list[str]:
    """Damages that `read` accepts; errors other than `LmtoolError` are raised."""
    read(data)  # undamaged, it is readable
    missed = []
    for seed in range(count):
        what, changed = damage(data, seed)
        try:
            read(changed)
        except LmtoolError:
            continue
        missed.append(what)
    return missed


def checkpoint_reader(tmp_path: Path) -> Callable[[bytes], Checkpoint]:
    def read(data: bytes) -> Checkpoint:
        (tmp_path / "damaged").write_bytes(data)
        return Checkpoint.read(tmp_path / "damaged")

    return read


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_every_damage_to_an_artifact_is_noticed(run: Run, precision: str, many: Many, tally: Tally) -> None:
    count = many(200, 1000)
    missed = undetected(run.artifact(precision).read_bytes(), count, Artifact.parse)
    assert missed == []
    tally(PROMISE, tried=count, what=f"{precision} artifact", unnoticed=0)


@pytest.mark.parametrize("name", ["best", "latest"])
def test_every_damage_to_a_checkpoint_is_noticed(run: Run, tmp_path: Path, name: str, many: Many, tally: Tally) -> None:
    count = many(100, 1000)
    data = (run.best if name == "best" else run.latest).read_bytes()
    missed = undetected(data, count, checkpoint_reader(tmp_path))
    assert missed == []
    tally(PROMISE, tried=count, what=f"{name} checkpoint", unnoticed=0)


def test_without_the_hashes_most_flips_go_unnoticed(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, many: Many, tally: Tally
) -> None:
    """Positive control: the same damage and readers, without comparison of hashes."""
    count = many(100, 200)

    def hash_as_declared(_: bytes, metadata: Any) -> str:
        return artifact._string(metadata, artifact.HASH_KEY)

    monkeypatch.setattr(artifact, "_checked_hash", hash_as_declared)
    of_artifacts = undetected(run.artifact("fp32").read_bytes(), count, Artifact.parse)
    declared: list[str] = []
    read_metadata = checkpoint._metadata

    def record_hash(data: bytes) -> dict[str, str]:
        declared.append(read_metadata(data)["sha256"])
        return read_metadata(data)

    monkeypatch.setattr(checkpoint, "_metadata", record_hash)
    monkeypatch.setattr(checkpoint, "_hash", lambda *_: declared[-1])
    of_checkpoints = undetected(run.best.read_bytes(), count, checkpoint_reader(tmp_path))
    assert len(of_artifacts) > count // 4
    assert len(of_checkpoints) > count // 4
    assert not any("cut" in what for what in of_checkpoints)  # truncation contradicts the file's own lengths
    control = f"without the hashes {len(of_artifacts)} of {count} in artifacts and {len(of_checkpoints)} in checkpoints"
    tally(PROMISE, tried=2 * count, control=f"{control} are not noticed")


def test_a_damaged_file_is_named(run: Run, tmp_path: Path) -> None:
    for seed, (path, read, error) in enumerate(
        ((run.artifact("fp32"), Artifact.read, ArtifactError), (run.best, Checkpoint.read, CheckpointError)), start=1
    ):
        copy = tmp_path / path.name
        copy.write_bytes(damage(path.read_bytes(), seed)[1])
        with pytest.raises(error, match=path.name):
            read(copy)
