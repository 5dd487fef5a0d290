"""The tokens of a speech recognizer: `tokens.txt` has a symbol and its id on each line; 0 is the blank.

sherpa-onnx knows byte-pair encoding in two forms:

- text, where `▁` at the start is a space and `<0xE4>` a byte (sentencepiece);
- bytes, a character each (icefall's "bbpe"): `▁` at the start is a space, other printable ASCII stands for itself, and
  the other bytes, in order, are the characters from U+0100 on that NFKC does not change.

A table is in the second form if its largest character, but for `▁` at the start, lies in U+0180 to U+01BF.
"""

import itertools
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from ...runtime.errors import counted
from ...runtime.io.text_files import read_text
from ...runtime.text.byte_alphabet import bytes_of, token_of
from ...runtime.vocabulary import Vocabulary
from ..errors import ExportError

BLANK = "<blk>"
SPACE = "\u2581"
_LARGEST = range(0x180, 0x1C0)
_MOST_DIGITS = 9
"""Longest id of a token."""
_byte = re.compile("<0x([0-9A-F]{2})>").fullmatch
_is_special = re.compile(r"<[^<>]+>|#\d+").fullmatch
"""Symbols that are never recognized: `<sos/eos>`, `<unk>`, `#0`."""


def _symbols_of_bytes() -> list[str]:
    others = (char for char in map(chr, itertools.count(0x100)) if unicodedata.normalize("NFKC", char) == char)
    return [chr(byte) if 0x20 <= byte < 0x7F else next(others) for byte in range(0x100)]


_SYMBOLS = [SPACE if symbol == " " else symbol for symbol in _symbols_of_bytes()]
"""Index = byte: its character in the form of bytes."""
_BYTES = {symbol: byte for byte, symbol in enumerate(_SYMBOLS)}


def read_recognizer_tokens(path: Path) -> list[str]:
    """Read the symbols of a `tokens.txt` in the order of their ids.

    Raises:
        ExportError: A line is malformed, or the ids are not 0 to one less than their number.
        StorageError: The file cannot be read or is not UTF-8.
    """
    entries = []
    for number, line in enumerate(read_text(path).rstrip().split("\n"), 1):
        symbol, _, index = line.strip(" \t\r").replace("\t", " ").rpartition(" ")
        if not index.isdecimal() or len(index) > _MOST_DIGITS:
            raise ExportError(f"{path}, line {number}: found {line!r}, expected a symbol, a space and its id")
        entries.append((int(index), symbol.rstrip(" ") or " "))  # a line without a symbol is the space
    entries.sort()
    if [index for index, _ in entries] != list(range(len(entries))):
        found = counted(len(entries), "line")
        raise ExportError(f"{path} has {found}, expected each id from 0 to {len(entries) - 1:,} once")
    return [symbol for _, symbol in entries]


def recognizer_tokens(vocabulary: Vocabulary) -> list[str]:
    """The symbols of a recognizer of the tokens of a vocabulary of rule `bpe`: the blank, then each token.

    A token that has a space elsewhere than at its start, which sherpa-onnx cannot read, is `<ID>`.
    """
    return [BLANK, *(_symbol_of(token, index, vocabulary) for index, token in enumerate(vocabulary.tokens))]


def _symbol_of(token: str, index: int, vocabulary: Vocabulary) -> str:
    if index == vocabulary.unknown_id:
        return token
    data = bytes_of(token)
    return f"<{index + 1}>" if b" " in data[1:] else "".join(_SYMBOLS[byte] for byte in data)


def tokens_text(symbols: Sequence[str]) -> str:
    """The `tokens.txt` of these symbols."""
    return "".join(f"{symbol} {index}\n" for index, symbol in enumerate(symbols))


def ids_of(symbols: Sequence[str], vocabulary: Vocabulary) -> list[int]:
    """The id in the vocabulary of each recognizer token.

    The blank, which is never read or scored, gets the id of the end of a sentence, after which a text begins. Tokens
    outside the vocabulary get the id of its unknown token.

    Raises:
        ExportError: The vocabulary has none of the tokens; for `bpe`, which has no unknown words, it lacks one.
    """
    find = _ids_of_parts if vocabulary.tokenization.unit == "subword" else _ids_of_words
    return [vocabulary.end_of_sentence_id, *find(symbols[1:], vocabulary)]


def _ids_of_words(symbols: Sequence[str], vocabulary: Vocabulary) -> list[int]:
    words = [symbol for symbol in symbols if symbol not in vocabulary.tokenization.specials]
    if not any(word in vocabulary for word in words):
        raise ExportError(
            f"none of the recognizer's {len(symbols) + 1:,} tokens ({_first(words)}, ...) is in the vocabulary of "
            f"{len(vocabulary):,}; train on text that is split into the recognizer's tokens"
        )
    return list(map(vocabulary.id, symbols))


def _ids_of_parts(symbols: Sequence[str], vocabulary: Vocabulary) -> list[int]:
    """The ids in a vocabulary of rule `bpe`; symbols that are never recognized are its unknown token."""
    bytes_of_symbol = _bytes_in_bytes if _are_bytes(symbols) else _bytes_in_text
    tokens = {symbol: token_of(bytes_of_symbol(symbol)) for symbol in symbols}
    missing = [symbol for symbol, token in tokens.items() if token not in vocabulary and not _is_special(symbol)]
    if missing:
        raise ExportError(
            f"{len(missing):,} of the recognizer's {len(symbols) + 1:,} tokens ({_first(missing)}, ...) are not among "
            f"the {len(vocabulary):,} parts of words of the model; train on text that is split into the recognizer's "
            "tokens: --set tokenization=whitespace"
        )
    return [vocabulary.id(tokens[symbol]) for symbol in symbols]


def _first(symbols: Sequence[str]) -> str:
    return ", ".join(map(repr, symbols[:3]))


def _are_bytes(symbols: Sequence[str]) -> bool:
    """Whether the table is in the form of bytes."""
    return ord(max("".join(symbol.removeprefix(SPACE) for symbol in symbols), default="\0")) in _LARGEST


def _bytes_in_text(symbol: str) -> bytes:
    if byte := _byte(symbol):
        return bytes.fromhex(byte[1])
    return re.sub(f"^{SPACE}", " ", symbol).encode()


def _bytes_in_bytes(symbol: str) -> bytes:
    """The bytes; none if the symbol has other characters."""
    data = list(map(_BYTES.get, symbol))
    return bytes(byte for byte in data if byte is not None) if None not in data else b""
