"""One part in a separate process: its setup and its findings.

    python -m gpu.part MODULE FUNCTION SETUP REPORT

`MODULE.FUNCTION(Setup, Findings)` adds its facts; each is in the file REPORT at once.
"""

import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

from common.program import run_program
from lmtool.runtime.io.files import json_text, write_atomically
from lmtool.runtime.predictor import Predictor

Facts = dict[str, Any]
"""Name of a fact -> what JSON can hold; a text of several lines is shown as it is."""

FAILED = "failed"
"""Name of the fact that a part has failed, with the reasons; the other facts count still."""

_TINY = {
    "embedding_size": "24",
    "layer_sizes": "48,32",
    "batch_size": "4",
    "steps": "20",
    "learning_rate": "0.02",
    "optimizer": "adam",
}


@final
class Findings:
    """The facts of a part, kept in a file from the moment that they are found."""

    def __init__(self, path: Path | None = None) -> None:
        """`path`: the file; None for none."""
        self.facts: Facts = {}
        self._path = path

    def add(self, facts: Facts) -> None:
        """Add facts."""
        self.facts |= facts
        if self._path is not None:
            write_atomically(self._path, json_text(self.facts).encode())

    def attempt(self, name: str, work: Callable[[], Any]) -> None:
        """Add what `work` returns; if it raises an exception, the part has failed, and can go on."""
        try:
            self.add({name: work()})
        except Exception as error:  # of any library
            traceback.print_exc()
            self.fail(f"{name}: {type(error).__name__}: {error}")

    def fail(self, reason: str) -> None:
        """Add a reason why the part has failed."""
        self.add({FAILED: "\n".join(filter(None, [self.facts.get(FAILED, ""), reason]))})


@final
@dataclass(frozen=True)
class Setup:
    """Setup of every part.

    Attributes:
        device: `cuda`, or `cpu` for a rehearsal; a device of torch and a provider of onnxruntime.
        data: Corpus of the training.
        out: Folder of the results.
        work: Folder of the runs.
        threads: Threads of the processor, of torch and of a session.
        small: Tiny networks and few calls.
    """

    device: str
    data: str
    out: Path
    work: Path
    threads: int = 1
    small: bool = False

    @property
    def run(self) -> Path:
        """The run that is trained in fp32."""
        return self.work / "run"

    @property
    def half(self) -> Path:
        """Its copy with the fp16 artifact alone, so that benchmarks of fp32 do not measure it."""
        return self.work / "half"

    @property
    def settings(self) -> dict[str, str]:
        """Settings of a training that takes seconds."""
        return {"epochs": "1", **(_TINY if self.small else {})}

    def artifacts(self) -> dict[str, Path]:
        """The exported artifacts by precision."""
        paths = {"fp32": self.run / "model.onnx", "fp16": self.half / "model.fp16.onnx"}
        return {precision: path for precision, path in paths.items() if path.exists()}

    def load(self, artifact: Path | bytes, **options: str) -> Predictor:
        """An artifact on the device; the processor takes no options of a provider."""
        return Predictor.load(artifact, provider=self.device, provider_options=options if self.device == "cuda" else {})

    def to_json(self) -> str:
        """The setup as an argument of a process."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> "Setup":
        """Read what `to_json` wrote."""
        values = json.loads(text)
        return cls(**values | {name: Path(values[name]) for name in ("out", "work")})


def main() -> None:
    """Run the part of the command line."""
    module, function, told, report = sys.argv[1:]
    setup = Setup.from_json(told)
    os.environ["OMP_NUM_THREADS"] = str(setup.threads)  # torch reads it at its import
    work: Callable[[Setup, Findings], None] = getattr(importlib.import_module(module), function)
    work(setup, Findings(Path(report)))


if __name__ == "__main__":
    run_program(main)
