"""The harness: parity first, then every runtime in a process of its own, in turn, over several rounds.

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

from ..export.errors import ParityError
from ..export.exporting import original_of
from ..export.parity import ParityReport
from ..export.verification import Original, verify
from ..model.run import Run
from ..runtime.artifact import Artifact, latest_artifact
from ..runtime.errors import ArtifactError, OptionError
from ..runtime.predictor import Predictor
from ..runtime.providers import provider_named, require_provider
from .environment import describe_environment
from .errors import BenchError
from .results import Results, Timing
from .runtimes import torch_device
from .scenario import Scenario

TORCH = "torch"
_SUITE = Path(__file__).with_name("bench_reading.py")
_PARITY_TOKENS = 5000
_PARITY_LOOP_STEPS = 200
_CPU_ONLY = {"int8": "dynamic int8 has kernels for the CPU only"}


@final
@dataclass(frozen=True)
class BenchOptions:
    """What to measure.

    Attributes:
        model: The artifact; None for the latest export. Its sibling in another precision is measured too.
        provider: Execution provider of the artifact; torch runs on the same kind of device.
        batches: Batch sizes that read one token a call; 1 is always among the scenarios.
        times: Tokens a call that one stream reads.
        threads: Threads of one call, for every runtime.
        rounds: How often the runtimes take turns.
        seconds: Longest time of one measurement.
    """

    model: Path | None = None
    provider: str = "cpu"
    batches: Sequence[int] = (64,)
    times: Sequence[int] = (128,)
    threads: int = 1
    rounds: int = 5
    seconds: float = 0.4

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            OptionError: A number is below its minimum, or the provider is not known.
        """
        provider_named(self.provider)
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
    """Verify and measure an artifact, its sibling in another precision, and the PyTorch original.

    Args:
        options: What to measure.
        say: Is told each step, one line a call.

    Raises:
        ProviderError: The provider is not there.
        ArtifactError: There is no export, or it is no artifact.
        BenchError: There is no original beside it, or a measured process failed.
        ParityError: An artifact does not compute what the original computes; nothing is timed.
    """
    require_provider(provider_named(options.provider))
    artifact = options.model or latest_artifact()
    artifacts, left_out = _artifacts(artifact, options.provider)
    run = _original(artifact)
    original = original_of(run, _PARITY_TOKENS)
    parity, placement = {}, {}
    for name, path in artifacts.items():
        say(f"parity of {name} with the original")
        predictor = Predictor.load(path, provider=options.provider, threads=options.threads)
        parity[name] = _parity(run, original, predictor).to_json()
        placement[name] = predictor.placement
    sources = {TORCH: ["--original", str(run.path)]} if _torch_runs_on(options.provider) else {}
    if not sources:
        left_out[TORCH] = "this torch has no CUDA; install a CUDA build of torch"
    sources |= {name: ["--artifact", str(path.resolve())] for name, path in artifacts.items()}
    return Results(
        model=artifact,
        provider=options.provider,
        threads=options.threads,
        baseline=next(iter(sources)),
        timings=_timings(sources, options, say),
        parity=parity,
        placement=placement,
        left_out=left_out,
        environment=describe_environment(),
    )


def _artifacts(artifact: Path, provider: str) -> tuple[dict[str, Path], dict[str, str]]:
    """The artifact and its siblings by name, and those that the provider cannot run with the reason."""
    first = Artifact.read(artifact)
    chosen: dict[str, Path] = {}
    left_out = {}
    siblings = sorted(path for path in artifact.parent.glob("[!.]*.onnx") if path != artifact)
    for path in [artifact, *siblings]:
        try:
            found = Artifact.read(path)
        except ArtifactError:
            left_out[path.name] = "not an artifact of this lmtool"
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


def _parity(run: Run, original: Original, predictor: Predictor) -> ParityReport:
    report = verify(original, predictor, _PARITY_LOOP_STEPS)
    if not report.passed:
        raise ParityError(
            f"the {report.variant} artifact does not match the original of {run.path} on {report.provider}, "
            f"so nothing was timed: {'; '.join(report.failures)}"
        )
    return report


def _torch_runs_on(provider: str) -> bool:
    import torch

    return torch_device(provider) == "cpu" or torch.cuda.is_available()


def _timings(sources: dict[str, list[str]], options: BenchOptions, say: Callable[[str], None]) -> list[Timing]:
    rounds: dict[tuple[str, Scenario], list[list[float]]] = {
        (name, scenario): [] for name in sources for scenario in options.scenarios
    }
    for number in range(options.rounds):
        for name, source in _rotated(sources, number):
            say(f"round {number + 1} of {options.rounds}: {name}")
            for scenario, times in _measure(name, source, options).items():
                rounds[name, scenario].append(times)
    return [Timing(name, scenario, times) for (name, scenario), times in rounds.items()]


def _rotated(sources: dict[str, list[str]], number: int) -> list[tuple[str, list[str]]]:
    """The runtimes in another order in each round, so that none always follows the same one."""
    turns = list(sources.items())
    start = number % len(turns)
    return turns[start:] + turns[:start]


def _measure(name: str, source: list[str], options: BenchOptions) -> dict[Scenario, list[float]]:
    """Seconds per call in every scenario, from one pytest-benchmark process."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pytest", *PYTEST_OPTIONS, str(_SUITE), f"--rootdir={_SUITE.parent}", *source]
        command += [f"--provider={options.provider}", f"--threads={options.threads}"]
        command += [f"--shape={scenario}" for scenario in options.scenarios]
        command += [f"--benchmark-max-time={options.seconds}", f"--benchmark-json={report}"]
        finished = subprocess.run(  # noqa: S603  # our own interpreter and suite
            command, cwd=folder, env=_environment(options.threads), capture_output=True, text=True, check=False
        )
        if finished.returncode != 0:
            last = "\n".join((finished.stdout + finished.stderr).strip().splitlines()[-12:])
            raise BenchError(
                f"the process that measured {name} ended with {finished.returncode}; its last words:\n{last}"
            )
        found = json.loads(report.read_text())
    return {Scenario.parse(entry["param"]): entry["stats"]["data"] for entry in found["benchmarks"]}


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
    return variables | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
