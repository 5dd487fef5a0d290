"""Compare lmtool with other ways to get a small language model: KenLM, PyTorch, a small transformer through Optimum.

    python bench/studies/alternatives.py --run RUN --kenlm FOLDER --work FOLDER [--epochs N] [--rounds N]

RUN is a finished run with its fp32 and int8 exports, trained with `--set tokenization=words`. KenLM's FOLDER holds
`lmplz` and `build_binary`. The environment needs lmtool[train,cpu], kenlm, transformers and optimum-onnx.

All models read the same tokens over the same vocabulary: KenLM a 5-gram with modified Kneser-Ney smoothing; the
transformer (GPT-2's architecture, tied embeddings) trains for N epochs, is exported by Optimum with its
key-value cache, and is scored in windows of its whole context that advance by half of it. What is timed is one stream
on one thread: read a token, get the five most probable next ones. Every measurement is a process that loads one
runtime; processes take turns, and the table shows the median of their medians and the range.
"""

import argparse
import importlib.metadata
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common.kenlm_model import build_kenlm, kenlm_lines, kenlm_words
from common.program import run_program
from lmtool.bench.environment import describe_environment
from lmtool.model import Run
from lmtool.runtime import Predictor
from lmtool.runtime.io.text_table import text_table
from packaging.requirements import Requirement

ORDER = 5
CONTEXT = 128
TIMED_TOKENS = 400
SUGGESTIONS = 5
INSTALLED = {
    "lmtool int8": ["numpy", "onnxruntime"],
    "lmtool fp32": ["numpy", "onnxruntime"],
    "PyTorch": ["torch", "numpy"],
    "KenLM 5-gram": ["kenlm"],
    "transformer, PyTorch": ["torch", "numpy", "transformers"],
    "transformer, Optimum": ["torch", "numpy", "transformers", "optimum-onnx", "onnxruntime", "onnx"],
}
"""Distributions that an application of each installs."""

Step = Callable[[int], object]


def _lmtool_step(path: Path) -> Step:
    predictor = Predictor.load(path)
    stream = predictor.stream()

    def step(token: int) -> object:
        stream.feed_ids([token])
        return stream.suggest(SUGGESTIONS)

    return step


def _pytorch_step(run: Run) -> Step:
    import torch

    torch.set_num_threads(1)
    network, _ = run.trained()
    network.eval()
    state = network.initial_state(1)

    @torch.inference_mode()
    def step(token: int) -> object:
        nonlocal state
        logits, state = network(torch.tensor([[token]]), state)
        return torch.topk(torch.softmax(logits[0, -1], 0), SUGGESTIONS)

    return step


def _kenlm_step(model: Path, words: list[str]) -> Step:
    import kenlm

    language_model = kenlm.Model(str(model))
    state, following = kenlm.State(), kenlm.State()
    language_model.BeginSentenceWrite(state)

    def step(token: int) -> object:
        """KenLM scores one word at a time, so the five best need a score of every word."""
        nonlocal state
        after = kenlm.State()
        language_model.BaseScore(state, words[token], after)
        state = after
        scores = np.array([language_model.BaseScore(state, word, following) for word in words])
        return np.argpartition(scores, -SUGGESTIONS)[-SUGGESTIONS:]

    return step


def _transformer_step(folder: Path) -> Step:
    import torch
    from transformers import GPT2LMHeadModel

    torch.set_num_threads(1)
    model = GPT2LMHeadModel.from_pretrained(folder).eval()
    cache, length = None, 0

    @torch.inference_mode()
    def step(token: int) -> object:
        nonlocal cache, length
        if length == CONTEXT:
            cache, length = None, 0  # the context is full: it begins anew
        output = model(torch.tensor([[token]]), past_key_values=cache, use_cache=True)
        cache, length = output.past_key_values, length + 1
        return torch.topk(torch.softmax(output.logits[0, -1], 0), SUGGESTIONS)

    return step


