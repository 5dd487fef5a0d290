"""Scores every line of a folder of text over a Ray cluster, one predictor in each worker.

    python score.py FOLDER --model model.onnx --out SCORES                   # the cores of this machine
    python score.py FOLDER --model model.onnx --out SCORES --address auto    # the cluster that this machine is part of

A run that was stopped goes on where it was when it is started again. See README.md.
"""

import argparse
import contextlib
import logging
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

import lines
import parts
import ray
from lines import LineScorer, score_part
from lmtool.runtime import Artifact, LmtoolError, OptionError, Predictor
from lmtool.runtime.io.files import json_text, make_folder, read_bytes
from lmtool.runtime.score import perplexity
from parts import Part, PartScore, find_parts, kept_score, remove_others
from pool import ClusterError, Outcome, WorkerPool

CONNECT_SECONDS = 5.0

# The modules beside this one go to the workers with what is called there: other machines do not have them.
for _module in (lines, parts):
    ray.cloudpickle.register_pickle_by_value(_module)


@final
class Worker:
    """One predictor in a process of its own; an actor of the cluster."""

    def __init__(self, artifact: bytes, model: str, folder: str, out: str) -> None:
        """Load the artifact, whose hash must be `model`."""
        self._model = model
        self._scorer = LineScorer(Predictor.load(artifact, sha256=model))
        self._folder, self._out = Path(folder), Path(out)

    def place(self) -> dict[str, Any]:
        """Where the worker is, once it has loaded."""
        node = ray.get_runtime_context().get_node_id()
        return {"node": node, "host": socket.gethostname(), "pid": os.getpid(), "batched": self._scorer.batched}

    def score(self, part: Part) -> PartScore | str:
        """Score a part and write its file; what stands in the way, as a message."""
        try:
            return score_part(self._scorer, part, self._folder, self._out, self._model)
        except LmtoolError as error:
            return str(error)


def main() -> int:
    """Run the command in `sys.argv`; its exit code."""
    options = _options()
    _end_in_order()
    try:
        summary = run(options)
    except KeyboardInterrupt:
        return _failed("interrupted; start it again to go on", 130)
    except LmtoolError as error:
        return _failed(str(error), error.exit_code)
    for failure in summary["failed"]:
        _failed(failure["error"], 1)
    sys.stdout.write(f"{json_text(summary, indent=1)}\n" if options.json else _shown(summary))
    return 1 if summary["failed"] else 0


def _end_in_order() -> None:
    """End after SIGTERM as a shell expects it, with the workers ended."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Score every line of a folder of text over a Ray cluster.")
    parser.add_argument("folder", type=Path, help="the text; every machine of the cluster must see it")
    parser.add_argument("--model", type=Path, required=True, help="an lmtool artifact, on this machine only")
    parser.add_argument("--out", type=Path, required=True, help="the scores; every machine must see it")
    parser.add_argument("--workers", type=_positive, help="one core each; as many as the cluster has cores")
    parser.add_argument("--address", help="auto, or a cluster's HOST:PORT; without it a local one is started")
    parser.add_argument("--pattern", default="*", help="names of the files to score, as *.txt")
    parser.add_argument("--part-bytes", type=_positive, default=1 << 24, help="what a worker is given at once")
    parser.add_argument("--attempts", type=_positive, default=3, help="of a part whose workers die")
    parser.add_argument("--json", action="store_true", help="the summary as one JSON object")
    return parser.parse_args()


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Score what is not scored yet, and sum up everything.

    Raises:
        LmtoolError: The folder, the artifact, the place of the scores or the cluster cannot be used.
    """
    folder, out = options.folder.resolve(), options.out.resolve()
    if out.is_relative_to(folder):
        raise OptionError(f"--out {out} lies in the folder that is scored; choose one beside it")
    found = find_parts(folder, options.pattern, options.part_bytes)
    artifact = read_bytes(options.model)
    model = Artifact.parse(artifact, str(options.model)).sha256
    make_folder(out)
    remove_others(found, out)
    kept = {part: score for part in found if (score := kept_score(part, out, model)) is not None}
    waiting = [part for part in found if part not in kept]
    _say(f"{len(found)} parts, {len(kept)} of them scored before")
    outcomes: list[Outcome] = []
    pool = None
    if waiting:
        with _cluster(options.address):
            # One copy of the artifact for each node, in its shared memory.
            arguments = (ray.put(artifact), model, str(folder), str(out))
            pool = WorkerPool(Worker, arguments, options.workers, options.attempts, _say)
            outcomes = list(_reported(pool.run(waiting), len(waiting)))
        remove_others(found, out)
    return _summary(model, list(kept.values()), outcomes, pool)


