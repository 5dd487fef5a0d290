"""Parts that measure: trainings, benchmarks with the sizes from which the device is faster, a pool, CUDA graphs."""

import json
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np
import onnx
from lmtool.runtime.artifact.artifact import LOGITS, LOGITS_TO_KEEP, NEXT, TOKEN_IDS
from lmtool.runtime.errors import PoolError
from lmtool.runtime.pool.options import PoolOptions
from lmtool.runtime.pool.stream_pool import StreamPool
from lmtool.runtime.predictor import Predictor
from lmtool.runtime.session.providers import PROVIDERS
from lmtool.runtime.session.session import SessionOptions, start_session

from gpu.part import FAILED, Facts, Findings, Setup

_STREAMS = (1, 16, 256, 4096)
_PREFILLED = (16, 64, 512)
_SCORED = 128
_POOLED = 64


def training(setup: Setup, findings: Findings) -> None:
    """One epoch in fp32."""
    findings.add(_train(setup, "fp32", "run"))


def faster_trainings(setup: Setup, findings: Findings) -> None:
    """One epoch in TF32, which only CUDA knows, and one in bf16."""
    for precision in ("tf32", "bf16") if setup.device == "cuda" else ("bf16",):
        findings.attempt(precision, lambda precision=precision: _train(setup, precision, precision))


@final
class _Speeds:
    """A reporter that keeps the speeds of the records of a training."""

    def __init__(self) -> None:
        self.speeds: list[float] = []

    def note(self, line: str) -> None:
        """Show a note."""
        print(line)

    def step(self, done: int, total: int, epoch: int, loss: float, perplexity: float, tokens_per_second: float) -> None:
        """Ignore a step."""

    def record(self, record: Mapping[str, Any]) -> None:
        """Keep the speed."""
        if record["kind"] == "train":
            self.speeds.append(record["tokens_per_second"])


def _train(setup: Setup, precision: str, name: str) -> Facts:
    from lmtool.model import TrainOptions, run_training  # import torch

    settings, reporter = {**setup.settings, "precision": precision}, _Speeds()
    run, device, threads = setup.work / name, setup.device, setup.threads
    options = TrainOptions("ptb-200", setup.data, run, settings=settings, device=device, threads=threads)
    result = run_training(options, reporter)
    recorded = json.loads((result.run / "config.json").read_text())["environment"]
    return {
        "tokens/s, median of the records": round(statistics.median(reporter.speeds)),
        "seconds of steps": round(result.seconds, 1),
        "test perplexity": round(result.test_perplexity, 2),
        "that of word frequencies": round(result.unigram_perplexity, 2),
        "recurrent layers": recorded["recurrent_layers"],
        "TF32": recorded["tf32"],
    }


def streams(setup: Setup, findings: Findings) -> None:
    """One token a call for each of 1 to 4,096 streams, on the processor and the device."""
    findings.add(_compare(setup, _streams(setup), "streams", "bench.streams.json"))


def prefill(setup: Setup, findings: Findings) -> None:
    """Prompts of several lengths, on the processor and the device; and the scoring of a text."""
    from lmtool.bench import Scenario

    scenarios = [Scenario("prefill", 1, time) for time in ((4,) if setup.small else _PREFILLED)]
    scenarios.append(Scenario("offline", 1, 8 if setup.small else _SCORED))
    findings.add(_compare(setup, scenarios, "prefill", "bench.prefill.json"))


def half(setup: Setup, findings: Findings) -> None:
    """The streams in fp16, on the device."""
    findings.add(_measure(setup, "fp16", [setup.device], _streams(setup), "bench.fp16.json")[1])


def _streams(setup: Setup) -> list[Any]:
    from lmtool.bench.scenario import streams

    return [streams(size) for size in (_STREAMS[:1] if setup.small else _STREAMS)]


def _compare(setup: Setup, scenarios: Sequence[Any], what: str, name: str) -> Facts:
    """The table of both devices, and the number of tokens in a call from which the second is faster."""
    results, facts = _measure(setup, "fp32", list(dict.fromkeys(["cpu", setup.device])), scenarios, name)
    processor, device = (_seconds(results.timings, name) for name in ("onnx fp32", "onnx fp32 on cuda"))
    if device:
        found = crossover(processor, device)
        facts[f"{what} from which onnx fp32 is faster on cuda"] = found or f"none of {', '.join(map(str, device))}"
    return facts


def _seconds(timings: Iterable[Any], runtime: str) -> dict[int, float]:
    """Tokens of a call -> median seconds, without the scoring of a text."""
    chosen = (timing for timing in timings if timing.runtime == runtime and timing.scenario.kind != "offline")
    return {timing.scenario.tokens: timing.median_seconds for timing in chosen}