def _optimum_step(folder: Path) -> Step:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs() if entry.name.startswith("past_key_values")]
    shapes = {entry.name: entry.shape for entry in session.get_inputs()}
    empty = {name: np.zeros((1, shapes[name][1], 0, shapes[name][3]), np.float32) for name in names}
    outputs = ["logits", *(name.replace("past_key_values", "present") for name in names)]
    past, length = empty, 0

    def step(token: int) -> object:
        nonlocal past, length
        if length == CONTEXT:
            past, length = empty, 0
        inputs = {"input_ids": np.array([[token]]), "attention_mask": np.ones((1, length + 1), np.int64), **past}
        if "position_ids" in shapes:
            inputs["position_ids"] = np.array([[length]])
        logits, *present = session.run(outputs, inputs)
        past, length = dict(zip(names, present, strict=True)), length + 1
        return np.argpartition(logits[0, -1], -SUGGESTIONS)[-SUGGESTIONS:]

    return step


def _steps(run: Run, work: Path) -> dict[str, Callable[[], Step]]:
    words = kenlm_words(run.vocabulary())
    return {
        "lmtool int8": lambda: _lmtool_step(run.artifact("int8")),
        "lmtool fp32": lambda: _lmtool_step(run.artifact("fp32")),
        "PyTorch": lambda: _pytorch_step(run),
        "KenLM 5-gram": lambda: _kenlm_step(work / "kenlm.binary", words),
        "transformer, PyTorch": lambda: _transformer_step(work / "transformer"),
        "transformer, Optimum": lambda: _optimum_step(work / "optimum"),
    }


def _kenlm_perplexity(run: Run, work: Path) -> float:
    import kenlm

    model = kenlm.Model(str(work / "kenlm.binary"))
    scores = [score for line in kenlm_lines(run, "test") for score, _, _ in model.full_scores(line)]
    return float(10 ** (-sum(scores) / len(scores)))


