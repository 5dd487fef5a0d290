"""The verification of one runtime in a process of its own: the harness reads the report that it writes.

python -m lmtool.bench.verifying --runtime NAME --artifact FILE --out FILE
    [--original RUN|FILE] [--provider P] [--threads N] [--shape BATCHxTIME ...]
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ..export.verification import verify
from .child import answer, source_of, source_parser
from .floors import measure_floor
from .originals import original_for
from .runtimes import KINDS, ONNXRUNTIME, Source

_TOKENS = 5000
_DRAWN_TOKENS = 500
_LOOP_STEPS = 200


def verify_runtime(name: str, source: Source, shapes: Sequence[tuple[int, int]] = ()) -> dict[str, Any]:
    """What the comparison with its original found; of onnxruntime also where the nodes run, and on a CPU its floor.

    `shapes`: (batch, time) of calls that are compared beside the usual ones.
    """
    predictor = KINDS[name].make(source).predictor
    original = original_for(name, source, _TOKENS)
    report = verify(original, predictor, _LOOP_STEPS, _DRAWN_TOKENS, shapes).to_json()
    report["provider"] = source.provider
    if name == ONNXRUNTIME:
        report["placement"] = predictor.placement
        if source.provider == "cpu":
            report["floor"] = asdict(measure_floor(source.artifact))
    return report


def main() -> None:
    """Parse the arguments, verify, write one JSON object."""
    parser = source_parser("verifying", __doc__)
    parser.add_argument("--shape", action="append", default=[], help="BATCHxTIME of a call to compare; repeatable")
    chosen = parser.parse_args()
    shapes = [(int(batch), int(time)) for batch, time in (shape.split("x") for shape in chosen.shape)]
    answer(chosen.out, lambda: verify_runtime(chosen.runtime, source_of(chosen), shapes))


if __name__ == "__main__":
    main()
