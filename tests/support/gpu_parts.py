"""Parts for the study of a GPU: one finds a fault, one crashes, one has no end."""

import time

from gpu.part import FAILED, Facts, Setup


def faulty(_: Setup) -> Facts:
    return {"differences": {"one|two": 0.5}, FAILED: "too large", "table": "first\nsecond"}


def crashing(_: Setup) -> Facts:
    raise ValueError("no kernel image")


def hanging(_: Setup) -> Facts:
    time.sleep(3600)
    return {}