def _train_transformer(run: Run, work: Path, epochs: int) -> None:
    """AdamW with a linear warm-up and a cosine, batches of 16 x 128 tokens that begin anywhere."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(1)
    torch.set_num_threads(2)
    size = len(run.vocabulary())
    model = GPT2LMHeadModel(
        GPT2Config(size, n_positions=CONTEXT, n_embd=192, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0)
    )
    ids = torch.from_numpy(np.asarray(run.corpus().split("train"), np.int64))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    random = np.random.default_rng(1)
    count = epochs * len(ids) // (16 * CONTEXT)
    for index in range(count):
        done = index / count
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(done / 0.05 + 1e-3, 1.0) * 0.5 * (1 + math.cos(math.pi * done))
        starts = random.integers(0, len(ids) - CONTEXT, 16)
        batch = torch.stack([ids[start : start + CONTEXT] for start in starts])
        optimizer.zero_grad()
        model(batch, labels=batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.save_pretrained(work / "transformer")


def _export_by_optimum(work: Path) -> None:
    from optimum.exporters.onnx import main_export

    main_export(str(work / "transformer"), work / "optimum", task="text-generation-with-past", do_validation=False)


def _transformer_perplexity(run: Run, work: Path) -> float:
    import torch
    from transformers import GPT2LMHeadModel

    model = GPT2LMHeadModel.from_pretrained(work / "transformer").eval()
    ids = torch.from_numpy(np.asarray(run.corpus().split("test"), np.int64))
    loss, scored = 0.0, 1
    with torch.inference_mode():
        for start in range(0, len(ids) - 1, CONTEXT // 2):
            window = ids[start : start + CONTEXT]
            new = min(start + CONTEXT, len(ids)) - scored
            logits = model(window[None]).logits[0, :-1]
            loss += float(torch.nn.functional.cross_entropy(logits[-new:], window[-new:], reduction="sum"))
            scored += new
            if scored == len(ids):
                break
    return math.exp(loss / (scored - 1))


def _time_steps(step: Step, ids: list[int]) -> list[float]:
    for token in ids[: TIMED_TOKENS // 4]:
        step(token)
    seconds = []
    for token in ids[:TIMED_TOKENS]:
        began = time.perf_counter()
        step(token)
        seconds.append(time.perf_counter() - began)
    return seconds


def _measure(name: str, run: Run, work: Path) -> float:
    """Median seconds of a step, in a process that loads nothing else."""
    command = [sys.executable, __file__, "--run", run.path, "--work", work, "--measure", name]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    finished = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return float(json.loads(finished.stdout.splitlines()[-1]))


def _installed_bytes(names: list[str]) -> int:
    """Size of distributions and of all that they require, as they are installed here."""
    waiting, files = list(names), {}
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in files:
            continue
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        paths = [Path(str(distribution.locate_file(path))) for path in distribution.files or []]
        files[name] = sum(path.stat().st_size for path in paths if path.is_file())
        for text in distribution.requires or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return sum(files.values())


def _file_bytes(run: Run, work: Path) -> dict[str, int]:
    return {
        "lmtool int8": run.artifact("int8").stat().st_size,
        "lmtool fp32": run.artifact("fp32").stat().st_size,
        "PyTorch": run.artifact("fp32").stat().st_size,
        "KenLM 5-gram": (work / "kenlm.binary").stat().st_size,
        "transformer, PyTorch": (work / "transformer" / "model.safetensors").stat().st_size,
        "transformer, Optimum": (work / "optimum" / "model.onnx").stat().st_size,
    }


def _perplexities(run: Run, work: Path) -> dict[str, float]:
    ids = run.corpus().split("test")
    fp32, int8 = (Predictor.load(run.artifact(precision)).perplexity(ids) for precision in ("fp32", "int8"))
    transformer = _transformer_perplexity(run, work)
    return {
        "lmtool int8": int8,
        "lmtool fp32": fp32,
        "PyTorch": fp32,
        "KenLM 5-gram": _kenlm_perplexity(run, work),
        "transformer, PyTorch": transformer,
        "transformer, Optimum": transformer,
    }


def _compare(run: Run, work: Path, rounds: int) -> str:
    timings: dict[str, list[float]] = {name: [] for name in INSTALLED}
    for _ in range(rounds):
        for name, seconds in timings.items():
            seconds.append(_measure(name, run, work))
    sizes, quality = _file_bytes(run, work), _perplexities(run, work)
    rows = [("", "perplexity", "file MB", "installed MB", "us per suggestion", "over int8")]
    for name, seconds in timings.items():
        ratios = [own / int8 for own, int8 in zip(seconds, timings["lmtool int8"], strict=True)]
        rows.append(
            (
                name,
                f"{quality[name]:.1f}",
                f"{sizes[name] / 1e6:.1f}",
                f"{_installed_bytes(INSTALLED[name]) / 1e6:,.0f}",
                f"{1e6 * statistics.median(seconds):,.0f} ({1e6 * min(seconds):,.0f} to {1e6 * max(seconds):,.0f})",
                f"{statistics.median(ratios):.1f}",
            )
        )
    return "\n".join([f"{describe_environment()['processor']}", *text_table(rows, "<>")])


def main() -> int:
    """Build missing models, measure in rounds, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", type=Path, required=True, help="finished run with fp32 and int8 exports")
    parser.add_argument("--work", type=Path, required=True, help="folder for the other models")
    parser.add_argument("--kenlm", type=Path, help="folder of lmplz and build_binary")
    parser.add_argument("--epochs", type=int, default=2, help="epochs of the transformer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", choices=INSTALLED, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    run = Run(chosen.run)
    if chosen.measure is not None:
        ids = [int(token) for token in run.corpus().split("test")[:TIMED_TOKENS]]
        print(statistics.median(_time_steps(_steps(run, chosen.work)[chosen.measure](), ids)))
        return 0
    chosen.work.mkdir(parents=True, exist_ok=True)
    if not (chosen.work / "kenlm.binary").exists():
        if chosen.kenlm is None:
            parser.error("the 5-gram is not built yet: --kenlm names the folder of lmplz and build_binary")
        build_kenlm(run, chosen.kenlm, chosen.work, "kenlm", ORDER)
    if not (chosen.work / "transformer").exists():
        _train_transformer(run, chosen.work, chosen.epochs)
        _export_by_optimum(chosen.work)
    print(_compare(run, chosen.work, chosen.rounds))
    return 0


if __name__ == "__main__":
    run_program(main)
