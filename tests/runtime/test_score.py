"""`Score`: what it holds and how much memory it keeps."""

import subprocess
import sys
from pathlib import Path

from support.models.networks import artifact_of, network_of

_MEASURE = """
import gc, sys
from lmtool.runtime import Predictor

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

predictor = Predictor.load(sys.argv[1])
text = " ".join(map(str, range(12)))
kept = [predictor.score(text) for _ in range(20)]
before = resident()
if sys.argv[2] == "scores":
    kept += [predictor.score(text) for _ in range(500)]
else:
    import numpy as np
    kept += [np.array(predictor.score(text).token_log_probs) for _ in range(500)]
print(resident() - before)
"""


def test_kept_scores_take_little_memory(tmp_path: Path) -> None:
    tokens = ["<eos>", "<unk>", *map(str, range(9998))]
    path = tmp_path / "wide.onnx"
    path.write_bytes(artifact_of(network_of((7, 3), vocabulary=len(tokens)), tokens, "whitespace"))
    grown = {}
    for kind in ("scores", "arrays"):
        command = [sys.executable, "-c", _MEASURE, path, kind]
        grown[kind] = int(subprocess.run(command, capture_output=True, check=True).stdout)
    assert grown["scores"] < 5e6, grown
    assert grown["arrays"] > 3 * grown["scores"], grown  # the positive control
