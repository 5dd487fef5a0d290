"""The verification of one runtime in a process of its own: the harness reads the report that it writes.

python -m lmtool.bench.verifying --runtime NAME --artifact FILE --out FILE
    [--original RUN|FILE] [--provider P] [--threads N]
"""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..export.verification import verify
from ..runtime.errors import LmtoolError
from ..runtime.files import json_text, write_atomically
from .floors import measure_floor
from .originals import original_for
from .runtimes import KINDS, ONNXRUNTIME, Source

_TOKENS = 5000
_DRAWN_TOKENS = 500
_LOOP_STEPS = 200


def verify_runtime(name: str, source: Source) -> dict[str, Any]:
    """What the comparison with its original found; of onnxruntime also where the nodes run, and on a CPU its floor."""
    predictor = KINDS[name].make(source).predictor
    original = original_for(name, source, _TOKENS)
    report = verify(original, predictor, _LOOP_STEPS, _DRAWN_TOKENS).to_json()
    if name == ONNXRUNTIME:
        report["placement"] = predictor.placement
        if source.provider == "cpu":
            report["floor"] = asdict(measure_floor(source.artifact))
    return report


def main() -> None:
    """Parse the arguments, verify, write one JSON object; an error of ours becomes a message and its exit code."""
    parser = argparse.ArgumentParser(prog="python -m lmtool.bench.verifying", description=__doc__)
    parser.add_argument("--runtime", choices=KINDS, required=True, help="what to verify")
    parser.add_argument("--artifact", type=Path, required=True, help="ONNX file")
    parser.add_argument("--original", type=Path, help="run folder, or another artifact")
    parser.add_argument("--provider", default="cpu", help="execution provider")
    parser.add_argument("--threads", type=int, default=1, help="threads of one call")
    parser.add_argument("--out", type=Path, required=True, help="file for the report")
    chosen = parser.parse_args()
    source = Source(chosen.artifact, chosen.original, chosen.provider, chosen.threads)
    try:
        found = verify_runtime(chosen.runtime, source)
    except LmtoolError as error:
        print(error, file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)
    write_atomically(chosen.out, json_text(found).encode())


if __name__ == "__main__":
    main()
