"""The default tokenization rule of a text, chosen by what the text looks like.

Measured are the first million characters of the training text. Pieces are what stands between white space.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

from .texts import PYDOCS, Texts

NEWEST = {"words": "words-2"}
"""Name of a rule in a training's settings -> its newest form, which the model gets."""

PROSE, TOKENIZED, UNSPACED = "bpe", "whitespace", "characters"
"""Default rule of prose and other raw text, of text that is split into tokens already, and of scripts without spaces
between words."""

_SAMPLE_CHARACTERS = 1_000_000
_UNKNOWN = "<unk>"
_FEWEST_UNKNOWN, _FEWEST_SIGNS = 0.001, 0.02
_MARKS = r""".,;:!?)\]}"'\u2026\u201d\u2019\u00bb\u0964\u0965\u061f\u060c\u061b"""
_TOUCHING = re.compile(rf"[^\s{_MARKS}][{_MARKS}]+(?!\S)")
_APART = re.compile(rf"(?<!\S)[{_MARKS}]+(?!\S)")
_LETTER = re.compile(r"[^\W\d_]")
_UNSPACED_LETTER = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]"
)


@final
@dataclass(frozen=True)
class RuleChoice:
    """A tokenization rule and why it was chosen."""

    rule: str
    reason: str


def choose_rule(texts: Texts) -> RuleChoice:
    """The default rule of a corpus.

    - `whitespace` for text that is split into tokens already: files named `ptb.*.txt` or `wiki.*.tokens`; more than 1
      piece in 1,000 is `<unk>`; more punctuation marks stand apart than touch a word; or fewer than 2 % of the pieces
      end in a mark or are capitalized, so that there is nothing to separate.
    - `characters` where most letters are of a script without spaces between words (Chinese, Japanese, Thai, Lao,
      Khmer, Burmese).
    - `bpe`, which reads and writes any text, for all other text.

    Raises:
        StorageError: The text cannot be read.
    """
    if texts.name == PYDOCS:
        return RuleChoice(PROSE, f"{PYDOCS} is prose")
    if texts.tokenized:
        return RuleChoice(TOKENIZED, f"text in files like {texts.tokenized} is tokenized already")
    return rule_of(_sample(texts.first()))


def rule_of(text: str) -> RuleChoice:
    """The default rule of a text, from the text alone."""
    pieces = text.split()
    most = max(len(pieces), 1)
    if pieces.count(_UNKNOWN) > _FEWEST_UNKNOWN * most:
        return RuleChoice(TOKENIZED, f"the text holds {_UNKNOWN}, so it is tokenized already")
    letters, unspaced = (len(pattern.findall(text)) for pattern in (_LETTER, _UNSPACED_LETTER))
    if unspaced > letters / 2:
        return RuleChoice(UNSPACED, "its script has no spaces between words")
    touching, apart = (len(pattern.findall(text)) for pattern in (_TOUCHING, _APART))
    if apart > touching:
        share = apart / (apart + touching)
        return RuleChoice(TOKENIZED, f"{share:.0%} of its punctuation stands apart, so it is tokenized already")
    capitalized = sum(piece[0].isupper() and piece[1:2].islower() for piece in pieces)
    signs = (touching + capitalized) / most
    if signs < _FEWEST_SIGNS:
        return RuleChoice(TOKENIZED, f"only {signs:.1%} of its words touch punctuation or are capitalized")
    return RuleChoice(PROSE, f"{signs:.0%} of its words touch punctuation or are capitalized, as in prose")


def _sample(text: Iterable[str]) -> str:
    sample = ""
    for chunk in text:
        sample += chunk
        if len(sample) >= _SAMPLE_CHARACTERS:
            break
    return sample[:_SAMPLE_CHARACTERS]
