"""The demonstration: train, export, verify, measure and write text with nothing but this package."""

import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from ..export.exporter import Export, export_run
from ..model.run import Run
from ..model.training.reporters import Reporter
from ..model.training.train import TrainOptions, TrainResult, run_training
from ..runtime.artifact.run_folders import RUNS
from ..runtime.io.text_table import text_table
from ..runtime.predictor import Predictor
from ..runtime.score import format_perplexity
from .benchmark import BenchOptions, run_bench
from .candidates import USUAL_OTHERS
from .report.save import save_results
from .report.text import format_speedup
from .results import Results
from .scenario import scenarios_of

_RUN = RUNS / "demo"
_PROMPT = "Return the"
_SAMPLE_TOKENS = 40
_SHOWN_SENTENCES = 2
_STAGES = 4
_WIDTH = 160
_PRECISIONS = ("fp32", "int8")

_SCENARIOS = scenarios_of(("single-stream", "multi-stream", "offline"), batches=(64,), times=(128,), rates=())


@final
@dataclass(frozen=True)
class DemoStep:
    """A step that begins: of about `total` steps of its stage, `done` are done. Stages are numbered from 1."""

    stage: int
    stages: int
    title: str
    done: int
    total: int
    detail: str


@final
@dataclass(frozen=True)
class Demo:
    """Results of the demonstration."""

    training: TrainResult
    exports: dict[str, Export]
    results: Results
    prompt: str
    sample: str
    files: dict[str, Path]

    def summary(self) -> str:
        """The findings in at most ten lines; the report holds all figures."""
        training, fp32 = self.training, self.exports["fp32"].report
        facts = {
            "perplexity": f"{format_perplexity(training.test_perplexity, 1)} on the test text ({fp32.tokens:,} tokens)"
            f", {training.bits_per_byte:.3f} bits per byte; word frequencies alone: {training.unigram_perplexity:.1f}",
            "parity": f"largest difference from PyTorch {fp32.largest_difference:.1e} in {len(fp32.cases)} comparisons"
            f"; {fp32.loop_differences} of {fp32.loop_steps:,} closed-loop steps differ",
            "fp32": self._precision_line("fp32"),
            "int8": self._precision_line("int8"),
            "text": self._first_sentences(),
        }
        if warning := self._warning():
            facts["warning"] = warning
        facts |= {name: str(self.files[name].resolve()) for name in ("model", "report", "chart") if name in self.files}
        return "\n".join(text_table(list(facts.items())))

    def _precision_line(self, precision: str) -> str:
        """Size, perplexity and speed-ups of one artifact."""
        export, results = self.exports[precision], self.results
        facts = f"{export.size_bytes / 1e6:.1f} MB, perplexity {format_perplexity(export.report.artifact_perplexity)}"
        speedups = [
            f"{timing.scenario.kind} {format_speedup(results, timing)}"
            for timing in results.timings
            if timing.runtime == f"onnx {precision}"
        ]
        return f"{facts}; speed-up over {results.baseline}: {', '.join(speedups)}" if speedups else facts

    def _first_sentences(self) -> str:
        sentences = [line for line in f"{self.prompt}{self.sample}".splitlines() if line.strip()]
        return textwrap.shorten(" ".join(sentences[:_SHOWN_SENTENCES]), _WIDTH, placeholder=" ...")

    def _warning(self) -> str:
        results = self.results
        reasons = {**results.crashed, **{name: "; ".join(reasons) for name, reasons in results.failed.items()}}
        if reasons:
            text = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
            return textwrap.shorten(f"not timed: {text}", _WIDTH, placeholder=" ...")
        unstable = any(timing.is_unstable for timing in results.timings)
        return "the machine was busy, rounds differ by more than 10 %: compare the speed-ups" if unstable else ""

    def to_json(self) -> dict[str, Any]:
        """The results, ready for JSON."""
        return {
            "training": self.training.to_json(),
            "parity": {precision: export.report.to_json() for precision, export in self.exports.items()},
            "bench": self.results.to_json(),
            "prompt": self.prompt,
            "sample": self.sample,
            "files": {kind: str(path) for kind, path in self.files.items()},
        }


def run_demo(
    reporter: Reporter,
    progress: Callable[[DemoStep], None],
    training: TrainOptions | None = None,
    bench: BenchOptions | None = None,
) -> Demo:
    """Run the demonstration in `runs/demo` of the current folder; an existing training is continued, not repeated.

    Args:
        reporter: Receives the progress of the training.
        progress: Receives each step.
        training: What to train; None for the defaults. Its run folder and `resume` are replaced.
        bench: What to measure; None for the defaults. Its model is replaced.

    Raises:
        LmtoolError: A step failed; see the error's class.
    """
    run, bench = Run(_RUN), bench or BenchOptions(scenarios=_SCENARIOS)
    stages = _Stages(progress)

    stages.begin("training", 1)
    stages.step(str(run.path))
    resume = (run.path / "config.json").exists()
    trained = run_training(replace(training or TrainOptions(), run=run.path, resume=resume), reporter)

    stages.begin("exporting and verifying", len(_PRECISIONS))
    exports = {}
    for precision in _PRECISIONS:
        stages.step(precision)
        exports[precision] = export_run(run, precision)

    rounds, artifacts = bench.schedule.rounds, len(_PRECISIONS)
    others = USUAL_OTHERS if bench.against is None else bench.against
    stages.begin("measuring", artifacts + rounds * (artifacts + len(others)))
    results = run_bench(replace(bench, model=run.artifact("fp32"), against=others), stages.step)

    stages.begin("writing the report", 1)
    stages.step(str(run.path))
    files = {"model": run.artifact("fp32"), "int8 model": run.artifact("int8"), "curves": run.curves}
    files |= save_results(results, run.path)
    return Demo(trained, exports, results, _PROMPT, _write_sample(run.artifact("fp32")), files)


def _write_sample(artifact: Path) -> str:
    stream = Predictor.load(artifact).stream()
    stream.feed(_PROMPT)
    return "".join(stream.generate(_SAMPLE_TOKENS, temperature=0.7, seed=2))


@final
class _Stages:
    """Counts the stages and their steps."""

    def __init__(self, progress: Callable[[DemoStep], None]) -> None:
        self._progress = progress
        self._next = DemoStep(0, _STAGES, "", 0, 0, "")

    def begin(self, title: str, total: int) -> None:
        """Begin a stage of `total` steps."""
        self._next = replace(self._next, stage=self._next.stage + 1, title=title, done=0, total=total)

    def step(self, detail: str) -> None:
        """Begin a step."""
        self._progress(replace(self._next, detail=detail))
        self._next = replace(self._next, done=self._next.done + 1)
