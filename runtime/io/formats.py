"""Formats that are no UTF-8 text, recognized by their first bytes, each with the command that makes text of it."""

from dataclasses import dataclass
from typing import final

GZIP = b"\x1f\x8b"
HEAD_BYTES = 1 << 12
"""Bytes in which a NUL marks a file as binary."""


@final
@dataclass(frozen=True)
class Format:
    """What some bytes are instead of UTF-8 text.

    Attributes:
        name: In words, with its article.
        fix: What to do about it.
        is_text: Whether it is text in another encoding.
    """

    name: str
    fix: str
    is_text: bool = False


def _encoding(name: str) -> Format:
    return Format(f"{name.upper()} text", f"convert it, with: iconv -f {name} -t utf-8", is_text=True)


_PICTURE = "it holds no text"
_SIGNATURES = {
    b"\xff\xfe\0\0": _encoding("utf-32"),
    b"\0\0\xfe\xff": _encoding("utf-32"),
    b"\xff\xfe": _encoding("utf-16"),
    b"\xfe\xff": _encoding("utf-16"),
    GZIP: Format("compressed by gzip", "unpack it, with: gunzip"),
    **{b"BZh%d1AY&SY" % level: Format("compressed by bzip2", "unpack it, with: bunzip2") for level in range(1, 10)},
    b"\xfd7zXZ\0": Format("compressed by xz", "unpack it, with: unxz"),
    b"\x28\xb5\x2f\xfd": Format("compressed by Zstandard", "unpack it, with: unzstd"),
    b"PK\x03\x04": Format(
        "a ZIP archive or an office document", "unpack it, with: unzip; or a document, with: pandoc -t plain"
    ),
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": Format(
        "an office document", "convert it, with: soffice --headless --convert-to txt:Text"
    ),
    b"%PDF-": Format("a PDF document", "convert it, with: pdftotext"),
    b"{\\rtf": Format("an RTF document", "convert it, with: pandoc -f rtf -t plain"),
    b"\x89PNG\r\n": Format("a picture", _PICTURE),
    b"\xff\xd8\xff": Format("a picture", _PICTURE),
}

BINARY = Format("binary data, no text", "NUL bytes can be removed, with: tr -d '\\000'")

_LONGEST_SIGNATURE = max(map(len, _SIGNATURES))


def recognize(head: bytes) -> Format | None:
    """The format that a file beginning with `head` has instead of UTF-8 text; None if no signature matches."""
    return next((kind for signature, kind in _SIGNATURES.items() if head.startswith(signature)), None)


def may_begin_signature(head: bytes) -> bool:
    """Whether more bytes are needed to tell if `head` begins one of the signatures."""
    if len(head) >= _LONGEST_SIGNATURE:
        return False
    return any(signature.startswith(head) and signature != head for signature in _SIGNATURES)


def format_with_nul(offset: int, after: bytes) -> Format:
    """The format of a file whose first NUL is at `offset`; the bytes `after` follow it.

    UTF-16 text that begins with an ASCII character has NUL as its first or second byte. It holds no NUL character,
    which would be two NUL bytes.
    """
    looks_like_text = offset == 1 or (offset == 0 and after[:1] > b"\0")
    if looks_like_text and not _holds_nul_character(after[1 - offset : HEAD_BYTES]):
        return _encoding("utf-16le" if offset else "utf-16be")
    return BINARY


def _holds_nul_character(utf_16: bytes) -> bool:
    return any(not (first or second) for first, second in zip(utf_16[::2], utf_16[1::2], strict=False))


def recognize_binary(head: bytes) -> Format | None:
    """The format of a file that no encoding makes text of; None for text.

    Args:
        head: The first `HEAD_BYTES` of the file.
    """
    kind = recognize(head)
    if kind is None and b"\0" in head:
        before, _, after = head.partition(b"\0")
        kind = format_with_nul(len(before), after)
    return None if kind is None or kind.is_text else kind