def _measure(
    setup: Setup, precision: str, providers: Sequence[str], scenarios: Sequence[Any], name: str
) -> tuple[Any, Facts]:
    """The results of a benchmark, which are written too, and its table."""
    from lmtool.bench import BenchOptions, format_table, run_bench  # needs what the HTML report needs
    from lmtool.bench.rounds import Schedule

    schedule = Schedule(1, 0.02) if setup.small else Schedule(2, 0.4)
    options = BenchOptions(setup.artifacts()[precision], providers, None, scenarios, setup.threads, schedule)
    results = run_bench(options, lambda line: print(line, flush=True))
    results.write(setup.out / name)
    facts: Facts = {"table": format_table(results)}
    if not results.is_sound:
        facts[FAILED] = "; ".join([*results.failed, *results.crashed])
    return results, facts


def crossover(processor: Mapping[int, float], device: Mapping[int, float]) -> int | None:
    """The size from which the device is faster, there and at all larger ones; None if it is slower at the largest.

    Both map a size to seconds.
    """
    found = None
    for size in sorted(processor.keys() & device.keys(), reverse=True):
        if device[size] >= processor[size]:
            break
        found = size
    return found


def pool(setup: Setup, findings: Findings) -> None:
    """Whether a pool accepts the artifact, and the speed of one that allows small differences."""
    path, calls = setup.artifacts()["fp32"], 5 if setup.small else 200
    findings.attempt("opened without allow_inexact", lambda: _refusal(setup.load(path)) or "yes")
    for device, load in {"cpu": partial(Predictor.load, threads=setup.threads), setup.device: setup.load}.items():
        findings.attempt(f"{_POOLED} streams on {device}", lambda load=load: _pool_speed(load(path), calls))


def _refusal(predictor: Predictor) -> str | None:
    try:
        StreamPool(predictor, PoolOptions(max_streams=1)).close()
    except PoolError as error:
        return str(error)
    return None


def _pool_speed(predictor: Predictor, calls: int) -> str:
    options = PoolOptions(max_streams=_POOLED, max_batch=_POOLED, allow_inexact=True)
    with StreamPool(predictor, options) as opened:
        ids = [opened.open_stream() for _ in range(_POOLED)]
        return f"{_POOLED / _median_seconds(lambda: _step_all(opened, ids), calls):,.0f} tokens/s"


def _step_all(opened: StreamPool, ids: Sequence[int]) -> None:
    for request in [opened.submit(stream, [1]) for stream in ids]:
        request.result()


def _median_seconds(work: Callable[[], object], count: int) -> float:
    """Of `count` calls, after a fifth as many that are not timed."""
    seconds = []
    for _ in range(count + count // 5 + 1):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds[-count:])


def graphs(setup: Setup, findings: Findings) -> None:
    """Microseconds of a call of one token with bound memory, without and with a CUDA graph; the logits have to agree.

    A CUDA graph waits for nothing on the processor, so the artifact without `logits_to_keep` is measured.
    """
    for batch in (1, 64):
        findings.attempt(f"batch {batch}", lambda batch=batch: _with_and_without_graph(setup, batch))


def _with_and_without_graph(setup: Setup, batch: int) -> Facts:
    plain, expected = _bound_call(setup, batch)
    facts: Facts = {"bound, us": round(1e6 * plain)}
    if setup.device == "cuda":
        captured, logits = _bound_call(setup, batch, enable_cuda_graph="1")
        facts |= {"CUDA graph, us": round(1e6 * captured), "logits differ by": float(abs(logits - expected).max())}
    return facts


def _with_all_logits(path: Path) -> bytes:
    """The artifact without its optional input: the first position that is kept is a constant."""
    model = onnx.load(path)
    graph = model.graph
    (negation,) = [node for node in graph.node if LOGITS_TO_KEEP in node.input]
    graph.node.remove(negation)
    for values in (graph.input, graph.initializer):
        values.remove(next(value for value in values if value.name == LOGITS_TO_KEEP))
    graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(1, np.int64), negation.output[0]))
    return bytes(model.SerializeToString())


def _bound_call(setup: Setup, batch: int, **options: str) -> tuple[float, np.ndarray]:
    """Median seconds of a call that begins with zero states, and its logits."""
    from onnxruntime import OrtValue

    path, device = setup.artifacts()["fp32"], setup.device
    predictor = Predictor.load(path)
    session = start_session(_with_all_logits(path), PROVIDERS[device], SessionOptions(provider_options=options))
    tokens, states = np.ones((batch, 1), np.int64), predictor.artifact.architecture.states
    zeros = dict(zip(states, predictor.initial_state(batch).tensors, strict=True))
    empty = {LOGITS: np.empty((batch, 1, len(predictor.vocabulary)), np.float32)}
    empty |= {f"{NEXT}{name}": np.empty_like(tensor) for name, tensor in zeros.items()}
    inputs, outputs = (
        {name: OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), device, 0) for name, array in arrays.items()}
        for arrays in ({TOKEN_IDS: tokens, **zeros}, empty)
    )
    binding = session.io_binding()
    for name, value in inputs.items():
        binding.bind_ortvalue_input(name, value)
    for name, value in outputs.items():
        binding.bind_ortvalue_output(name, value)

    def call() -> np.ndarray:
        inputs[TOKEN_IDS].update_inplace(tokens)
        session.run_with_iobinding(binding)
        return outputs[LOGITS].numpy()

    return _median_seconds(call, 5 if setup.small else 500), call()
