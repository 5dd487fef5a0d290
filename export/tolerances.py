"""The differences that verification allows."""

from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True)
class Bounds:
    """The bounds of a precision.

    Attributes:
        difference: Largest difference of a logit or a state, relative to the largest magnitude in its tensor where that
            exceeds 1 (float32 resolves no finer). For quantized precisions it catches gross errors only.
        perplexity: Largest relative difference of the perplexity.
        rounding: Relative rounding error of the precision. Where states that move by it before each token, or float64,
            move the original's results further than `difference`, `ROUNDINGS` times that move is the bound.
    """

    difference: float
    perplexity: float
    rounding: float


BOUNDS = {
    "fp32": Bounds(difference=1e-5, perplexity=1e-4, rounding=2**-23),
    "fp16": Bounds(difference=2e-2, perplexity=5e-3, rounding=2**-10),
    "bf16": Bounds(difference=0.2, perplexity=5e-3, rounding=2**-8),
    "int8": Bounds(difference=0.5, perplexity=3e-3, rounding=2**-7),
    "w8": Bounds(difference=0.2, perplexity=1e-2, rounding=2**-7),
    "w4": Bounds(difference=0.5, perplexity=3e-2, rounding=2**-7),
}
"""Precision -> its bounds. No artifact is `bf16`, but some runtimes compute an fp32 artifact in it."""

ROUNDINGS = 4
"""Allowed multiple of the original's own rounding error; an artifact rounds every product, not the states alone."""

QUANTIZED_VECTORS = 0.05
"""Relative difference of an output of a quantized file's test vectors, which onnxruntime itself computed."""

SHERPA_BOUND = 1e-4
"""Largest difference of a log-probability of a sherpa-onnx export."""
