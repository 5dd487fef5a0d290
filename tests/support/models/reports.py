"""Parity reports made by hand."""

from typing import Any

from lmtool.export.parity import Case, Largest, ParityReport


def make_parity_report(difference: float = 1e-6, **changes: Any) -> ParityReport:
    """A report that passes, with the largest difference of its logits; `changes` replace other fields."""
    values: dict[str, Any] = {
        "precision": "fp32",
        "variant": "fp32",
        "provider": "cpu",
        "exported_from": "0" * 64,
        "original": "PyTorch run tiny",
        "original_sha256": "0" * 64,
        "cases": [Case("random tokens", "logits", difference, 1.0)],
        "tensors": {"logits": Largest(difference, difference)},
        "loop_steps": 200,
        "loop_differences": 0,
        "loop_disagreements": 0,
        "text": "the test split of a corpus",
        "tokens": 5000,
        "original_perplexity": 20.0,
        "artifact_perplexity": 20.0,
        "batch_invariant": True,
    }
    return ParityReport(**values | changes)
