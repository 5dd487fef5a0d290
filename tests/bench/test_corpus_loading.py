"""The study of corpus loading measures a generated corpus, as a module and as a program."""

import subprocess
import sys
from pathlib import Path

import corpus_loading
import pytest
from common.program import run_program

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")


def test_a_generated_corpus_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    corpus_loading.main(["--words", "2000", "--distinct", "50"])
    assert capsys.readouterr().out.startswith("4,200 tokens, a vocabulary of 52, in ")
    with pytest.raises(SystemExit) as ended:
        run_program(lambda: corpus_loading.main(["--distinct", "0"]))
    assert ended.value.code == 1
    assert "expected 1 or more" in capsys.readouterr().err


def test_the_study_runs_from_a_clone() -> None:
    command = [sys.executable, corpus_loading.__file__, "--words", "2000", "--distinct", "50"]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert finished.stdout.startswith("4,200 tokens, a vocabulary of 52, in ")
