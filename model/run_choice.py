"""The latest run in a folder of runs: the one that was trained last."""

from pathlib import Path

from ..runtime.artifact.run_folders import RUNS, run_folders, why_latest
from .errors import RunError
from .run import Run


def chosen_run(path: Path | None) -> Run:
    """The run in the folder `path`; None for the latest in `runs`.

    Raises:
        RunError: `path` is None and there is no run in `runs`.
    """
    return latest_run() if path is None else Run(path)


def latest_run(runs: Path = RUNS) -> Run:
    """The run in the folder `runs` that was trained last, by the times that each run records (see `run_folders`).

    Raises:
        RunError: There is none.
        StorageError: A `config.json` is damaged, so the latest run is not known.
    """
    return latest_run_and_reason(runs)[0]


def latest_run_and_reason(runs: Path = RUNS) -> tuple[Run, str]:
    """The latest run and why it is the latest, as `why_latest` says it; errors as for `latest_run`."""
    folders = run_folders(runs)
    if not folders:
        raise RunError(f"there is no run in {runs.resolve()}; train one: lmtool train, or name one: --run DIR")
    return Run(folders[-1].path), why_latest(folders)
