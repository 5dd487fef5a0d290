"""Work with a predictor that another process received."""

from lmtool.runtime import Predictor


def log_prob_of(predictor: Predictor, text: str) -> float:
    """The log-probability of a text."""
    return predictor.score(text).log_prob
