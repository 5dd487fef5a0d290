"""A benchmark from its options to its files: measured, put beside earlier results, saved, and judged."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from ..runtime.errors import StorageError
from ..runtime.files import make_folder
from .comparing import Comparison, compare, read_results, require_same
from .harness import BenchOptions, identify, run_bench
from .qualifying import Say
from .results import Results
from .saving import FAILED_NAME, NAME, save_results
from .table import format_table


@final
@dataclass(frozen=True)
class Gate:
    """What results are compared with.

    Attributes:
        old: An earlier `bench.json`.
        allowed: Share by which a call may be slower; None where nothing is a failure.
        anyway: Whether results of other machines and artifacts are compared too.
    """

    old: Path
    allowed: float | None = None
    anyway: bool = False


@final
@dataclass(frozen=True)
class Outcome:
    """What became of a benchmark.

    Attributes:
        results: What was measured.
        comparison: The same beside earlier results, where there were any.
        files: What was saved where.
    """

    results: Results
    comparison: Comparison | None
    files: Mapping[str, Path]

    @property
    def passed(self) -> bool:
        """Whether everything passed its verification, lived to its end, and is no slower than allowed."""
        return self.results.is_sound and not (self.comparison and self.comparison.failures)

    def format(self) -> str:
        """All of it for people."""
        parts = [format_table(self.results)]
        if self.comparison is not None:
            parts.append(self.comparison.format())
        files = [f"{kind}: {path}" for kind, path in self.files.items()]
        return "\n\n".join([*parts, "\n".join(files)])

    def to_json(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        compared = {} if self.comparison is None else {"comparison": self.comparison.to_json()}
        return self.results.to_json() | compared


def run_and_save(options: BenchOptions, folder: Path | None, gate: Gate | None, say: Say) -> Outcome:
    """Measure, compare, save.

    What can be refused is refused before anything is measured. Results that fail a gate do not replace those that they
    were compared with: they are saved as `bench.failed.json` and so on.

    Args:
        options: What to measure.
        folder: Where the results go; None for the artifact's folder.
        gate: What they are compared with, if anything.
        say: Is told each step.

    Raises:
        LmtoolError: As for `run_bench`; the earlier results cannot be read or are of something else; the folder cannot
            be made.
    """
    before = None if gate is None else read_results(gate.old)  # now: the results may be saved to the same file
    if folder is not None:
        make_folder(folder)
    if gate is not None and before is not None and not gate.anyway:
        require_same(before, identify(options))
    results = run_bench(options, say)
    comparison = None if gate is None or before is None else compare(before, results, gate.allowed)
    target = folder or results.model.parent
    outcome = Outcome(results, comparison, {})
    replaces = gate is not None and (target / f"{NAME}.json").resolve() == gate.old.resolve()
    name = FAILED_NAME if replaces and not outcome.passed else NAME
    try:
        return Outcome(results, comparison, save_results(results, target, comparison, name))
    except StorageError:
        say(outcome.format().rstrip())  # it took minutes
        raise
