"""Score every line of a folder of text on a Ray cluster, with one predictor in each worker.

    python score.py FOLDER --model model.onnx --out SCORES                   # the cores of this machine
    python score.py FOLDER --model model.onnx --out SCORES --address auto    # the cluster that this machine belongs to

Start a run that was stopped again, and it continues. See README.md.
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

import parts
import ray
from lmtool.runtime import Artifact, LmtoolError, OptionError, Predictor
from lmtool.runtime.io.files import json_text, make_folder, read_bytes
from lmtool.runtime.score import format_perplexity
from lmtool.runtime.text.text_size import perplexity
from parts import Part, PartScore, find_parts, kept_score, remove_others, score_part
from pool import ClusterError, Outcome, WorkerPool

CONNECT_SECONDS = 5.0

# Ray sends this module to the workers by value: other machines do not have it.
ray.cloudpickle.register_pickle_by_value(parts)


@final
class Worker:
    """One predictor in a process; an actor of the cluster."""

    def __init__(self, artifact: bytes, model: str, folder: str, out: str) -> None:
        """Load the artifact, whose hash must be `model`."""
        self._model = model
        self._predictor = Predictor.load(artifact, sha256=model)
        self._folder, self._out = Path(folder), Path(out)

    def place(self) -> dict[str, Any]:
        """Where the worker runs; answered once the model is loaded."""
        node = ray.get_runtime_context().get_node_id()
        batched = self._predictor.batches_are_exact
        return {"node": node, "host": socket.gethostname(), "pid": os.getpid(), "batched": batched}

    def score(self, part: Part) -> PartScore | str:
        """Score a part and write its result file; an error is returned as its message."""
        try:
            return score_part(self._predictor, part, self._folder, self._out, self._model)
        except LmtoolError as error:
            return str(error)


def main() -> int:
    """Run the command line; returns the exit code."""
    options = _options()
    _handle_sigterm()
    try:
        summary = run(options)
    except KeyboardInterrupt:
        return _print_error("interrupted; start it again to go on", 130)
    except LmtoolError as error:
        return _print_error(str(error), error.exit_code)
    for failure in summary["failed"]:
        _print_error(failure["error"], 1)
    sys.stdout.write(f"{json_text(summary, indent=1)}\n" if options.json else _summary_text(summary))
    return 1 if summary["failed"] else 0


def _handle_sigterm() -> None:
    """On SIGTERM and SIGHUP, unless they are ignored, end the workers and exit with 143 or 129."""
    for ending in (signal.SIGTERM, getattr(signal, "SIGHUP", None)):  # Windows has no SIGHUP
        if ending is not None and signal.getsignal(ending) is signal.SIG_DFL:
            signal.signal(ending, lambda number, _: sys.exit(128 + number))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Score every line of a folder of text over a Ray cluster.")
    parser.add_argument("folder", type=Path, help="folder of text files; every machine of the cluster must see it")
    parser.add_argument("--model", type=Path, required=True, help="lmtool artifact, needed on this machine only")
    parser.add_argument("--out", type=Path, required=True, help="folder for the scores; every machine must see it")
    parser.add_argument("--workers", type=_positive, help="workers, one core each (default: all cores of the cluster)")
    parser.add_argument("--address", help="auto, or a cluster's HOST:PORT (default: start a local cluster)")
    parser.add_argument("--pattern", default="*", help="names of the files to score, such as *.txt")
    parser.add_argument("--part-bytes", type=_positive, default=1 << 24, help="size of a part, which one worker scores")
    parser.add_argument("--attempts", type=_positive, default=3, help="how many workers may die with a part")
    parser.add_argument("--json", action="store_true", help="print the summary as one JSON object")
    return parser.parse_args()


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Score the parts that have no score yet, and sum up all.

    Raises:
        LmtoolError: The folder, the artifact, the results folder or the cluster cannot be used.
    """
    folder, out = options.folder.resolve(), options.out.resolve()
    if out.is_relative_to(folder):
        raise OptionError(f"--out {out} lies in the folder that is scored; choose one beside it")
    all_parts = find_parts(folder, options.pattern, options.part_bytes)
    artifact = read_bytes(options.model)
    model = Artifact.parse(artifact, str(options.model)).sha256
    make_folder(out)
    remove_others(all_parts, out)
    kept = {part: score for part in all_parts if (score := kept_score(part, out, model)) is not None}
    missing = [part for part in all_parts if part not in kept]
    _print_progress(f"{len(all_parts)} parts, {len(kept)} of them scored before")
    outcomes: list[Outcome] = []
    pool = None
    if missing:
        with _cluster(options.address):
            # Ray keeps one copy of the artifact on each node, in shared memory.
            arguments = (ray.put(artifact), model, str(folder), str(out))
            pool = WorkerPool(Worker, arguments, options.workers, options.attempts, _print_progress)
            outcomes = list(_with_progress(pool.run(missing), len(missing)))
        remove_others(all_parts, out)
    return _summary(model, list(kept.values()), outcomes, pool)


