"""Measure what a generated token, five suggestions and a keystroke cost over a bare call of the session.

    python bench/studies/token_costs.py --model FILE... [--vocabulary WORDS...] [--rounds N]

The bare call is `InferenceSession.run` for one token of one stream in a closed loop, with one thread. Times are the
processor's time of that thread, which other work on the machine disturbs less. All loops take turns in each round; a
ratio is that of one round, and the table has the medians of the rounds with their quartiles. A suggestion reads a token
and gives the five most probable next ones. A keystroke is the mean over a text that is typed letter by letter.

`--vocabulary` adds untrained networks of the architecture and precision of each model with other vocabularies; their
probabilities fall as those of words do (exponent 1.3), since the cost of top-p depends on that. Their words begin with
the same letters, so that a keystroke there completes the whole vocabulary.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from common.program import run_program
from lmtool.bench.bare_calls import bare_calls
from lmtool.bench.environment import describe_environment
from lmtool.bench.untrained_run import make_untrained_run
from lmtool.export import export_run
from lmtool.model.checkpoint import Checkpoint
from lmtool.runtime import Artifact, Autocompletion, Predictor
from lmtool.runtime.io.text_table import text_table

_BARE = "bare call"
_TOKENS = 50
"""Tokens of a loop."""
_CONTEXT = 8
_TYPED_WORDS = 12
_EXPONENT = 1.3
GENERATED: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0},
    "temperature 1": {},
    "temperature 0.8": {"temperature": 0.8},
    "top-k 40": {"top_k": 40},
    "top-p 0.9": {"top_p": 0.9},
}
"""What `Stream.generate` is measured with."""

Loop = Callable[[], int]
"""Does a number of things and returns it."""


@final
@dataclass(frozen=True)
class TokenCosts:
    """Seconds of one thing, by what it is: one number a round."""

    model: str
    seconds: dict[str, list[float]]

    def ratios(self, name: str) -> list[float]:
        """Multiples of the bare call in the same round."""
        return [own / bare for own, bare in zip(self.seconds[name], self.seconds[_BARE], strict=True)]


def measure_costs(predictor: Predictor, name: str, rounds: int) -> TokenCosts:
    """Run all loops `rounds` times in turns, after once that does not count."""
    loops: dict[str, Loop] = {_BARE: _bare_loop(predictor)}
    loops |= {how: _generating_loop(predictor, options) for how, options in GENERATED.items()}
    loops |= {"suggest(5)": _suggesting_loop(predictor), "keystroke": _typing_loop(predictor)}
    seconds: dict[str, list[float]] = {kind: [] for kind in loops}
    for number in range(rounds + 1):
        for kind, loop in loops.items():
            start = time.thread_time()
            count = loop()
            if number:
                seconds[kind].append((time.thread_time() - start) / count)
    return TokenCosts(name, seconds)


def _ids(predictor: Predictor, count: int) -> list[int]:
    """Frequent tokens, without the special ones."""
    random, size = np.random.default_rng(0), min(len(predictor.vocabulary), 500)
    return (random.integers(2, size, count)).tolist() if size > 2 else [0] * count


def _bare_loop(predictor: Predictor) -> Loop:
    calls = bare_calls(predictor, np.array(_ids(predictor, _TOKENS), np.int64).reshape(-1, 1, 1))

    def loop() -> int:
        calls()
        return _TOKENS

    return loop


def _generating_loop(predictor: Predictor, options: dict[str, Any]) -> Loop:
    stream, seeds = predictor.stream(), itertools.count()
    stream.feed_ids(_ids(predictor, _CONTEXT))
    return lambda: len(list(stream.generate(_TOKENS, seed=next(seeds), **options)))


def _suggesting_loop(predictor: Predictor) -> Loop:
    stream, ids = predictor.stream(), _ids(predictor, _TOKENS)

    def loop() -> int:
        for token in ids:
            stream.feed_ids([token])
            stream.suggest(5)
        return _TOKENS

    return loop


def _typing_loop(predictor: Predictor) -> Loop:
    text = predictor.vocabulary.decode(_ids(predictor, _TYPED_WORDS))

    def loop() -> int:
        line = Autocompletion(predictor, count=5)
        for end in range(1, len(text) + 1):
            line.suggestions(text[:end])
        return len(text)

    return loop


def predictors(models: Sequence[Path], vocabularies: Sequence[int]) -> Iterator[tuple[str, Predictor]]:
    """Each model, and untrained networks like it with the vocabularies."""
    for path in models:
        artifact = Artifact.read(path)
        yield f"{artifact.variant}, {len(artifact.vocabulary):,} words", Predictor.load(path)
        for size in vocabularies:
            with tempfile.TemporaryDirectory() as folder:
                untrained = _untrained(Path(folder) / "run", artifact, size)
                yield f"{artifact.variant}, {size:,} words", Predictor.load(untrained)


def _untrained(folder: Path, like: Artifact, size: int) -> Path:
    run = make_untrained_run(folder, like.architecture, size, seed=0)
    network, checkpoint = run.trained()
    weights = {name: tensor.clone() for name, tensor in network.weights().items()}
    weights["projection.bias"] = -_EXPONENT * torch.log(torch.arange(1, size + 1))
    Checkpoint.of_weights(weights, run.vocabulary(), checkpoint.facts).write(run.best)
    return export_run(run, like.precision).path


def format_costs(costs: Sequence[TokenCosts]) -> str:
    """The table: a row each model, a column each thing; microseconds of the bare call, then its multiples."""
    names = list(costs[0].seconds)
    rows = [("model", *names)]
    for cost in costs:
        bare = f"{statistics.median(cost.seconds[_BARE]) * 1e6:,.0f} us"
        rows.append((cost.model, bare, *(_shown(cost.ratios(name)) for name in names[1:])))
    return "\n".join(text_table(rows, ">"))


def _shown(ratios: Sequence[float]) -> str:
    low, middle, high = np.percentile(ratios, [25, 50, 75])
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, nargs="+", help="artifacts")
    parser.add_argument("--vocabulary", type=int, default=[], nargs="+", help="words of untrained networks")
    parser.add_argument("--rounds", type=int, default=60, help="rounds")
    options = parser.parse_args()
    environment = describe_environment()
    print(f"{environment['processor']}, {environment['usable_cores']} cores")
    models = predictors(options.model, options.vocabulary)
    print(format_costs([measure_costs(predictor, name, options.rounds) for name, predictor in models]))


if __name__ == "__main__":
    run_program(main)
