"""Make n-best lists of a recogniser from a text: speech by flite, lists by pocketsphinx.

    python bench/studies/nbest_lists.py --text FILE --lists FILE --references FILE [--sentences N] [--hypotheses N]

flite is a program (Debian: `apt install flite`), pocketsphinx a Python package with its US English model. Every
sentence of the text is spoken by the next of three voices, decoded, and written as a line of JSON,
`{"id": ..., "hypotheses": [{"text": ..., "score": ...}, ...]}`, with its reference as
`{"id": ..., "text": ...}`.
The hypotheses are the first different paths of the recogniser's lattice, in its order.

Sentences of the Penn Treebank have tokens that cannot be spoken: those with `<unk>`, `N`, marks, digits or hyphens are
left out, and those of fewer than 4 or more than 30 tokens. References and hypotheses are written alike, as the Treebank
writes them: `do n't`, `caller 's`, `u.s.`, `mr.`.
"""

import argparse
import json
import math
import re
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.program import run_program
from lmtool.runtime.io.text_files import read_text

if TYPE_CHECKING:
    from pocketsphinx import Decoder

VOICES = ("slt", "rms", "awb")
SAMPLE_RATE = 16_000
_HEADER_BYTES = 44
_MOST_PATHS = 5_000
_SCORE_SCALE = 1_024
"""The decoder divides log-probabilities by this."""

_SPOKEN = re.compile(r"[a-z]+|'[a-z]*|mrs?\.|ms\.|dr\.|n't|(?:[a-z]\.)+")
_TITLES = {"mister": "mr.", "missus": "mrs.", "miz": "ms.", "doctor": "dr."}
_SPELLED = re.compile(r"(?:(?<= )|^)[b-hj-z]\.?(?: [b-hj-z]\.?)+(?= |$)")
_CONTRACTION = re.compile(r"(?<=[a-z.])(n't|'(?:s|re|ve|ll|d|m)?)(?= |$)")


def is_spoken(tokens: list[str]) -> bool:
    """Whether a sentence of the Treebank can be spoken, and its words written again from the sound."""
    return 4 <= len(tokens) <= 30 and all(map(_SPOKEN.fullmatch, tokens))


def spoken(tokens: list[str]) -> str:
    """The text of tokens: contractions are one word."""
    return re.sub(r" (n't|'[a-z]*)(?= |$)", r"\1", " ".join(tokens))


def written(text: str) -> str:
    """The words that the recogniser heard as tokens of the Treebank."""
    words = " ".join(_TITLES.get(word, word) for word in text.split())
    return _CONTRACTION.sub(r" \1", _SPELLED.sub(_joined, words))


def _joined(letters: re.Match[str]) -> str:
    """`u. s.` and `u s` as `u.s.`."""
    return "".join(f"{letter}." for letter in re.findall("[a-z]", letters[0]))


def sound(text: str, voice: str, folder: Path) -> bytes:
    """Speech, 16 bits a sample."""
    path = folder / "speech.wav"
    subprocess.run(["/usr/bin/env", "flite", "-voice", voice, "-t", text, "-o", path], check=True)
    data = path.read_bytes()
    rate = int.from_bytes(data[24:28], "little")
    assert rate == SAMPLE_RATE, f"flite's voice {voice} speaks at {rate} Hz"
    return data[_HEADER_BYTES:]


def decoded(decoder: "Decoder", samples: bytes, most: int) -> dict[str, Any]:
    """The n-best list of an utterance, without repeated texts, and the recogniser's own result."""
    decoder.start_utt()
    decoder.process_raw(samples, full_utt=True)
    decoder.end_utt()
    found: dict[str, float] = {}
    for path in islice(decoder.nbest(), _MOST_PATHS):
        if len(found) == most or path is None:
            break
        if path.score > 0:  # it underflows for a bad path of a long sentence
            found.setdefault(written(path.hypstr), round(math.log(path.score) * _SCORE_SCALE, 3))
    best = decoder.hyp()
    return {
        "result": "" if best is None else written(best.hypstr),
        "hypotheses": [{"text": text, "score": score} for text, score in found.items()],
    }


def lists(sentences: list[list[str]], most: int) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    """The n-best list and the reference of each sentence that has a list."""
    from pocketsphinx import Decoder

    decoder = Decoder(loglevel="ERROR", samprate=SAMPLE_RATE)
    with tempfile.TemporaryDirectory() as folder:
        for number, tokens in enumerate(sentences):
            voice = VOICES[number % len(VOICES)]
            samples = sound(spoken(tokens), voice, Path(folder))
            found = decoded(decoder, samples, most)
            name = f"{voice}{number:04}"
            if found["hypotheses"]:
                yield {"id": name, **found}, {"id": name, "text": " ".join(tokens)}
            else:
                print(f"no hypotheses: {name}")


def main() -> None:
    """Parse the arguments, speak and decode, write both files."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--text", type=Path, required=True, help="a split of the Penn Treebank")
    parser.add_argument("--lists", type=Path, required=True, help="file for the lists")
    parser.add_argument("--references", type=Path, required=True, help="file for the references")
    parser.add_argument("--sentences", type=int, help="number of sentences; all by default")
    parser.add_argument("--hypotheses", type=int, default=100, help="most hypotheses of a list")
    options = parser.parse_args()
    tokens = [line.split() for line in read_text(options.text).splitlines()]
    sentences = list(islice(filter(is_spoken, tokens), options.sentences))
    print(f"{len(sentences):,} of {len(tokens):,} sentences")
    with options.lists.open("w") as lists_file, options.references.open("w") as references_file:
        for nbest, reference in lists(sentences, options.hypotheses):
            lists_file.write(f"{json.dumps(nbest)}\n")
            references_file.write(f"{json.dumps(reference)}\n")
            lists_file.flush()
            references_file.flush()


if __name__ == "__main__":
    run_program(main)
