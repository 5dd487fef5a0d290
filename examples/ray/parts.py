"""Parts of a folder's files: byte ranges of about one size, the lines in them, and the files that their scores go to.

A part is scored in one go by one worker and kept in one file, which appears complete or not at all. Its first line says
what was scored (file, size, time, range, model), so that a later run knows whether it can be kept.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, final

from lmtool.runtime import StorageError

FORMAT = 1
"""Of a result file: its first line is a `PartScore`, each of the others a line's score."""

LONGEST_LINE_BYTES = 1 << 24
_SKIPPED_AT_ONCE = 1 << 16


@final
@dataclass(frozen=True)
class Part:
    """The lines of a file that begin within a range of bytes.

    Attributes:
        file: The file's path below the folder, with slashes.
        start: The range's first byte.
        end: The byte after its last one.
        size_bytes: Size of the whole file.
        mtime_ns: When the file was changed last.
    """

    file: str
    start: int
    end: int
    size_bytes: int
    mtime_ns: int

    def result(self, out: Path) -> Path:
        """The file in the folder `out` that the part's scores go to."""
        return out / self.file / f"{self.start:015d}.jsonl"


@final
@dataclass(frozen=True)
class PartScore:
    """What was found in a part; the sums over its lines.

    Attributes:
        part: Which part.
        model: Hash of the artifact that scored it.
        lines: Number of lines.
        tokens: Number of tokens.
        unknown: How many of them the vocabulary lacks.
        log_prob: Natural log-probability, summed over the lines.
        format: Of the file that it is kept in.
    """

    part: Part
    model: str
    lines: int
    tokens: int
    unknown: int
    log_prob: float
    format: int = FORMAT

    @classmethod
    def from_json(cls, value: Any) -> "PartScore":
        """Read what `dataclasses.asdict` gave.

        Raises:
            TypeError: It does not have that form.
            KeyError: It has no part.
        """
        return cls(**{**value, "part": Part(**value["part"])})


def find_parts(folder: Path, pattern: str, part_bytes: int) -> list[Part]:
    """All parts of the files below a folder, file by file; hidden files and empty ones are left out.

    Args:
        folder: Where to look.
        pattern: What the names of the files are like: `*`, `*.txt`.
        part_bytes: Size of a part; the last one of a file is shorter.

    Raises:
        StorageError: The folder is missing, or no file is like the pattern.
    """
    if not folder.is_dir():
        raise StorageError(f"{folder} is no folder; expected one with text files in it")
    files = [path for path in sorted(folder.rglob(pattern)) if path.is_file() and not _is_hidden(path, folder)]
    if not files:
        raise StorageError(f"{folder} holds no file like {pattern!r}; choose another --pattern")
    return [part for path in files for part in _parts_of(path, folder, part_bytes)]


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(name.startswith(".") for name in path.relative_to(folder).parts)


def _parts_of(path: Path, folder: Path, part_bytes: int) -> Iterator[Part]:
    found = path.stat()
    for start in range(0, found.st_size, part_bytes):
        end = min(start + part_bytes, found.st_size)
        yield Part(path.relative_to(folder).as_posix(), start, end, found.st_size, found.st_mtime_ns)


def read_lines(part: Part, folder: Path) -> Iterator[tuple[int, str]]:
    """Where each line of a part begins in its file, and its text without the newline.

    Raises:
        StorageError: The file cannot be read, is not UTF-8 text, has a line that is too long, or is another one than it
            was when the parts were made.
    """
    path = folder / part.file
    try:
        with path.open("rb") as file:
            offset = _first_line(file, part)
            while offset < part.end and (line := file.readline(LONGEST_LINE_BYTES + 1)):
                yield offset, _text(line, offset, path)
                offset += len(line)
        found = path.stat()
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
    if (found.st_size, found.st_mtime_ns) != (part.size_bytes, part.mtime_ns):
        raise StorageError(f"{path} was changed while it was being scored; score it again")


def _first_line(file: BinaryIO, part: Part) -> int:
    """Where the part's first line begins; at or behind its end where none does."""
    if part.start == 0:
        return 0
    file.seek(part.start - 1)
    while file.tell() < part.end:
        piece = file.readline(_SKIPPED_AT_ONCE)
        if not piece or piece.endswith(b"\n"):
            break
    return file.tell()


def _text(line: bytes, offset: int, path: Path) -> str:
    if len(line) > LONGEST_LINE_BYTES:
        raise StorageError(
            f"{path} has a line of more than {LONGEST_LINE_BYTES:,} bytes at offset {offset:,}; break it up"
        )
    try:
        text = line.removesuffix(b"\n").decode()
    except UnicodeDecodeError as error:
        raise StorageError(
            f"{path} is not UTF-8 text: byte {line[error.start]:#04x} at offset {offset + error.start:,}; "
            f"convert it, for example with: iconv -f latin1 -t utf-8"
        ) from None
    return text.removeprefix("\ufeff") if offset == 0 else text


def kept_score(part: Part, out: Path, model: str) -> PartScore | None:
    """The score of a part from an earlier run; None where there is none of this very part and model."""
    try:
        with part.result(out).open(encoding="utf-8") as file:
            found = PartScore.from_json(json.loads(file.readline()))
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return found if (found.part, found.model, found.format) == (part, model, FORMAT) else None


def remove_others(parts: list[Part], out: Path) -> None:
    """Remove the scores of ranges that these files no longer have, and what killed workers had begun to write.

    Raises:
        StorageError: A file cannot be removed.
    """
    wanted = {part.result(out) for part in parts}
    try:
        for folder in {path.parent for path in wanted}:
            for path in [*folder.glob("*.jsonl"), *folder.glob(".*.jsonl.*.tmp")]:
                if path not in wanted:
                    path.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"cannot remove an old result: {error}") from error


def result_bytes(score: PartScore, records: list[str]) -> bytes:
    """The content of a part's file: its sums, then a JSON object for each line."""
    return "\n".join([json.dumps(asdict(score)), *records, ""]).encode()
