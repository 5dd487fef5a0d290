"""Parts of a folder's files: byte ranges, the lines in them, their scores, and the result files.

One worker scores a part and writes one result file, atomically. Its first line records what was scored (file, size,
time, range, model), so that a later run can tell whether to keep it.
"""

import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, final

from lmtool.runtime import Predictor, Score, StorageError
from lmtool.runtime.io.files import RETRY_AFTER_SECONDS, json_text, make_folder, write_atomically
from lmtool.runtime.io.text_files import decode_text

FORMAT = 1
"""Format of a result file: the first line is a `PartScore`, each other line the score of a line."""

LONGEST_LINE_BYTES = 1 << 24
_SKIP_BYTES = 1 << 16


@final
@dataclass(frozen=True)
class Part:
    """The lines of a file that begin within a byte range.

    Attributes:
        file: The file's path below the folder, with slashes.
        start: The range's first byte.
        end: The byte after its last one.
        size_bytes: Size of the whole file.
        mtime_ns: The file's modification time.
    """

    file: str
    start: int
    end: int
    size_bytes: int
    mtime_ns: int

    def result(self, out: Path) -> Path:
        """The part's result file in the folder `out`."""
        return out / self.file / f"{self.start:015d}.jsonl"


@final
@dataclass(frozen=True)
class PartScore:
    """The score of a part, summed over its lines.

    Attributes:
        part: The part.
        model: Hash of the artifact.
        lines: Number of lines.
        tokens: Number of tokens.
        unknown: Number of unknown tokens.
        log_prob: Natural log-probability.
        format: Format of the result file.
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
        """Read the JSON of `dataclasses.asdict`.

        Raises:
            TypeError: The fields are wrong.
            KeyError: There is no part.
        """
        return cls(**{**value, "part": Part(**value["part"])})


def find_parts(folder: Path, pattern: str, part_bytes: int) -> list[Part]:
    """The parts of all files below a folder, except hidden and empty ones.

    Args:
        folder: The folder.
        pattern: Glob pattern of the file names, such as `*.txt`.
        part_bytes: Size of a part; the last one of a file may be smaller.

    Raises:
        StorageError: The folder is missing, or no file matches the pattern.
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
    status = path.stat()
    for start in range(0, status.st_size, part_bytes):
        end = min(start + part_bytes, status.st_size)
        yield Part(path.relative_to(folder).as_posix(), start, end, status.st_size, status.st_mtime_ns)


def read_lines(part: Part, folder: Path) -> Iterator[tuple[int, str]]:
    """The lines of a part: offset in the file, and text without the newline.

    Raises:
        StorageError: The file cannot be read, is not UTF-8, has a line that is too long, or was changed.
    """
    path = folder / part.file
    try:
        with path.open("rb") as file:
            offset = _first_line(file, part)
            while offset < part.end and (line := file.readline(LONGEST_LINE_BYTES + 1)):
                yield offset, _text(line, offset, path)
                offset += len(line)
        status = path.stat()
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
    if (status.st_size, status.st_mtime_ns) != (part.size_bytes, part.mtime_ns):
        raise StorageError(f"{path} was changed while it was being scored; score it again")


def _first_line(file: BinaryIO, part: Part) -> int:
    """Where the part's first line begins; at or after the part's end if no line begins in it."""
    if part.start == 0:
        return 0
    file.seek(part.start - 1)
    while file.tell() < part.end:
        piece = file.readline(_SKIP_BYTES)
        if not piece or piece.endswith(b"\n"):
            break
    return file.tell()


def _text(line: bytes, offset: int, path: Path) -> str:
    if len(line) > LONGEST_LINE_BYTES:
        raise StorageError(
            f"{path} has a line of more than {LONGEST_LINE_BYTES:,} bytes at offset {offset:,}; break it up"
        )
    return decode_text(line.removesuffix(b"\n").removesuffix(b"\r"), str(path), offset)


def score_part(predictor: Predictor, part: Part, folder: Path, out: Path, model: str) -> PartScore:
    """Score the lines of a part and write them to its file.

    Raises:
        StorageError: The part cannot be read, or the file cannot be written.
        NumberError: A log-probability is NaN or infinite.
    """
    records: list[str] = []
    log_prob, tokens, unknown = 0.0, 0, 0
    lines, same_lines = itertools.tee(read_lines(part, folder))
    # The scores are ahead of the offsets by a window of lines, which `tee` keeps.
    scores = predictor.scores(text for _, text in lines)
    for score, (offset, _) in zip(scores, same_lines, strict=True):
        records.append(_record(offset, score))
        log_prob, tokens, unknown = log_prob + score.log_prob, tokens + len(score.tokens), unknown + score.unknown
    result = PartScore(part, model, len(records), tokens, unknown, log_prob)
    make_folder(part.result(out).parent)
    write_atomically(part.result(out), _result_bytes(result, records), RETRY_AFTER_SECONDS)
    return result


def _record(offset: int, score: Score) -> str:
    fields = {"log_prob": score.log_prob, "tokens": len(score.tokens), "unknown": score.unknown}
    return json_text({"offset": offset, **fields, "perplexity": score.perplexity})


def kept_score(part: Part, out: Path, model: str) -> PartScore | None:
    """The score of a part from an earlier run; None if that is missing or of another part or model."""
    try:
        with part.result(out).open(encoding="utf-8") as file:
            score = PartScore.from_json(json.loads(file.readline()))
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return score if (score.part, score.model, score.format) == (part, model, FORMAT) else None


def remove_others(parts: list[Part], out: Path) -> None:
    """Remove results of other ranges of these files, and the temporary files of killed workers.

    Raises:
        StorageError: A file cannot be removed.
    """
    current = {part.result(out) for part in parts}
    try:
        for folder in {path.parent for path in current}:
            for path in [*folder.glob("*.jsonl"), *folder.glob(".*.jsonl.*.tmp")]:
                if path not in current:
                    path.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"cannot remove an old result: {error}") from error


def _result_bytes(score: PartScore, records: list[str]) -> bytes:
    """The content of a result file: the sums, then a JSON object for each line."""
    return "\n".join([json.dumps(asdict(score)), *records, ""]).encode()
