"""The export that a command takes where none is named: of the latest run, the one that suits the purpose best."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..arguments import checked_path
from ..errors import ArtifactError
from .artifact import Artifact
from .original import weights_of_run
from .run_folders import EXPORTS, RUNS, run_folders, why_latest

_EXACT = ("fp32", "fp16", "w8", "int8", "int8-latency", "w4")
"""Variants by parity with the original, the most exact first."""

_FAST = ("int8", "int8-latency", "w8", "w4", "fp32", "fp16")
"""Variants by tokens per second on processors, the fastest first."""

_FAST_ELSEWHERE = ("fp16", "fp32", "int8", "int8-latency", "w8", "w4")
"""The same for GPUs, which have no kernels for most quantized operators."""


class Choice(NamedTuple):
    """An export, and why it was chosen."""

    path: Path
    reason: str


class _Export(NamedTuple):
    path: Path
    artifact: Artifact


def choose_artifact(runs: Path = RUNS, *, serving: bool = False, provider: str = "cpu") -> Choice:
    """Choose an export of the latest run in `runs` that has one (see `run_folders`).

    Of the exports of the run's weights, or where it holds none of them of those of the newest file, the most exact one:
    fp32 where there is one. For serving, where streams share calls, the fastest one that is batch-invariant, or the
    fastest one if none is. Files that are not artifacts are left out.

    Args:
        runs: The folder of the runs.
        serving: Choose for a server.
        provider: The server's execution provider.

    Raises:
        ArtifactError: There is none.
        StorageError: A `config.json` is damaged, so the latest run is not known.
    """
    folders = run_folders(runs, EXPORTS)
    if not folders:
        raise ArtifactError(
            f"there is no exported model in {runs.resolve()}; write one: lmtool export, or name it: --model FILE"
        )
    chosen, reason = choose_export(folders[-1].path, serving=serving, provider=provider)
    return Choice(chosen, "; ".join(filter(None, (reason, why_latest(folders)))))


def choose_export(run: Path, *, serving: bool = False, provider: str = "cpu") -> Choice:
    """Choose an export in a run folder, as `choose_artifact` does; without a reason if there is no choice.

    Raises:
        ArtifactError: There is none.
    """
    if not run.exists():
        raise ArtifactError(f"there is no folder {run}, expected the folder of a run; look for a typing mistake")
    paths = [path for path in run.glob(EXPORTS) if path.is_file() and not path.name.startswith(".")]
    if not paths:
        raise ArtifactError(f"{run} holds no exported model; write one: lmtool export --run {run}")
    paths.sort(key=lambda path: (path.stat().st_mtime_ns, path), reverse=True)
    exports = _readable(paths)
    if len(exports) < 2:
        return Choice(exports[0].path if exports else paths[0], "")
    return Choice(*_best(exports, serving, provider))


def latest_artifact(runs: Path | str = RUNS) -> Path:
    """The most exact export of the latest run in `runs` that has one (see `choose_artifact`).

    Raises:
        ArtifactError: There is none.
        StorageError: A `config.json` is damaged, so the latest run is not known.
    """
    return choose_artifact(checked_path("runs", runs)).path


def _readable(paths: Sequence[Path]) -> list[_Export]:
    """The artifacts that are exports of the weights in their folder; if none is, of the same as the first one."""
    exports: list[_Export] = []
    for path in paths if len(paths) > 1 else []:
        try:
            exports.append(_Export(path, Artifact.read(path)))
        except ArtifactError:  # a model for sherpa-onnx, say
            continue
    now = weights_of_run(paths[0].parent) if exports else None
    current = [export for export in exports if now is not None and _weights(export)[0] == now]
    return [export for export in exports if _weights(export) == _weights((current or exports)[0])]


def _weights(export: _Export) -> tuple[str | None, str]:
    return export.artifact.parity.get("original_sha256"), export.artifact.vocabulary.sha256


def _best(exports: Sequence[_Export], serving: bool, provider: str) -> tuple[Path, str]:
    if not serving:
        best = min(exports, key=lambda export: _EXACT.index(export.artifact.variant))
        return best.path, f"{best.artifact.variant}, the most exact of {len(exports)} exports"
    order = _FAST if provider == "cpu" else _FAST_ELSEWHERE
    invariant = [export for export in exports if export.artifact.batch_invariant]
    best = min(invariant or exports, key=lambda export: order.index(export.artifact.variant))
    what = "fastest batch-invariant" if invariant else "fastest, as none is batch-invariant,"
    return best.path, f"{best.artifact.variant}, the {what} of {len(exports)} exports"
