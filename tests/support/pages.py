"""The fenced blocks of the documentation's pages, what the comments before them say, and how outputs are compared."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md"]

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<body>.*?)^(?P=indent)```[ ]*$", re.M | re.S)
_COMMENT = re.compile(r"<!--\s*(.*?)\s*-->\s*$", re.S)
_NUMBER = re.compile(r"[+-]?\d(?:[\d,.]*\d)?(?:e[+-]?\d+)?")
_REASONS = ("network", "GPU", "minutes", "program", "cluster", "file of yours", "lines above")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language: Behind the fence.
        body: Its lines.
        line: The number of its first line in the page.
        skip: Why it cannot run; empty where it can.
        exit_code: What its last command ends with.
        shows: The output that the page shows after a Python block; None where it shows none.
        illustrative: Whether the words of the output depend on the trained model or the machine.
    """

    language: str
    body: str
    line: int
    skip: str
    exit_code: int
    shows: str | None
    illustrative: bool

    @property
    def commands(self) -> list[tuple[str, str]]:
        """The commands behind the prompts, each with the output that is shown below it."""
        found: list[tuple[str, str]] = []
        lines = iter(self.body.splitlines())
        for line in lines:
            if line.startswith("$ "):
                command = line[2:]
                while command.endswith("\\"):
                    command += f"\n{next(lines).removeprefix('> ')}"
                found.append((command, ""))
            elif found:
                found[-1] = (found[-1][0], f"{found[-1][1]}{line}\n")
            else:
                raise ValueError(f"a console block begins with {line!r}, expected a prompt")
        return found


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page that are code or a session in a shell."""
    text = page.read_text(encoding="utf-8")
    fences = list(_FENCE.finditer(text))
    found = []
    for number, fence in enumerate(fences):
        comments = _comments_before(text[: fence.start()])
        following = fences[number + 1] if number + 1 < len(fences) else None
        output, output_comments = None, ""
        if following is not None and following["language"] == "text":
            between = text[fence.end() : following.start()]
            if not re.sub(r"<!--.*?-->", "", between, flags=re.S).strip():
                output, output_comments = _body(following), between
        found.append(
            Block(
                language=fence["language"],
                body=_body(fence),
                line=text[: fence.start()].count("\n") + 2,
                skip=_value(comments, "skip"),
                exit_code=int(_value(comments, "exit code") or 0),
                shows=output,
                illustrative="output: illustrative" in comments or "output: illustrative" in output_comments,
            )
        )
    return found


def is_reason(skip: str) -> bool:
    """Whether a block may be skipped for this reason."""
    return any(reason in skip for reason in _REASONS)


def same_output(shown: str, printed: str) -> bool:
    """Whether two outputs differ in their numbers and white space only."""
    return _masked(shown) == _masked(printed)


def _masked(text: str) -> list[str]:
    return [" ".join(_NUMBER.sub("#", line).split()) for line in text.strip().splitlines() if line.strip()]


def _body(fence: re.Match[str]) -> str:
    indent = fence["indent"]
    return "".join(f"{line.removeprefix(indent)}\n" for line in fence["body"].splitlines())


def _comments_before(text: str) -> str:
    """The comments that stand directly before a block."""
    found = []
    while match := _COMMENT.search(text):
        start = text.rfind("<!--", 0, match.end())
        found.append(text[start:].strip().removeprefix("<!--").removesuffix("-->").strip())
        text = text[:start]
    return "\n".join(found)


def _value(comments: str, key: str) -> str:
    match = re.search(rf"^{key}: *(.+)$", comments, re.M)
    return match[1].strip() if match else ""
