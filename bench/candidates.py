"""The candidates of a benchmark: an artifact, its siblings in other precisions, other backends; reasons to skip one."""

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from ..model.run import Run
from ..runtime.artifact.artifact import Artifact
from ..runtime.errors import ArtifactError, ProviderError, StorageError
from ..runtime.io.files import read_bytes
from .backends.registry import BACKENDS, ONNXRUNTIME, TORCH, torch_device
from .backends.source import Source

FP32 = "fp32"
"""Precision of the artifacts that other backends run."""

OTHERS = tuple(name for name in BACKENDS if name != ONNXRUNTIME)
"""Backends that an artifact in onnxruntime can be measured against."""

USUAL_OTHERS = (TORCH,)
"""Those that a language model is measured against if none are named."""

CPU_ONLY = "it is measured on the CPU only: --provider cpu"
"""Why a backend is skipped beside another provider."""

_DEVICES = ("cpu", "cuda", "tensorrt")
_PRECISIONS_OF_CPU = {"int8": "onnxruntime multiplies uint8 by int8 on the CPU only"}


@final
@dataclass(frozen=True)
class Candidate:
    """A backend and its source, to be verified and timed.

    Attributes:
        backend: One of `BACKENDS`.
        source: Files, provider and threads.
        python: Interpreter that runs it.
    """

    backend: str
    source: Source
    python: str = sys.executable

    @property
    def is_original(self) -> bool:
        """Whether all others are verified against it: the network in eager PyTorch, on the CPU."""
        return self.backend == TORCH and self.source.provider == "cpu"

    @property
    def artifact_sha256(self) -> str | None:
        """Hash of the artifact, or of another network's file, that it runs; None for the PyTorch original."""
        if self.source.calls is not None:
            return hashlib.sha256(read_bytes(self.source.artifact)).hexdigest()
        return None if BACKENDS[self.backend].runs_original else Artifact.read(self.source.artifact).sha256


Candidates = dict[str, Candidate]
"""By runtime name, "onnx fp32 on cuda" for example."""

Skipped = dict[str, str]
"""Reasons, by runtime or file name."""


def find_candidates(
    artifact: Path, providers: Sequence[str], against: Sequence[str], threads: int, *, alone: bool = False
) -> tuple[Candidates, Skipped]:
    """Find the candidates, on each provider the backends `against` first; and the skipped ones, with the reason.

    `alone` ignores the files beside the artifact.

    Raises:
        StorageError: The artifact cannot be read.
        ArtifactError: The file is no artifact.
        ProviderError: A provider can run neither the artifact nor a sibling.
    """
    candidates: Candidates = {}
    skipped: Skipped = {}
    for provider in dict.fromkeys(providers):
        artifacts, skipped_files = find_artifacts(artifact, provider, alone=alone)
        skipped |= skipped_files
        fp32 = artifacts.get(FP32)
        original = run_beside(artifact) or fp32
        for backend in dict.fromkeys(against):
            name = runtime_name(backend, provider)
            reason = reason_to_skip(backend, provider, fp32, original)
            if reason is None:
                candidates[name] = Candidate(backend, Source(fp32 or artifact, original, provider, threads))
            else:
                skipped[name] = reason
        for variant, path in artifacts.items():
            source = Source(path, original, provider, threads)
            candidates[runtime_name(f"onnx {variant}", provider)] = Candidate(ONNXRUNTIME, source)
    return candidates, skipped


def runtime_name(name: str, provider: str) -> str:
    """The name of a backend on a provider, `openvino` or `onnx fp32 on cuda` for example."""
    return name if provider == "cpu" else f"{name} on {provider}"


def reason_to_skip(backend: str, provider: str, fp32: Path | None, original: Path | None) -> str | None:
    """Why another backend cannot be measured; None if it can."""
    spec = BACKENDS[backend]
    if spec.runs_original and (original is None or original.is_file()):
        return "there is no PyTorch original beside the model; name it inside the run folder it was exported from"
    if backend.startswith(TORCH) and provider not in _DEVICES:
        return f"there is no torch beside {provider}: it is measured beside {' and '.join(_DEVICES)}"
    if backend.startswith(TORCH) and (fault := _torch_fault(provider)):
        return fault
    if spec.cpu_only and provider != "cpu":
        return CPU_ONLY
    if not spec.runs_original and fp32 is None:
        return f"it runs {FP32} artifacts, and there is none beside the model; export --precision {FP32}"
    return spec.reason_missing()


def by_reason(skipped: Skipped) -> dict[str, str]:
    """The names with the same reason, with commas between them -> the reason."""
    names: dict[str, list[str]] = {}
    for name, reason in skipped.items():
        names.setdefault(reason, []).append(name)
    return {", ".join(group): reason for reason, group in names.items()}


def find_artifacts(artifact: Path, provider: str, *, alone: bool = False) -> tuple[dict[str, Path], Skipped]:
    """The artifact and its siblings by variant; and the files that are skipped, with the reason.

    Raises:
        StorageError: The artifact cannot be read.
        ArtifactError: The file is no artifact.
        ProviderError: None of them runs on the provider.
    """
    first = Artifact.read(artifact)
    chosen: dict[str, Path] = {}
    skipped: Skipped = {}
    siblings = [] if alone else sorted(path for path in artifact.parent.glob("[!.]*.onnx") if path != artifact)
    for path in [artifact, *siblings]:
        try:
            sibling = Artifact.read(path)
        except (ArtifactError, StorageError) as error:
            skipped[path.name] = f"it is no artifact of this lmtool: {error}"
            continue
        if sibling.parity.get("original_sha256") != first.parity.get("original_sha256"):
            skipped[path.name] = "exported from another network"
        elif sibling.variant in chosen:
            skipped[path.name] = f"onnx {sibling.variant} is measured from {chosen[sibling.variant].name}"
        elif provider != "cpu" and sibling.precision in _PRECISIONS_OF_CPU:
            skipped[runtime_name(f"onnx {sibling.variant}", provider)] = _PRECISIONS_OF_CPU[sibling.precision]
        else:
            chosen[sibling.variant] = path
    if not chosen:
        raise ProviderError(
            f"{artifact} cannot run on {provider}: {'; '.join(skipped.values())}; export --precision {FP32}"
        )
    return dict(sorted(chosen.items())), skipped


def run_beside(artifact: Path) -> Path | None:
    """The run folder that holds an artifact; None if it lies elsewhere."""
    run = Run(artifact.resolve().parent)
    return run.path if run.best.exists() else None


def _torch_fault(provider: str) -> str | None:
    from ..model.training.device import device_fault  # imports torch

    return device_fault(torch_device(provider))
