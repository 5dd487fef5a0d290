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

REFUSED = "refused"
"""Key of a report that holds only the message of an `LmtoolError`."""

BY_PROVIDER = "by_provider"
"""Key beside it: whether the error is about the execution provider."""


@final
@dataclass(frozen=True)
class Job:
    """The task of one worker process, which loads one backend.

    Attributes:
        backend: One of `BACKENDS`.
        source: Files, provider and threads of the backend.
        output: File for the report.
        scenarios: Scenarios to time; a verification compares calls of these sizes.
        seconds: Longest time of one scenario, or how long requests arrive at a server.
        latency_bound: Seconds within which a server must answer 99 % of its requests.
    """

    backend: str
    source: Source
    output: Path
    scenarios: Sequence[Scenario] = ()
    seconds: float = 0.4
    latency_bound: float = 0.01

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
        return cls(**values | {"source": source, "output": Path(values["output"]), "scenarios": scenarios})


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
