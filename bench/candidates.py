"""What is measured: the artifact, its siblings in other precisions, and other runtimes; and what is not, with why."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from ..model.run import Run
from ..runtime.artifact.artifact import Artifact
from ..runtime.errors import ArtifactError, ProviderError, StorageError
from .backends.registry import BACKENDS, ONNXRUNTIME, TORCH, Source, torch_device

STANDARD = "fp32"
"""The precision that other runtimes read."""

OTHERS = tuple(name for name in BACKENDS if name != ONNXRUNTIME)
"""What an artifact in onnxruntime can be measured against."""

_DEVICES = ("cpu", "cuda", "tensorrt")
_CPU_ONLY = {"int8": "dynamic int8 has kernels for the CPU only"}


@final
@dataclass(frozen=True)
class Candidate:
    """A runtime to verify and time: which kind it is, and what it loads."""

    backend: str
    source: Source

    @property
    def is_original(self) -> bool:
        """Whether it is what all others are verified against: the network in eager PyTorch, on the processor."""
        return self.backend == TORCH and self.source.provider == "cpu"

    @property
    def artifact_sha256(self) -> str | None:
        """Hash of the artifact that it runs; None where it runs none."""
        return None if self.backend.startswith(TORCH) else Artifact.read(self.source.artifact).sha256


Candidates = dict[str, Candidate]
Skipped = dict[str, str]


def find_candidates(
    artifact: Path, providers: Sequence[str], against: Sequence[str], threads: int, *, alone: bool = False
) -> tuple[Candidates, Skipped]:
    """What is measured, by name: on each provider other runtimes first; and what is not, with the reason.

    Args:
        artifact: The artifact that was named.
        providers: Where it runs.
        against: Other runtimes, of `OTHERS`.
        threads: Threads of one call.
        alone: Whether the files beside it are none of its siblings.

    Raises:
        StorageError: The artifact cannot be read.
        ArtifactError: It is none.
        ProviderError: Nothing of it runs on a provider.
    """
    found: Candidates = {}
    skipped: Skipped = {}
    for provider in dict.fromkeys(providers):
        artifacts, without = find_artifacts(artifact, provider, alone=alone)
        skipped |= without
        standard = artifacts.get(STANDARD)
        original = run_beside(artifact) or standard
        for kind in dict.fromkeys(against):
            reason = reason_to_skip(kind, provider, standard, original)
            if reason is None:
                found[on(kind, provider)] = Candidate(kind, Source(standard or artifact, original, provider, threads))
            else:
                skipped[on(kind, provider)] = reason
        for variant, path in artifacts.items():
            source = Source(path, original, provider, threads)
            found[on(f"onnx {variant}", provider)] = Candidate(ONNXRUNTIME, source)
    return found, skipped


def on(name: str, provider: str) -> str:
    """A runtime's name with its provider, unless that is the processor."""
    return name if provider == "cpu" else f"{name} on {provider}"


def reason_to_skip(kind: str, provider: str, standard: Path | None, original: Path | None) -> str | None:
    """Why another runtime cannot be measured; None where it can."""
    if kind.startswith(TORCH) and (original is None or original.is_file()):
        return "there is no PyTorch original beside the model; name it inside the run folder it was exported from"
    if kind.startswith(TORCH) and provider not in _DEVICES:
        return f"there is no torch beside {provider}: it is measured beside {' and '.join(_DEVICES)}"
    if kind.startswith(TORCH) and not _torch_runs_on(provider):
        return "this torch has no CUDA; install a CUDA build of torch"
    if BACKENDS[kind].cpu_only and provider != "cpu":
        return "it is measured on the processor only: --provider cpu"
    if not kind.startswith(TORCH) and standard is None:
        return f"it runs {STANDARD} artifacts, and there is none beside the model; export --precision {STANDARD}"
    return BACKENDS[kind].reason_missing()


def find_artifacts(artifact: Path, provider: str, *, alone: bool = False) -> tuple[dict[str, Path], Skipped]:
    """The artifact and its siblings by variant, and those that the provider cannot run with the reason.

    Raises:
        StorageError: The artifact cannot be read.
        ArtifactError: It is none.
        ProviderError: None of them runs on the provider.
    """
    first = Artifact.read(artifact)
    chosen: dict[str, Path] = {}
    skipped: Skipped = {}
    siblings = [] if alone else sorted(path for path in artifact.parent.glob("[!.]*.onnx") if path != artifact)
    for path in [artifact, *siblings]:
        try:
            found = Artifact.read(path)
        except (ArtifactError, StorageError) as error:
            skipped[path.name] = f"it is no artifact of this lmtool: {error}"
            continue
        if found.parity.get("original_sha256") != first.parity.get("original_sha256"):
            skipped[path.name] = "exported from another network"
        elif found.variant in chosen:
            skipped[path.name] = f"onnx {found.variant} is measured from {chosen[found.variant].name}"
        elif provider != "cpu" and found.precision in _CPU_ONLY:
            skipped[on(f"onnx {found.variant}", provider)] = _CPU_ONLY[found.precision]
        else:
            chosen[found.variant] = path
    if not chosen:
        raise ProviderError(
            f"{artifact} cannot run on {provider}: {'; '.join(skipped.values())}; export --precision {STANDARD}"
        )
    return dict(sorted(chosen.items())), skipped


def run_beside(artifact: Path) -> Path | None:
    """The run folder that an artifact lies in; None where it lies elsewhere."""
    run = Run(artifact.resolve().parent)
    return run.path if run.best.exists() else None


def _torch_runs_on(provider: str) -> bool:
    import torch

    return torch_device(provider) == "cpu" or torch.cuda.is_available()
