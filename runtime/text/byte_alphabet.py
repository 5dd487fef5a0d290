"""Bytes as printable characters, the alphabet of byte-level tokens that GPT-2 introduced: a space is `Ġ`, LF is `Ċ`.

Bytes that are printable in Latin-1 stand for themselves; the others, in order, are U+0100, U+0101, ...
"""

_PRINTABLE = frozenset([*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)])


def _characters() -> str:
    others = iter(range(0x100, 0x200))
    return "".join(chr(byte if byte in _PRINTABLE else next(others)) for byte in range(256))


BYTE_TOKENS = _characters()
"""Index = byte: its character."""

_TO_TOKEN = {byte: ord(character) for byte, character in enumerate(BYTE_TOKENS)}
_TO_BYTE = {code: byte for byte, code in _TO_TOKEN.items()}


def token_of(data: bytes) -> str:
    """The bytes, a character each."""
    return data.decode("latin-1").translate(_TO_TOKEN)


def bytes_of(token: str) -> bytes:
    """The bytes of a text in this alphabet."""
    return token.translate(_TO_BYTE).encode("latin-1", "replace")
