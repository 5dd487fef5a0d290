"""A benchmark with all that belongs to it: measure, compare with earlier results, save."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from ..runtime.artifact.choice import choose_artifact
from ..runtime.errors import OptionError, StorageError
from ..runtime.io.files import make_folder
from .benchmark import BenchOptions, identify, run_bench
from .history.history import History, HistoryReport
from .mlperf.runs import LOGS
from .regression.comparison import Comparison
from .regression.gate import RegressionGate
from .report.mlperf import format_mlperf
from .report.save import FAILED_NAME, NAME, save_results
from .report.text import format_table
from .results import Results
from .verification import Progress


@final
@dataclass(frozen=True)
class BenchmarkRun:
    """Results, their comparison with earlier ones, the saved files by kind, and the history they belong to."""

    results: Results
    comparison: Comparison | None
    files: Mapping[str, Path]
    history: HistoryReport | None = None

    @property
    def passed(self) -> bool:
        """Whether every candidate passed its verification, none crashed, and none is slower than allowed."""
        gates = (self.comparison, self.history)
        return self.results.is_sound and not any(gate.failures for gate in gates if gate is not None)

    def format(self, width: int | None = None) -> str:
        """The run as text, in `width` columns; None: no limit."""
        parts = [format_table(self.results, width)]
        if self.results.mlperf is not None:
            parts.append(format_mlperf(self.results.mlperf, width))
        if self.comparison is not None:
            parts.append(self.comparison.format(width))
        if self.history is not None:
            parts.append(self.history.format())
        files = [f"{kind}: {path}" for kind, path in self.files.items()]
        if self.history is not None:
            files.append(f"history: {self.history.page}")
        return "\n\n".join(filter(None, [*parts, "\n".join(files)]))

    def to_json(self) -> dict[str, Any]:
        """The run, ready for JSON."""
        compared = {} if self.comparison is None else {"comparison": self.comparison.to_json()}
        history = {} if self.history is None else {"history": self.history.to_json()}
        return self.results.to_json() | compared | history


def run_benchmark(
    options: BenchOptions,
    folder: Path | None,
    gate: RegressionGate | None,
    progress: Progress,
    history: History | None = None,
) -> BenchmarkRun:
    """Measure, compare, save, and add the results to a history.

    The gate and the folders are checked before anything is measured. Results that fail the gate do not overwrite the
    results that they are compared with: they are saved as `bench.failed.json` and so on. The folder defaults to the
    artifact's.

    Raises:
        LmtoolError: As for `run_bench`; or the earlier results cannot be read or are not comparable, or the folder
            cannot be made.
    """
    model = options.model
    if model is None:
        model, reason = choose_artifact()
        options = replace(options, model=model)
        progress(f"model: {model} ({reason})")
    if folder is not None:
        make_folder(folder)
    if (history is not None or gate is not None) and not options.scenarios:
        raise OptionError(
            "--history, --before and --compare take the times of scenarios, and none is timed; name one with --scenario"
        )
    if history is not None:
        history.prepare()
    if gate is not None:
        gate.require_same(identify(options))
        options = replace(options, schedule=gate.schedule(options.schedule))
    target = folder or model.parent
    undecided = None if gate is None or gate.allowed is None else gate.undecided
    results = run_bench(options, progress, target / LOGS, undecided)
    comparison = None if gate is None else gate.compare(results)
    unsaved = BenchmarkRun(results, comparison, {})
    overwrites = gate is not None and gate.path is not None and _is_same(target / f"{NAME}.json", gate.path)
    name = FAILED_NAME if overwrites and not unsaved.passed else NAME
    try:
        try:
            report = None if history is None else history.append(results)
        finally:  # neither keeps the other from being saved
            files = save_results(results, target, comparison, name)
        return BenchmarkRun(results, comparison, files, report)
    except StorageError:
        progress(unsaved.format().rstrip())  # print what took minutes to measure
        for name, summary in ({} if results.mlperf is None else results.mlperf.summaries).items():
            progress(f"LoadGen's summary of {name}\n{summary}")
        raise


def _is_same(first: Path, second: Path) -> bool:
    return first.resolve() == second.resolve()
