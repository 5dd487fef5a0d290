"""`lmtool doctor`: exit codes, JSON, and a mended copy."""

import json
from pathlib import Path

import onnx
from support.models.recurrent_files import recurrent_model
from support.processes.commands import lmtool


def test_faults_are_printed_and_exit_with_3(tmp_path: Path) -> None:
    good, bad, mended = (tmp_path / f"{name}.onnx" for name in ("good", "bad", "mended"))
    onnx.save(recurrent_model(), good)
    onnx.save(recurrent_model(states=[("h", "1"), ("c", "2")]), bad)
    done = lmtool("doctor", good, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["states"] == [{"input": "h", "output": "hn"}, {"input": "c", "output": "cn"}]
    assert found["faults"] == []
    done = lmtool("doctor", bad)
    assert (done.returncode, done.stderr) == (3, "")
    assert "unpaired-state  input 'h'\n" in done.stdout
    done = lmtool("doctor", bad, "--fix", mended, "--json")
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert [fault["kind"] for fault in found["faults"]] == ["unpaired-state", "unpaired-state"]
    assert found["mended"]["after"]["faults"] == []
    assert lmtool("doctor", mended).returncode == 0


def test_wrong_arguments_are_named(tmp_path: Path) -> None:
    done = lmtool("doctor", tmp_path / "none.onnx", "--state", "h")
    assert done.returncode == 2
    assert "'h' is not of the form IN=OUT" in done.stderr
