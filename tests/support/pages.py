"""The fenced blocks of the documentation's pages with the comments before them, and the comparison of outputs."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md"]

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<body>.*?)^(?P=indent)```[ ]*$", re.M | re.S)
_COMMENT = re.compile(r"<!--\s*(.*?)\s*-->\s*$", re.S)
_NUMBER = re.compile(r"[+-]?\d(?:[\d,.]*\d)?(?:e[+-]?\d+)?")
_REASONS = ("network", "GPU", "minutes", "program", "cluster", "file of yours", "lines above", "another model")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language: The word after the fence.
        body: The lines between the fences.
        line: Number of its first line in the page.
        skip: Reason why it does not run; empty if it runs.
        exit_code: Exit code of its last command.
        shows: The output that the page shows after a Python block, if any.
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
        """The commands after the prompts, each with the output below it."""
        commands: list[tuple[str, str]] = []
        lines = iter(self.body.splitlines())
        for line in lines:
            if line.startswith("$ "):
                command = line[2:]
                while command.endswith("\\"):
                    command += f"\n{next(lines).removeprefix('> ')}"
                commands.append((command, ""))
            elif commands:
                commands[-1] = (commands[-1][0], f"{commands[-1][1]}{line}\n")
            else:
                raise ValueError(f"a console block begins with {line!r}, expected a prompt")
        return commands


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page that are code or a session in a shell."""
    text = page.read_text(encoding="utf-8")
    fences = list(_FENCE.finditer(text))
    code_blocks = []
    for number, fence in enumerate(fences):
        comments = _comments_before(text[: fence.start()])
        following = fences[number + 1] if number + 1 < len(fences) else None
        output, output_comments = None, ""
        if following is not None and following["language"] == "text":
            between = text[fence.end() : following.start()]
            if not re.sub(r"<!--.*?-->", "", between, flags=re.S).strip():
                output, output_comments = _body(following), between
        code_blocks.append(
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
    return code_blocks


def is_reason(skip: str) -> bool:
    """Whether a block may be skipped for this reason."""
    return any(reason in skip for reason in _REASONS)


def same_output(shown: str, printed: str) -> bool:
    """Whether two outputs are equal except for numbers and white space."""
    return _masked(shown) == _masked(printed)


def _masked(text: str) -> list[str]:
    return [" ".join(_NUMBER.sub("#", line).split()) for line in text.strip().splitlines() if line.strip()]


def _body(fence: re.Match[str]) -> str:
    indent = fence["indent"]
    return "".join(f"{line.removeprefix(indent)}\n" for line in fence["body"].splitlines())


def _comments_before(text: str) -> str:
    """The comments directly before a block."""
    comments = []
    while match := _COMMENT.search(text):
        start = text.rfind("<!--", 0, match.end())
        comments.append(text[start:].strip().removeprefix("<!--").removesuffix("-->").strip())
        text = text[:start]
    return "\n".join(comments)


def _value(comments: str, key: str) -> str:
    match = re.search(rf"^{key}: *(.+)$", comments, re.M)
    return match[1].strip() if match else ""
