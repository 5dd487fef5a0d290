"""The study of training speed: a probe in a process, tables by hand, the picture's name."""

from pathlib import Path
from typing import Any

import pytest
import training_speed
from lmtool.bench import BenchError
from lmtool.runtime import OptionError
from support.corpora import write_corpus


def test_a_probe_measures_in_a_process(tmp_path: Path) -> None:
    data = str(write_corpus(tmp_path / "corpus"))
    settings = {"layer_sizes": "4", "embedding_size": "4", "precision": "fp32"}
    measurement = training_speed.run_probe(training_speed.Probe(settings, data, steps=3))
    assert len(measurement["seconds"]) == 3
    assert min(measurement["seconds"]) > 0
    assert measurement["tokens"] == 600
    assert measurement["peak_bytes"] > 10_000_000


def test_a_probe_that_fails_says_why() -> None:
    with pytest.raises(BenchError, match="a measurement failed:\n(?s:.*)there is no file or folder 'none'"):
        training_speed.run_probe(training_speed.Probe(data="none"))


def test_the_table_compares_round_by_round(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    seconds = iter([1.0, 0.5, 0.4, 2.0])  # rounds start with another stage each

    def run_probe(probe: training_speed.Probe) -> dict[str, Any]:
        assert probe.data == "a folder"
        return {"seconds": [next(seconds)], "tokens": 600, "peak_bytes": 5_000_000}

    monkeypatch.setattr(training_speed, "STAGES", {name: training_speed.Probe() for name in ("plain", "fused")})
    monkeypatch.setattr(training_speed, "run_probe", run_probe)
    header, plain, fused = training_speed.compare("a folder", None, 2).splitlines()
    assert header.split("  ")[-1] == "peak memory"
    assert plain.split() == ["plain", "450", "300", "to", "600", "1.00", "(1.00", "to", "1.00)", "5", "MB"]
    assert fused.split() == ["fused", "1,350", "1,200", "to", "1,500", "3.50", "(2.00", "to", "5.00)", "5", "MB"]
    assert capsys.readouterr().err.splitlines()[2] == "round 2, fused: 1,500 words/s"


def test_growth_is_a_table_and_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_probe(probe: training_speed.Probe) -> dict[str, Any]:
        return {"seconds": [0.5], "tokens": probe.vocabulary, "peak_bytes": 5_000_000}

    axes = {
        "words in the vocabulary": (training_speed._vocabulary, (100, 1_000)),
        "layers": (training_speed._layers, (1,)),
    }
    monkeypatch.setattr(training_speed, "AXES", axes)
    monkeypatch.setattr(training_speed, "run_probe", run_probe)
    lines = training_speed.grow(tmp_path / "growth.png", 1).splitlines()
    assert [line.split()[-4:] for line in lines[1:]] == [
        ["100", "200", "5", "MB"],
        ["1,000", "2,000", "5", "MB"],
        ["1", "20,000", "5", "MB"],
    ]
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["map.jpg", "map", "map.png.svg"])
def test_pictures_must_be_named_png(tmp_path: Path, name: str) -> None:
    with pytest.raises(OptionError, match=r"expected a name that ends in \.png"):
        training_speed.grow(tmp_path / name, rounds=0)
    assert list(tmp_path.iterdir()) == []
