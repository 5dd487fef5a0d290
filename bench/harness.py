"""The harness: every runtime in a process of its own, verified first, then timed in turn, over several rounds.

torch and onnxruntime in one process fight over threads (https://github.com/microsoft/onnxruntime/issues/13808), and a
shared machine's speed drifts; so each measurement is a fresh pytest-benchmark process that loads one runtime, and the
runtimes take turns (A B C A B C ...), which keeps the ratios of one round comparable.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from ..model.run import Run
from ..runtime.artifact import Artifact, latest_artifact
from ..runtime.errors import ArtifactError, OptionError, ProviderError, StorageError
from ..runtime.providers import provider_named, require_provider
from .environment import describe_environment
from .errors import BenchError
from .floors import Floor
from .results import Identity, Results, Timing
from .runtimes import KINDS, ONNXRUNTIME, TORCH, Source, torch_device
from .scenario import Scenario

_SUITE = Path(__file__).with_name("bench_reading.py")
_STANDARD = "fp32"
_CPU_ONLY = {"int8": "dynamic int8 has kernels for the CPU only"}
OTHERS = tuple(name for name in KINDS if name != ONNXRUNTIME)
"""What an artifact in onnxruntime can be measured against."""


@final
@dataclass(frozen=True)
class Contender:
    """A runtime to verify and time: which kind it is, and what it loads."""

    kind: str
    source: Source

    @property
    def arguments(self) -> list[str]:
        """Its options on the command lines of its processes."""
        source = self.source
        return [
            f"--runtime={self.kind}",
            f"--artifact={source.artifact.resolve()}",
            f"--original={source.original.resolve()}",
            f"--provider={source.provider}",
            f"--threads={source.threads}",
        ]


@final
@dataclass(frozen=True)
class BenchOptions:
    """What to measure.

    Attributes:
        model: The artifact; None for the latest export. Its sibling in another precision is measured too.
        provider: Execution provider of the artifact; torch runs on the same kind of device.
        against: Other runtimes to measure, of `OTHERS`; the first that can run is what the rest is compared with.
        batches: Batch sizes that read one token a call; 1 is always among the scenarios.
        times: Tokens a call that one stream reads.
        threads: Threads of one call, for every runtime.
        rounds: How often the runtimes take turns.
        seconds: Longest time of one measurement.
    """

    model: Path | None = None
    provider: str = "cpu"
    against: Sequence[str] = (TORCH,)
    batches: Sequence[int] = (64,)
    times: Sequence[int] = (128,)
    threads: int = 1
    rounds: int = 5
    seconds: float = 0.4

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            OptionError: A number is below its minimum, or the provider or a runtime is not known.
        """
        provider_named(self.provider)
        for name in self.against:
            if name not in OTHERS:
                raise OptionError(f"runtime {name!r} is not known, expected one of {', '.join(OTHERS)}")
        for name, value in (("threads", self.threads), ("rounds", self.rounds)):
            if value < 1:
                raise OptionError(f"{name} is {value}, expected 1 or more")
        if not self.seconds > 0:
            raise OptionError(f"seconds is {self.seconds}, expected a positive number")
        _ = self.scenarios

    @property
    def scenarios(self) -> list[Scenario]:
        """Single-stream, then the batches, then the chunks; none twice."""
        shapes = [(1, 1), *((batch, 1) for batch in self.batches), *((1, time) for time in self.times)]
        return [Scenario(*shape) for shape in dict.fromkeys(shapes)]


