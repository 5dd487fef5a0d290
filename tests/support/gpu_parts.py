"""Parts for the study of a GPU: one finds a fault, one crashes, one has no end."""

import time

from gpu.part import Findings, Setup


def faulty(_: Setup, findings: Findings) -> None:
    findings.add({"differences": {"one|two": 0.5}, "table": "first\nsecond"})
    findings.fail("too large")


def crashing(_: Setup, findings: Findings) -> None:
    findings.add({"found": "before"})
    raise ValueError("no kernel image")


def hanging(_: Setup, __: Findings) -> None:
    time.sleep(3600)
