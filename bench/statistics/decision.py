"""The rule by which a benchmark decides between two times.

A decision is wrong with at most 1 % chance for all ratios of a benchmark together, and for all times that they are
looked at (Bonferroni): each interval has the confidence 1 - 0.01 / (ratios * looks).
"""

from collections.abc import Sequence

FALSE_ALARMS = 0.01
"""Largest chance that a benchmark of equal runtimes decides that one of them is slower."""


def decision_confidence(ratios: int, looks: int) -> float:
    """Confidence of each ratio's interval."""
    return 1 - FALSE_ALARMS / (max(ratios, 1) * looks)


def look_rounds(rounds: int, most: int) -> Sequence[int]:
    """Numbers of rounds after which the ratios are looked at: each twice the one before, the last is `most`."""
    looks = [rounds]
    while looks[-1] < most:
        looks.append(min(2 * looks[-1], most))
    return looks