def run_bench(options: BenchOptions, say: Callable[[str], None]) -> Results:
    """Verify and measure an artifact, its siblings in other precisions, and other runtimes.

    A runtime that does not compute what the original computes is not timed; the results say so.

    Args:
        options: What to measure.
        say: Is told each step, one line a call.

    Raises:
        ProviderError: The provider is not there.
        ArtifactError: There is no export, or it is no artifact.
        BenchError: There is no original beside it, or a process of a runtime failed.
    """
    require_provider(provider_named(options.provider))
    artifact = options.model or latest_artifact()
    contenders, left_out = _contenders(artifact, options)
    identity = _identity(artifact, contenders, options)
    reports, failed = {}, {}
    for name, contender in list(contenders.items()):
        if contender.kind == TORCH:
            continue  # the original itself
        say(f"parity of {name} with the original")
        try:
            reports[name] = _verified(name, contender)
        except ProviderError as error:
            if contender.source.artifact == artifact:
                raise
            left_out[name] = str(error)
            del contenders[name]
            continue
        if not reports[name]["passed"]:
            failed[name] = reports[name]["failures"]
    passed = {name: contender for name, contender in contenders.items() if name not in failed}
    return Results(
        model=artifact,
        identity=identity,
        baseline=next(iter(passed), ""),
        timings=_timings(passed, options, say),
        parity=reports,
        placement={name: report.pop("placement") for name, report in reports.items() if "placement" in report},
        floors={name: Floor(**report.pop("floor")) for name, report in reports.items() if "floor" in report},
        failed=failed,
        left_out=left_out,
    )


def identify(options: BenchOptions) -> Identity:
    """What `run_bench` would measure, known before anything is measured.

    Raises:
        ArtifactError: There is no export, or it is no artifact.
        BenchError: There is no original beside it.
    """
    artifact = options.model or latest_artifact()
    return _identity(artifact, _contenders(artifact, options)[0], options)


def _identity(artifact: Path, contenders: dict[str, Contender], options: BenchOptions) -> Identity:
    return Identity(
        provider=options.provider,
        threads=options.threads,
        original=Artifact.read(artifact).parity.get("original_sha256"),
        artifacts={
            name: Artifact.read(contender.source.artifact).sha256
            for name, contender in contenders.items()
            if not contender.kind.startswith(TORCH)
        },
        environment=describe_environment(),
    )


def _contenders(artifact: Path, options: BenchOptions) -> tuple[dict[str, Contender], dict[str, str]]:
    """What is measured, by name, other runtimes first; and what is not, with the reason."""
    artifacts, left_out = _artifacts(artifact, options.provider)
    run = _original(artifact)
    standard = artifacts.get(f"onnx {_STANDARD}")
    found: dict[str, Contender] = {}
    for name in dict.fromkeys(options.against):
        reason = _why_not(name, options.provider, standard)
        if reason is None:
            provider = "cpu" if KINDS[name].cpu_only else options.provider
            found[name] = Contender(name, Source(standard or artifact, run.path, provider, options.threads))
        else:
            left_out[name] = reason
    for name, path in artifacts.items():
        found[name] = Contender(ONNXRUNTIME, Source(path, run.path, options.provider, options.threads))
    return found, left_out


def _why_not(name: str, provider: str, standard: Path | None) -> str | None:
    """Why another runtime cannot be measured; None where it can."""
    kind = KINDS[name]
    if name.startswith(TORCH) and not _torch_runs_on(provider):
        return "this torch has no CUDA; install a CUDA build of torch"
    if kind.cpu_only and torch_device(provider) != "cpu":
        return "it is measured on the CPU only"
    if not name.startswith(TORCH) and standard is None:
        return f"it runs {_STANDARD} artifacts, and there is none beside the model; export --precision {_STANDARD}"
    return kind.missing()


def _artifacts(artifact: Path, provider: str) -> tuple[dict[str, Path], dict[str, str]]:
    """The artifact and its siblings by name, and those that the provider cannot run with the reason."""
    first = Artifact.read(artifact)
    chosen: dict[str, Path] = {}
    left_out = {}
    siblings = sorted(path for path in artifact.parent.glob("[!.]*.onnx") if path != artifact)
    for path in [artifact, *siblings]:
        try:
            found = Artifact.read(path)
        except (ArtifactError, StorageError) as error:
            left_out[path.name] = f"it is no artifact of this lmtool: {error}"
            continue
        name = f"onnx {found.variant}"
        if found.parity.get("original_sha256") != first.parity.get("original_sha256"):
            left_out[path.name] = "exported from another network"
        elif name in chosen:
            left_out[path.name] = f"{name} is measured from {chosen[name].name}"
        elif provider != "cpu" and found.precision in _CPU_ONLY:
            left_out[name] = _CPU_ONLY[found.precision]
        else:
            chosen[name] = path
    if not chosen:
        raise BenchError(
            f"{artifact} cannot run on {provider}: {'; '.join(left_out.values())}; export --precision fp32"
        )
    return dict(sorted(chosen.items())), left_out