@contextlib.contextmanager
def _cluster(address: str | None) -> Iterator[None]:
    """Connect to a cluster, or start a local one."""
    try:
        _require_listener(address)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray's own reports, from a local cluster
        handler = signal.getsignal(signal.SIGTERM)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        signal.signal(signal.SIGTERM, handler)  # Ray replaces it
    except (OSError, RuntimeError, ValueError) as error:
        raise ClusterError(
            f"no Ray cluster answers at {address or 'this machine'}: {error}; start one: ray start --head; "
            "where one asks for a token: RAY_AUTH_MODE=token"
        ) from error
    try:
        # Ray's threads print to stdout, which is for the summary.
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        ray.shutdown()


def _require_listener(address: str | None) -> None:
    """Fail at once if nothing listens at HOST:PORT; Ray would retry for minutes.

    Raises:
        OSError: Nothing listens.
        ValueError: The port is not a number.
    """
    host, colon, port = (address or "").rpartition(":")
    if colon:
        socket.create_connection((host.removeprefix("ray://"), int(port)), CONNECT_SECONDS).close()


def _with_progress(outcomes: Iterator[Outcome], count: int) -> Iterator[Outcome]:
    started_at = time.monotonic()
    for number, outcome in enumerate(outcomes, 1):
        seconds = time.monotonic() - started_at
        _print_progress(f"{number}/{count} {outcome.part.file} from {outcome.part.start:,}, {seconds:.0f} s")
        yield outcome


def _summary(model: str, kept: list[PartScore], outcomes: list[Outcome], pool: WorkerPool | None) -> dict[str, Any]:
    """Sums over the folder, and what this run did."""
    scored = [outcome.score for outcome in outcomes if outcome.score is not None]
    scores = [*kept, *scored]
    tokens = sum(score.tokens for score in scores)
    log_prob = math.fsum(score.log_prob for score in scores)
    seconds = pool.seconds if pool else 0.0
    failed = {outcome.part.file: outcome.error for outcome in reversed(outcomes) if outcome.error is not None}
    return {
        "model": model,
        "lines": sum(score.lines for score in scores),
        "tokens": tokens,
        "unknown": sum(score.unknown for score in scores),
        "log_prob": log_prob,
        "perplexity": perplexity(log_prob, tokens),
        "parts": {"scored": len(scored), "kept": len(kept), "retried": pool.retried if pool else 0},
        "seconds": seconds,
        "tokens_per_second": sum(score.tokens for score in scored) / seconds if seconds else None,
        "workers": pool.workers() if pool else [],
        "failed": [{"file": file, "error": error} for file, error in sorted(failed.items())],
    }


def _summary_text(summary: dict[str, Any]) -> str:
    done = summary["parts"]
    rows = [
        f"{summary['lines']:,} lines, {summary['tokens']:,} tokens, {summary['unknown']:,} of them unknown",
        f"perplexity {format_perplexity(summary['perplexity'])}",
        f"parts: {done['scored']} scored, {done['kept']} kept from before, {done['retried']} tried again",
    ]
    if summary["tokens_per_second"]:
        rows.append(f"{summary['tokens_per_second']:,.0f} tokens/s over {summary['seconds']:.1f} s")
    for worker in summary["workers"]:
        rows.append(f"  {worker['host']} {worker['node'][:8]} {worker['pid']}: {worker['tokens']:,} tokens")
    return "".join(f"{row}\n" for row in rows)


def _print_progress(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _print_error(message: str, code: int) -> int:
    _print_progress(f"error: {message}")
    return code


if __name__ == "__main__":
    sys.exit(main())
