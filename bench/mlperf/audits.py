"""Audits of a run, in the spirit of MLPerf's: the timed outputs are the right ones, and no answer is remembered."""

import itertools
import time

import numpy as np
from numpy.typing import NDArray

from ...export.parity import Case
from ...export.reference import Reference
from ...export.rounding import measure_rounding
from ...export.tolerances import BOUNDS
from ...runtime.artifact.artifact import LOGITS
from ...runtime.predictor import Predictor
from .results import Audit
from .samples import SampleLibrary
from .systems import batched

FASTER = 0.1
"""Share by which the same sample may be faster than different ones, as MLPerf's TEST04 has it."""

_QUARTILE = 25
_PAIRS = 16
_BLOCK_SECONDS = 0.02
_SAME = 3


def audit_outputs(
    reference: Reference,
    library: SampleLibrary,
    precision: str,
    numbers: NDArray[np.int64],
    outputs: NDArray[np.float32],
) -> Audit:
    """TEST01: outputs of the timed run are those of the verified reference, within the verification's bound.

    Args:
        reference: What the runtime was verified against.
        library: The samples of the run.
        precision: The runtime's, which the bound depends on.
        numbers: int64 [outputs], the samples of the outputs.
        outputs: float32 [outputs, vocabulary].
    """
    if not len(numbers):
        return Audit("TEST01", False, "LoadGen logged no output, expected one at least; run longer")
    states = dict(zip(reference.architecture.states, (tensor[numbers] for tensor in library.states), strict=True))
    tokens, bounds = library.token_ids[numbers], BOUNDS[precision]
    expected = reference.run(tokens, states)[0][:, -1]
    if outputs.shape != expected.shape:
        sizes = f"{outputs.shape[-1]:,} numbers each, expected {expected.shape[-1]:,}"
        return Audit("TEST01", False, f"the {len(numbers)} logged outputs have {sizes}")
    case = Case.of("logged outputs", LOGITS, expected, outputs)
    if case.excess(bounds) > 1:
        (moved,) = measure_rounding(reference, [tokens], states, bounds.rounding)
        case = Case(case.name, case.tensor, case.absolute, case.scale, moved[LOGITS])
    found = f"{len(numbers)} outputs differ by {case.difference:.1e}, allowed {case.allowed_text(bounds)}"
    return Audit("TEST01", case.excess(bounds) <= 1, found)


def audit_repetition(predictor: Predictor, library: SampleLibrary, size: int) -> Audit:
    """TEST04: the same sample again and again is not faster than different ones, which nothing has run before.

    Blocks of both take turns. It fails if the same sample is more than `FASTER` faster in three quarters of the pairs:
    a noisy machine makes some pairs uneven, in both directions.

    Args:
        predictor: The runtime.
        library: The samples of the run.
        size: Samples in a call.
    """
    random, vocabulary = np.random.default_rng(), len(predictor.vocabulary)  # other samples in every audit
    calls = _calls_of_a_block(predictor, library.with_other_tokens(random, vocabulary), size)
    same = (library, [[_SAME] * size] * calls)
    ratios = []
    for pair in range(_PAIRS):
        different = (library.with_other_tokens(random, vocabulary), _different(len(library), size, calls))
        first, second = (same, different) if pair % 2 else (different, same)
        ratio = _block_seconds(predictor, *first) / _block_seconds(predictor, *second)
        ratios.append(1 / ratio if pair % 2 else ratio)
    share = float(np.percentile(ratios, _QUARTILE)) - 1
    found = (
        f"the same sample is {float(np.median(ratios)) - 1:+.1%} faster than others (median of {_PAIRS} pairs), "
        f"{share:+.1%} or more in three quarters of them, allowed {FASTER:+.0%}"
    )
    return Audit("TEST04", share <= FASTER, found)


def _calls_of_a_block(predictor: Predictor, library: SampleLibrary, size: int) -> int:
    """Calls that take about `_BLOCK_SECONDS`, but no more than there are different samples for."""
    seconds = _block_seconds(predictor, library, _different(len(library), size, 3)) / 3
    return max(min(int(_BLOCK_SECONDS / seconds), len(library) // size), 1)


def _different(count: int, size: int, calls: int) -> list[list[int]]:
    """The samples of each call of a block: others each time, as far as there are enough."""
    numbers = itertools.cycle(range(count))
    return [list(itertools.islice(numbers, size)) for _ in range(calls)]


def _block_seconds(predictor: Predictor, library: SampleLibrary, queries: list[list[int]]) -> float:
    issue = batched(predictor, library, len(queries[0]))
    start = time.perf_counter()
    for samples in queries:
        issue(samples, lambda first, outputs: None)
    return time.perf_counter() - start
