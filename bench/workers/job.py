"""The job of a worker process: JSON on its command line, and a JSON report as the answer.

A worker loads one backend and nothing else, so this file imports neither torch nor onnx.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

from ...runtime.errors import LmtoolError, ProviderError
from ...runtime.io.files import json_text, write_atomically
from ..backends.source import Source, StatefulCalls
from ..scenario import Scenario

JOB_FORMAT = 1
"""Changes with the fields of `Job` and of reports: environments with other formats are not measured in turns."""

REFUSED = "refused"
"""Key of a report that holds only the message of an `LmtoolError`."""

BY_PROVIDER = "by_provider"
"""Key beside it: whether the error is about the execution provider."""


@final
@dataclass(frozen=True)
class MlperfTask:
    """A run of LoadGen.

    Attributes:
        scenario: single-stream, multi-stream, offline or server.
        text: File of the samples' text.
        folder: For LoadGen's logs and the samples.
        precision: What the runtime computes in; known after the run.
    """

    scenario: str
    text: Path
    folder: Path
    precision: str = ""

    @property
    def logs(self) -> Path:
        """Folder of LoadGen's logs, placed as MLPerf's submissions have it."""
        return self.folder / "performance" / "run_1"

    @property
    def samples(self) -> Path:
        """File of the samples."""
        return self.folder / "samples.safetensors"


@final
@dataclass(frozen=True)
class Job:
    """The task of one worker process, which loads one backend.

    Attributes:
        backend: One of `BACKENDS`.
        source: Files, provider and threads of the backend.
        output: File for the report.
        scenarios: Scenarios to time; a verification compares calls of these sizes.
        seconds: Longest time of one scenario, how long requests arrive at a server, or least duration of LoadGen's run.
        latency_bound: Seconds within which a server must answer 99 % of its requests.
        mlperf: A run of LoadGen by MLPerf's rules; None for other work.
    """

    backend: str
    source: Source
    output: Path
    scenarios: Sequence[Scenario] = ()
    seconds: float = 0.4
    latency_bound: float = 0.01
    mlperf: MlperfTask | None = None

    def to_json(self) -> str:
        """The job as JSON, with absolute paths."""
        values = asdict(self) | {"scenarios": [str(scenario) for scenario in self.scenarios]}
        return json.dumps(values, default=lambda path: str(path.resolve()))

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """Read what `to_json` wrote."""
        values = json.loads(text)
        scenarios = [Scenario.parse(scenario) for scenario in values["scenarios"]]
        source = _source(values["source"])
        task = values["mlperf"]
        if task is not None:
            task = MlperfTask(**task | {name: Path(task[name]) for name in ("text", "folder")})
        read = {"source": source, "output": Path(values["output"]), "scenarios": scenarios, "mlperf": task}
        return cls(**values | read)


def _source(values: dict[str, Any]) -> Source:
    paths = {name: Path(values[name]) for name in ("artifact", "original") if values[name] is not None}
    calls = values["calls"]
    if calls is not None:
        calls = StatefulCalls(**calls | {"feeds": Path(calls["feeds"])})
    return Source(**values | paths | {"calls": calls})


def run_job(work: Callable[[Job], Mapping[str, Any]]) -> None:
    """Do the job of the command line, write the report and end the process.

    An `LmtoolError` is reported too, which distinguishes a refusal from a crash.
    """
    if len(sys.argv) != 2:
        sys.exit("expected one argument: a job as JSON, as Job.to_json writes it")
    job = Job.from_json(sys.argv[1])
    report: Mapping[str, Any]
    try:
        report, code = work(job), 0
    except LmtoolError as error:
        print(error, file=sys.stderr)  # noqa: T201
        report, code = {REFUSED: str(error), BY_PROVIDER: isinstance(error, ProviderError)}, error.exit_code
    write_atomically(job.output, json_text(report).encode())
    sys.exit(code)
