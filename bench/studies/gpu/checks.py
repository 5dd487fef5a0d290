"""Parts that say whether the device computes what it should."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from lmtool.runtime.artifact.architecture import Architecture
from lmtool.runtime.artifact.artifact import artifact_metadata
from lmtool.runtime.batches.batch_invariance import first_difference
from lmtool.runtime.predictor import Predictor
from lmtool.runtime.session.providers import PROVIDERS, import_onnxruntime, require_provider
from lmtool.runtime.session.session import SessionOptions, start_session
from lmtool.runtime.session.weightless import scoring_graph

from gpu.part import Facts, Findings, Setup

_ROOT = Path(__file__).parents[3]
_MAPS = Path("/proc/self/maps")
_LIBRARIES = ("libcublas", "libcudart", "libcudnn")
_LAST_LINES = 40
_BATCH, _TIME = 8, 40
_BATCHES = (2, 3, 16, 17, 64)
_SIZES = {
    True: (Architecture("lstm", 24, (48, 32), False), 101),
    False: (Architecture("lstm", 200, (200, 200), False), 10_000),
}
"""Whether it is small -> an architecture and its vocabulary size."""


def smoke(setup: Setup, findings: Findings) -> None:
    """onnxruntime in a process without torch, then torch, then a small network on the device."""
    onnxruntime = import_onnxruntime()
    findings.add({"onnxruntime": [onnxruntime.__version__, *onnxruntime.get_available_providers()]})
    findings.attempt("session without torch", lambda: _scoring_providers(setup.device))
    findings.add({"libraries without torch": _loaded_libraries()})
    findings.attempt("torch", lambda: _torch_facts(setup.device))
    findings.attempt("a small network", lambda: _small_network(setup))


def _scoring_providers(device: str) -> list[str]:
    require_provider(PROVIDERS[device])
    session = start_session(scoring_graph(), PROVIDERS[device], SessionOptions())
    return list(session.get_providers())


def _loaded_libraries() -> list[str]:
    lines = _MAPS.read_text().splitlines() if _MAPS.exists() else []
    return sorted({line.split()[-1] for line in lines if any(name in line for name in _LIBRARIES)})


def _torch_facts(device: str) -> Facts:
    import torch  # loads other CUDA libraries, so it comes after the session without it

    facts: Facts = {"version": torch.__version__}
    if device == "cpu":
        return facts
    layer = torch.nn.LSTM(8, 8).to(device)
    with torch.autocast(device, torch.bfloat16):
        output, _ = layer(torch.zeros(2, 1, 8, device=device))
    free, total = torch.cuda.mem_get_info()
    return facts | {
        "card": f"{torch.cuda.get_device_name()}, compute capability {torch.cuda.get_device_capability()}",
        "memory": f"{free / 1e9:.1f} of {total / 1e9:.1f} GB are free",
        "cuDNN of torch": torch.backends.cudnn.version(),
        "an LSTM under torch's bf16 autocast returns": str(output.dtype),
    }


def _small_network(setup: Setup) -> Facts:
    from lmtool.bench.untrained_run import make_untrained_run  # these import torch
    from lmtool.export.build import BuildOptions, build_model, seal

    run = make_untrained_run(setup.work / "small", *_SIZES[True], seed=1)
    network, _ = run.trained()
    metadata = artifact_metadata(network.architecture, run.vocabulary(), "fp32", is_static=False)
    artifact = seal(build_model(network, BuildOptions()), metadata)
    predictor = setup.load(artifact)
    return {"placement": predictor.placement, "differences": _differences(predictor, artifact)}


def tests(setup: Setup, findings: Findings) -> None:
    """The outcome of each test in tests/test_cuda.py; warnings, which plugins may cause, fail none."""
    if missing := [name for name in ("pytest", "hypothesis") if importlib.util.find_spec(name) is None]:
        findings.fail(f"{' and '.join(missing)} not installed")
        return
    report = setup.work / "tests.xml"
    command = [sys.executable, "-m", "pytest", "tests/test_cuda.py", "-qW", "default", "--tb=short"]
    finished = subprocess.run([*command, f"--junitxml={report}"], cwd=_ROOT, stdout=subprocess.PIPE, text=True)
    print(finished.stdout, flush=True)
    lines = finished.stdout.splitlines()
    found = outcomes(report)
    findings.add(found)
    if warned := {line.strip() for line in lines if "Warning: " in line}:
        findings.add({"warnings": sorted(warned)})
    if finished.returncode:
        findings.fail("\n".join([f"pytest ended with {finished.returncode}", *lines[-_LAST_LINES:]]))
    elif setup.device == "cuda" and any(outcome.startswith("skipped") for outcome in found.values()):
        findings.fail("a test was skipped")


def outcomes(report: Path) -> dict[str, str]:
    """Test -> what became of it, from a file in JUnit's form."""
    cases = ElementTree.parse(report).iter("testcase") if report.exists() else []  # noqa: S314  # pytest wrote it
    found = {}
    for case in cases:
        others = [element for element in case if element.tag in ("failure", "error", "skipped")]
        said = "; ".join(f"{element.tag}: {(element.get('message') or '').partition(chr(10))[0]}" for element in others)
        found[str(case.get("name"))] = said or f"passed in {float(case.get('time') or 0):.1f} s"
    return found


