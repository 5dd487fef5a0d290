"""The tokens of a network from elsewhere: the vocabulary's file, and the names of its special tokens."""

from collections.abc import Sequence
from pathlib import Path

from ...runtime.errors import JsonError, OptionError, VocabularyError, counted
from ...runtime.io.files import read_bytes
from ...runtime.io.json_reader import LARGE_BYTES, parse_json
from ...runtime.io.text_files import decode_text
from ...runtime.tokenization import RULES, Tokenization
from ...runtime.vocabulary import Vocabulary

UNKNOWN = ("<unk>", "<UNK>", "[UNK]", "UNK", "unk", "<unknown>", "<oov>", "<OOV>", "xxunk", "\ufffd")
END_OF_SENTENCE = ("<eos>", "<EOS>", "[EOS]", "</s>", "<sos/eos>", "<|endoftext|>", "xxeos", "eos", "\n")
"""Names of the special tokens in other programs."""

_FEWEST_CHARACTERS = 0.9
"""Share of tokens of one character in a vocabulary of characters; others are special tokens."""


def numbered(size: int) -> Vocabulary:
    """The vocabulary 0, 1, ...; token 0 stands for unknown words and for the end of a sentence."""
    tokens = [str(number) for number in range(size)]
    return Vocabulary(tokens, Tokenization("whitespace", unknown="0", end_of_sentence="0"))


def read_tokens(path: Path) -> list[str]:
    """The tokens of a file, in the order of their ids.

    It holds a token a line (the first has the id 0), or a token and its id a line; or as JSON a list of tokens or an
    object of token and id.

    Raises:
        StorageError: The file cannot be read or is not UTF-8.
        VocabularyError: It has another form, or ids are missing.
    """
    data = read_bytes(path)
    if path.suffix == ".json":
        return _of_json(path, data)
    lines = decode_text(data, str(path)).removesuffix("\n").split("\n")
    pairs = [line.rsplit(maxsplit=1) for line in lines]
    if all(len(pair) == 2 and pair[1].isdecimal() and len(pair[1]) < 10 for pair in pairs):
        return _by_id(path, {pair[0]: int(pair[1]) for pair in pairs})
    return lines


def _of_json(path: Path, data: bytes) -> list[str]:
    try:
        value = parse_json(data, LARGE_BYTES)
    except JsonError as error:
        raise VocabularyError(f"{path} {error}") from error
    if isinstance(value, list) and all(isinstance(token, str) for token in value):
        return value
    if isinstance(value, dict) and value and all(type(index) is int for index in value.values()):
        return _by_id(path, value)
    raise VocabularyError(
        f"{path} is JSON of another kind, expected a list of tokens, or an object of tokens and their ids (a "
        "tokenizer.json of another name: --set tokenization=bpe)"
    )


def _by_id(path: Path, ids: dict[str, int]) -> list[str]:
    ordered = sorted(ids, key=ids.__getitem__)
    if sorted(ids.values()) != list(range(len(ids))):
        wrong = next(place for place, token in enumerate(ordered) if ids[token] != place)
        raise VocabularyError(
            f"{path} has {counted(len(ids), 'token')}, expected each id from 0 to {len(ids) - 1:,} once; found "
            f"{ids[ordered[wrong]]} where {wrong} is expected"
        )
    return ordered


def vocabulary_of(
    tokens: Sequence[str], rule: str | None = None, unknown: str | None = None, end_of_sentence: str | None = None
) -> Vocabulary:
    """The vocabulary of these tokens.

    Args:
        tokens: Index = id.
        rule: Tokenization rule; None for `characters` if nearly all tokens are, else `whitespace`.
        unknown: The token that stands for all others; None for the one with a name that is usual for it.
        end_of_sentence: The token of a newline; as `unknown`.

    Raises:
        OptionError: A special token is not there, or none or several have a usual name; or the rule has merges.
        VocabularyError: As for `Vocabulary`.
    """
    chosen = rule or _rule(tokens)
    if RULES.get(chosen) == "subword":
        raise OptionError(f"tokenization={chosen} needs its merges: --vocabulary tokenizer.json")
    unknown = _special(tokens, "unknown", "--unknown", unknown, UNKNOWN)
    end_of_sentence = _special(tokens, "end of a sentence", "--end-of-sentence", end_of_sentence, END_OF_SENTENCE)
    return Vocabulary(tokens, Tokenization(chosen, unknown, end_of_sentence))


def require_size(vocabulary: Vocabulary, size: int, source: str) -> None:
    """VocabularyError unless the vocabulary, which is from `source`, has a token for each row of the network."""
    if len(vocabulary) != size:
        raise VocabularyError(f"{source} has {len(vocabulary):,} tokens, the network {size:,} rows, one for each token")


def _rule(tokens: Sequence[str]) -> str:
    ordinary = [token for token in tokens if token not in (*UNKNOWN, *END_OF_SENTENCE)]
    characters = sum(len(token) == 1 for token in ordinary)
    return "characters" if characters > _FEWEST_CHARACTERS * len(ordinary) else "whitespace"


def _special(tokens: Sequence[str], what: str, option: str, named: str | None, usual: Sequence[str]) -> str:
    present = set(tokens)
    if named is not None:
        if named not in present:
            raise OptionError(f"{option} {named!r} is no token of the vocabulary of {len(tokens):,} tokens")
        return named
    found = [token for token in usual if token in present]
    if len(found) == 1:
        return found[0]
    known = f"found {' and '.join(map(repr, found))}" if found else f"none of {', '.join(map(repr, usual))} is there"
    raise OptionError(f"which of the {len(tokens):,} tokens is the {what}? {known}; name it: {option} TOKEN")
