"""Finds operators that are not ONNX's own."""

from collections.abc import Iterator

from ..finding import Finding
from ..subject import Subject
from ..trials import Trials

_OWN = ("", "ai.onnx", "ai.onnx.ml")


def check(subject: Subject, trials: Trials) -> Iterator[Finding]:
    """One finding for each domain."""
    operators: dict[str, set[str]] = {}
    for node, _ in subject.lineage.nodes:
        if node.domain not in _OWN:
            operators.setdefault(node.domain, set()).add(node.op_type)
    for domain, names in sorted(operators.items()):
        yield Finding(
            "contrib-operators",
            ", ".join(sorted(names)),
            f"the domain {domain} is a runtime's own: other runtimes and most providers refuse the file",
            "export standard operators; quantize with static scales, as lmtool export --precision int8 does",
        )