def exports(setup: Setup, findings: Findings) -> None:
    """Export fp32 and fp16 and verify both on the device."""
    from lmtool.export import export_run  # imports torch
    from lmtool.model import Run

    findings.add({"network": provide_network(setup)})
    shutil.copytree(setup.run, setup.half)
    for path in [export_run(Run(setup.run)).path, export_run(Run(setup.half), "fp16").path]:
        findings.add({f"bytes of {path.name}": path.stat().st_size})
        findings.attempt(path.name, lambda path=path: _verified(path, setup.device))


def _verified(path: Path, device: str) -> str:
    from lmtool.export import ParityError, verify_artifact

    report = verify_artifact(path, provider=device)
    if not report.passed:
        raise ParityError(report.format())
    return report.format()


def provide_network(setup: Setup) -> str:
    """Where the training gave no network, make an untrained one of the same sizes: its speed is the same."""
    from lmtool.bench.untrained_run import make_untrained_run  # imports torch
    from lmtool.model import Run

    if Run(setup.run).best.exists():
        return "trained"
    shutil.rmtree(setup.run, ignore_errors=True)
    make_untrained_run(setup.run, *_SIZES[setup.small], seed=1)
    return "untrained"


def differences(setup: Setup, findings: Findings) -> None:
    """Largest differences from fp32 on the processor; TF32, which is off otherwise, has to enlarge them."""
    exact, facts, control = setup.artifacts()["fp32"], findings.facts, "fp32 with TF32, the positive control"
    for precision, path in setup.artifacts().items():
        findings.attempt(precision, lambda path=path: _differences(setup.load(path), exact))
    if setup.device == "cuda":
        findings.attempt(control, lambda: _differences(setup.load(exact, use_tf32="1"), exact))
        if {"fp32", control} <= facts.keys() and max(facts[control].values()) <= max(facts["fp32"].values()):
            findings.fail("TF32 does not enlarge the differences, so they would not show that it is on")


def _differences(predictor: Predictor, exact: Path | bytes) -> dict[str, float]:
    """Largest differences of logits and states from an artifact on the processor, after the same random tokens."""
    other = Predictor.load(exact)
    token_ids = np.random.default_rng(0).integers(0, len(other.vocabulary), (_BATCH, _TIME))
    (logits, state), (expected, after) = (one.step(token_ids, one.initial_state(_BATCH)) for one in (predictor, other))
    states = [abs(ours - theirs).max() for ours, theirs in zip(state.tensors, after.tensors, strict=True)]
    return {"logits": float(abs(logits - expected).max()), "states": float(max(states))}


def invariance(setup: Setup, findings: Findings) -> None:
    """The first row of a batch whose bits are not those that it has alone."""
    for precision, path in setup.artifacts().items():
        for time in (1, 3):
            name = f"{precision}, calls of {time}"
            findings.attempt(name, lambda path=path, time=time: _first_difference(setup.load(path), time))


def _first_difference(predictor: Predictor, time: int) -> str:
    return first_difference(predictor, _BATCHES, time) or "none: the same bits alone and in batches"