def _original(artifact: Path) -> Run:
    run = Run(artifact.resolve().parent)
    if not run.best.exists():
        raise BenchError(
            f"there is no PyTorch original beside {artifact}: expected the run folder it was exported from; "
            "name the artifact inside its run folder: --model RUN/model.onnx"
        )
    return run


def _torch_runs_on(provider: str) -> bool:
    import torch

    return torch_device(provider) == "cpu" or torch.cuda.is_available()


def _timings(contenders: dict[str, Contender], options: BenchOptions, say: Callable[[str], None]) -> list[Timing]:
    rounds: dict[tuple[str, Scenario], list[list[float]]] = {
        (name, scenario): [] for name in contenders for scenario in options.scenarios
    }
    for number in range(options.rounds):
        for name, contender in _rotated(contenders, number):
            say(f"round {number + 1} of {options.rounds}: {name}")
            for scenario, times in _measure(name, contender, options).items():
                rounds[name, scenario].append(times)
    return [Timing(name, scenario, times) for (name, scenario), times in rounds.items()]


def _rotated(contenders: dict[str, Contender], number: int) -> list[tuple[str, Contender]]:
    """The runtimes in another order in each round, so that none always follows the same one."""
    turns = list(contenders.items())
    start = number % max(len(turns), 1)
    return turns[start:] + turns[:start]


def _measure(name: str, contender: Contender, options: BenchOptions) -> dict[Scenario, list[float]]:
    """Seconds per call in every scenario, from one pytest-benchmark process."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = ["pytest", *PYTEST_OPTIONS, str(_SUITE), f"--rootdir={_SUITE.parent}", *contender.arguments]
        command += [f"--shape={scenario}" for scenario in options.scenarios]
        command += [f"--benchmark-max-time={options.seconds}", f"--benchmark-json={report}"]
        _require_success(name, _run(command, contender, Path(folder)))
        found = json.loads(report.read_text())
    return {Scenario.parse(entry["param"]): entry["stats"]["data"] for entry in found["benchmarks"]}


def _verified(name: str, contender: Contender) -> dict[str, Any]:
    """What the verification of a runtime found.

    Raises:
        ProviderError: The provider does not run it.
        BenchError: The process failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = ["lmtool.bench.verifying", *contender.arguments, f"--out={report}"]
        finished = _run(command, contender, Path(folder))
        if finished.returncode == ProviderError.exit_code:
            raise ProviderError(finished.stderr.strip())
        _require_success(name, finished)
        found: dict[str, Any] = json.loads(report.read_text())
    return found


def _run(module: list[str], contender: Contender, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a module in a process of its own."""
    return subprocess.run(  # noqa: S603  # our own interpreter, suite and modules
        [sys.executable, "-m", *module],
        cwd=folder,
        env=_environment(contender.source.threads),
        capture_output=True,
        text=True,
        check=False,
    )


def _require_success(name: str, finished: subprocess.CompletedProcess[str]) -> None:
    if finished.returncode != 0:
        last = "\n".join((finished.stdout + finished.stderr).strip().splitlines()[-12:])
        raise BenchError(f"the process of {name} ended with {finished.returncode}; its last words:\n{last}")


PYTEST_OPTIONS = [
    "-q",
    "-c",
    os.devnull,
    "-p",
    "lmtool.bench.plugin",
    "-p",
    "no:cacheprovider",
    "-o",
    "python_files=bench_*.py",
    "-o",
    "python_functions=bench_*",
    "--import-mode=importlib",
    "-o",
    "consider_namespace_packages=true",
    "--benchmark-only",
    "--benchmark-save-data",
    "--benchmark-disable-gc",
    "--benchmark-warmup=on",
    "--benchmark-warmup-iterations=5",
    "--benchmark-min-rounds=5",
]


def _environment(threads: int) -> dict[str, Any]:
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "PY_COLORS"))}
    return variables | {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "MKL", "OPENBLAS")}
