"""`Score`: what it holds and how much memory it keeps."""

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from lmtool.runtime import Predictor, Tokenization
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


@pytest.fixture
def fond_of_unknown() -> Callable[[str], Predictor]:
    """Untrained models of three words, or letters, that expect an unknown one everywhere."""

    def make(rule: str) -> Predictor:
        tokens = [*Tokenization.of_rule(rule).specials, "a", "b", "c"]
        network = network_of((7, 3), vocabulary=len(tokens))
        with torch.no_grad():
            network.projection.bias[1] += 6
        return Predictor.load(artifact_of(network, tokens, rule))

    return make


@pytest.mark.parametrize("rule", ["whitespace", "words", "characters"])
def test_an_unknown_word_does_not_make_a_text_more_probable(
    fond_of_unknown: Callable[[str], Predictor], rule: str
) -> None:
    predictor = fond_of_unknown(rule)
    space = "" if rule == "characters" else " "
    known, garbage = (predictor.score(space.join(["a", word, "c"])) for word in ("b", "\u00e9"))
    encode = predictor.vocabulary.encode
    raw = predictor.score(encode(space.join("a\u00e9c")))
    assert raw.log_prob > predictor.score(encode(space.join("abc"))).log_prob  # the positive control
    assert garbage.log_prob < known.log_prob
    assert garbage.perplexity > known.perplexity
    spelling = 3 * math.log(257)  # two bytes and an end
    assert garbage.token_log_probs[1] == pytest.approx(raw.token_log_probs[1] - spelling)
    assert garbage.log_prob == pytest.approx(raw.log_prob - spelling)
    assert garbage.unknown == raw.unknown == 1
    for score in (garbage, raw):
        assert score.known_log_prob == pytest.approx(score.token_log_probs[0] + score.token_log_probs[2])
        assert score.known_perplexity == pytest.approx(math.exp(-score.known_log_prob / 2))
    assert (known.known_log_prob, known.known_perplexity) == (known.log_prob, known.perplexity)
    stream = predictor.stream()
    assert stream.score(space.join(["a", "\u00e9", "c"])) == garbage


def test_a_spelling_that_is_not_known_costs_nothing(fond_of_unknown: Callable[[str], Predictor]) -> None:
    predictor = fond_of_unknown("whitespace")
    written = predictor.score("a <unk> c")
    assert written == predictor.score([2, 1, 3 + 1])
    assert written.unknown == 1
    ids = np.array([0, 2, 1, 4])
    assert predictor.perplexity(ids) == pytest.approx(written.perplexity)  # as published results count it
    lone = predictor.score("a \udcff c")
    assert lone.log_prob == pytest.approx(written.log_prob - 4 * math.log(257))
    assert (lone.has_many_unknown, predictor.score("a b c a \u00e9").has_many_unknown) == (True, False)
    empty = predictor.score("")
    assert (empty.known_log_prob, empty.known_perplexity, empty.has_many_unknown) == (0.0, 1.0, False)
