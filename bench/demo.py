"""The demonstration: train, export, verify, measure and write text, from nothing but this package."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from ..export.exporter import Export, export_run
from ..model.run import RUNS, Run
from ..model.training.reporters import Reporter
from ..model.training.train import TrainOptions, TrainResult, run_training
from ..runtime.predictor import Predictor
from .benchmark import BenchOptions, run_bench
from .report.save import save_results
from .report.text import format_table
from .results import Results
from .scenario import scenarios_of

_RUN = RUNS / "demo"
_PROMPT = "return the"
_SAMPLE_TOKENS = 40
_SCENARIOS = scenarios_of(("single-stream", "multi-stream", "offline"), batches=(64,), times=(128,), rates=())


@final
@dataclass(frozen=True)
class Demo:
    """What the demonstration made and measured."""

    training: TrainResult
    exports: dict[str, Export]
    results: Results
    prompt: str
    sample: str
    files: dict[str, Path]

    def summary(self) -> str:
        """The findings in a few lines."""
        training, fp32 = self.training, self.exports["fp32"].report
        lines = [
            format_table(self.results),
            "",
            f"perplexity   {training.test_perplexity:.1f} on the test text; word frequencies alone: "
            f"{training.unigram_perplexity:.1f}",
            f"parity       largest difference {fp32.worst.absolute:.1e} in {len(fp32.cases)} comparisons, one of "
            f"{fp32.loop_steps:,} closed-loop steps, in which {fp32.loop_differences} greedy tokens differ",
        ]
        lines += [self._line(precision, export) for precision, export in self.exports.items()]
        lines += [f"text         {self.prompt}{self.sample}"]
        lines += [f"{kind:<12} {path.resolve()}" for kind, path in self.files.items()]
        return "\n".join(lines)

    def _line(self, precision: str, export: Export) -> str:
        """Size, perplexity and speed-ups of one artifact."""
        results, report = self.results, export.report
        speedups = [
            f"{speedup:.1f}x {scenario.kind}"
            for scenario in results.scenarios
            if (speedup := results.speedup(f"onnx {precision}", scenario)) is not None
        ]
        return (
            f"{precision:<12} {export.size_bytes / 1e6:.1f} MB, perplexity {report.artifact_perplexity:.2f} "
            f"({report.perplexity_change:+.2%}); speed-up over {results.baseline}: {', '.join(speedups)}"
        )

    def to_json(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
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
    progress: Callable[[str], None],
    training: TrainOptions | None = None,
    bench: BenchOptions | None = None,
) -> Demo:
    """Chain everything in `runs/demo` of the current folder; a training that is there is continued, not repeated.

    Args:
        reporter: Is told how the training goes.
        progress: Is told each step, one line a call.
        training: What to train; None for the defaults. Its run folder and `resume` are chosen here.
        bench: What to measure; None for the defaults. Its model is chosen here.

    Raises:
        LmtoolError: A step failed; see the error's class.
    """
    run = Run(_RUN)
    progress(f"training in {run.path} (a training that is there already is continued, not repeated)")
    resume = (run.path / "config.json").exists()
    trained = run_training(replace(training or TrainOptions(), run=run.path, resume=resume), reporter)
    exports = {}
    for precision in ("int8", "fp32"):  # fp32 last: the latest export is what other commands take
        progress(f"exporting and verifying {precision}")
        exports[precision] = export_run(run, precision)
    results = run_bench(replace(bench or BenchOptions(scenarios=_SCENARIOS), model=run.artifact("fp32")), progress)
    files = {"model": run.artifact("fp32"), "int8 model": run.artifact("int8"), "curves": run.curves}
    files |= save_results(results, run.path)
    predictor = Predictor.load(run.artifact("fp32"))
    stream = predictor.stream()
    stream.feed(_PROMPT)
    sample = "".join(stream.generate(_SAMPLE_TOKENS, temperature=0.7, seed=1))
    return Demo(trained, exports, results, _PROMPT, sample, files)
