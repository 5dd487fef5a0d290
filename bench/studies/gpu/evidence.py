"""Findings of the parts: one JSON file and one page of Markdown, written anew after each part."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, final

from lmtool.runtime.io.files import json_text, write_atomically

from gpu.part import Facts

FORMAT = 1


@final
@dataclass(frozen=True)
class Found:
    """Findings of one part.

    Attributes:
        title: The part in words.
        seconds: Wall time of its process.
        facts: Its facts, up to its end or to where it was stopped.
        trouble: Why it failed, was stopped or did not begin; empty if all is well.
    """

    title: str
    seconds: float = 0.0
    facts: Facts = field(default_factory=dict)
    trouble: str = ""


@final
@dataclass
class Evidence:
    """Machine, versions and commit, and what each part found.

    Attributes:
        device: `cuda`, or `cpu` in a rehearsal.
        commit: The commit of the source; None if it is not known.
        environment: Machine and versions (`describe_environment`).
        parts: Name of a part -> what it found.
    """

    device: str
    commit: str | None
    environment: Mapping[str, Any]
    parts: dict[str, Found] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether every part is well."""
        return not any(found.trouble for found in self.parts.values())

    def write(self, folder: Path) -> None:
        """Write `gpu.json` and `gpu.md`.

        Raises:
            StorageError: A file cannot be written.
        """
        write_atomically(folder / "gpu.json", f"{json_text({'format': FORMAT, **asdict(self)}, indent=1)}\n".encode())
        write_atomically(folder / "gpu.md", self.page().encode(errors="replace"))

    def page(self) -> str:
        """The evidence as Markdown."""
        lines = [f"# lmtool on {self.device}", "", *_table(self._machine())]
        for found in self.parts.values():
            lines += ["", f"## {found.title}", "", f"{found.seconds:.0f} s"]
            lines += ["", "**Trouble:**", *_block(found.trouble)] if found.trouble else []
            short = {name: value for name, value in found.facts.items() if "\n" not in str(value)}
            lines += ["", *_table(short)] if short else []
            for name, value in found.facts.items():
                if name not in short:
                    lines += ["", f"{name}:", *_block(str(value))]
        return "\n".join([*lines, ""])

    def _machine(self) -> Facts:
        environment = self.environment
        packages = ", ".join(f"{name} {version}" for name, version in environment["packages"].items())
        return {
            "GPU and driver": "; ".join(environment["gpus"]) or "none",
            "processor": f"{environment['processor']}, {environment['usable_cores']} cores",
            "system": f"{environment['system']}, Python {environment['python']}",
            "packages": packages,
            "commit": self.commit or "not known",
        }


def _table(facts: Facts) -> list[str]:
    rows = [f"| {name} | {_cell(value)} |".replace("\n", " ") for name, value in facts.items()]
    return ["| | |", "|---|---|", *rows]


def _cell(value: object) -> str:
    if isinstance(value, Mapping):
        value = ", ".join(f"{name} {_cell(each)}" for name, each in value.items())
    elif isinstance(value, list):
        value = ", ".join(map(_cell, value)) or "none"
    elif isinstance(value, float):
        value = f"{value:.3g}"
    return str(value).replace("|", "\\|")


def _block(text: str) -> list[str]:
    return ["", *(f"    {line}" for line in text.splitlines())]