@contextlib.contextmanager
def _cluster(address: str | None) -> Iterator[None]:
    """A connection to a cluster, or a cluster of this machine."""
    try:
        _require_listener(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        _end_in_order()  # Ray's own handler took its place
    except (OSError, RuntimeError, ValueError) as error:
        raise ClusterError(
            f"no Ray cluster answers at {address or 'this machine'}: {error}; start one: ray start --head; "
            "where one asks for a token: RAY_AUTH_MODE=token"
        ) from error
    try:
        # Ray's threads print what they have to say; stdout is for the summary.
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        ray.shutdown()


def _require_listener(address: str | None) -> None:
    """Ray tries for minutes where nothing listens.

    Raises:
        OSError: Nothing does at this HOST:PORT.
        ValueError: The port is no number.
    """
    host, colon, port = (address or "").rpartition(":")
    if colon:
        socket.create_connection((host.removeprefix("ray://"), int(port)), CONNECT_SECONDS).close()


def _reported(outcomes: Iterator[Outcome], count: int) -> Iterator[Outcome]:
    begun = time.monotonic()
    for number, outcome in enumerate(outcomes, 1):
        _say(f"{number}/{count} {outcome.part.file} from {outcome.part.start:,}, {time.monotonic() - begun:.0f} s")
        yield outcome


def _summary(model: str, kept: list[PartScore], outcomes: list[Outcome], pool: WorkerPool | None) -> dict[str, Any]:
    """Sums over the folder, and what this run did."""
    scored = [outcome.score for outcome in outcomes if outcome.score is not None]
    everything = [*kept, *scored]
    tokens = sum(score.tokens for score in everything)
    log_prob = math.fsum(score.log_prob for score in everything)
    seconds = pool.seconds if pool else 0.0
    failed = {outcome.part.file: outcome.error for outcome in reversed(outcomes) if outcome.error is not None}
    return {
        "model": model,
        "lines": sum(score.lines for score in everything),
        "tokens": tokens,
        "unknown": sum(score.unknown for score in everything),
        "log_prob": log_prob,
        "perplexity": perplexity(log_prob, tokens),
        "parts": {"scored": len(scored), "kept": len(kept), "retried": pool.retried if pool else 0},
        "seconds": seconds,
        "tokens_per_second": sum(score.tokens for score in scored) / seconds if seconds else None,
        "workers": pool.workers() if pool else [],
        "failed": [{"file": file, "error": error} for file, error in sorted(failed.items())],
    }


def _shown(summary: dict[str, Any]) -> str:
    done = summary["parts"]
    rows = [
        f"{summary['lines']:,} lines, {summary['tokens']:,} tokens, {summary['unknown']:,} of them unknown",
        f"perplexity {summary['perplexity']:.2f}",
        f"parts: {done['scored']} scored, {done['kept']} kept from before, {done['retried']} tried again",
    ]
    if summary["tokens_per_second"]:
        rows.append(f"{summary['tokens_per_second']:,.0f} tokens/s over {summary['seconds']:.1f} s")
    for worker in summary["workers"]:
        rows.append(f"  {worker['host']} {worker['node'][:8]} {worker['pid']}: {worker['tokens']:,} tokens")
    return "".join(f"{row}\n" for row in rows)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _failed(message: str, code: int) -> int:
    _say(f"error: {message}")
    return code


if __name__ == "__main__":
    sys.exit(main())
