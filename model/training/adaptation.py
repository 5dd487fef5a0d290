"""Settings that adapt to the training text: a small one is read more often, and regularized more."""

from typing import Any

_TOKENS_TO_READ, _FEWEST_EPOCHS, _MOST_EPOCHS = 100_000, 8, 20
_SMALL_TEXT = 200_000
"""Tokens from which on a text is not small."""

_BATCH_SIZES, _LEARNING_RATES = (16, 32), (0.01, 0.014)
"""For a small text, and for any other."""

_DROPOUTS, _DROPOUT = ((10_000, 0.6), (100_000, 0.5), (_SMALL_TEXT, 0.4)), 0.2
"""For a text with fewer tokens than the number beside it, and for any other."""


def adapted_settings(tokens: int) -> dict[str, Any]:
    """Values of `epochs`, `dropout`, `batch_size` and `learning_rate` for a training text of this number of tokens."""
    is_large = tokens >= _SMALL_TEXT
    return {
        "epochs": min(max(round(_TOKENS_TO_READ / max(tokens, 1)), _FEWEST_EPOCHS), _MOST_EPOCHS),
        "dropout": next((dropout for most, dropout in _DROPOUTS if tokens < most), _DROPOUT),
        "batch_size": _BATCH_SIZES[is_large],
        "learning_rate": _LEARNING_RATES[is_large],
    }
