"""A benchmark with all that belongs to it: measure, compare with earlier results, save."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from ..runtime.artifact.choice import choose_artifact
from ..runtime.errors import StorageError
from ..runtime.io.files import make_folder
from .benchmark import BenchOptions, identify, run_bench
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
    """Results, their comparison with earlier ones, and the saved files by kind."""

    results: Results
    comparison: Comparison | None
    files: Mapping[str, Path]

    @property
    def passed(self) -> bool:
        """Whether every candidate passed its verification, none crashed, and none is slower than allowed."""
        return self.results.is_sound and not (self.comparison and self.comparison.failures)

    def format(self, width: int | None = None) -> str:
        """The run as text, in `width` columns; None: no limit."""
        parts = [format_table(self.results, width)]
        if self.results.mlperf is not None:
            parts.append(format_mlperf(self.results.mlperf, width))
        if self.comparison is not None:
            parts.append(self.comparison.format(width))
        files = [f"{kind}: {path}" for kind, path in self.files.items()]
        return "\n\n".join(filter(None, [*parts, "\n".join(files)]))

    def to_json(self) -> dict[str, Any]:
        """The run, ready for JSON."""
        compared = {} if self.comparison is None else {"comparison": self.comparison.to_json()}
        return self.results.to_json() | compared


def run_benchmark(
    options: BenchOptions, folder: Path | None, gate: RegressionGate | None, progress: Progress
) -> BenchmarkRun:
    """Measure, compare, save.

    The gate and the folder are checked before anything is measured. Results that fail the gate do not overwrite the
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
        return BenchmarkRun(results, comparison, save_results(results, target, comparison, name))
    except StorageError:
        progress(unsaved.format().rstrip())  # print what took minutes to measure
        for name, summary in ({} if results.mlperf is None else results.mlperf.summaries).items():
            progress(f"LoadGen's summary of {name}\n{summary}")
        raise


def _is_same(first: Path, second: Path) -> bool:
    return first.resolve() == second.resolve()
