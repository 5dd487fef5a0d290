"""The model card: a README.md that says what a model is, how to run it, and what was measured.

Its head is YAML as Hugging Face's hub reads it. Every figure is from the metadata of the artifacts; what they do not
record is left out. The last line is a hash of the lines before it: an edited card is not replaced.
"""

import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from ...runtime.artifact.artifact import LOGITS, LOGITS_TO_KEEP, NEXT, PRECISIONS, TOKEN_IDS, Artifact
from ...runtime.artifact.facts import fact_text
from ...runtime.artifact.summary import summarize, training_warning
from ...runtime.errors import ArtifactError
from ...runtime.io.files import read_bytes, write_atomically
from ...runtime.predictor import Predictor
from ...runtime.score import format_perplexity
from ..errors import ExportError

CARD = "README.md"
_SEAL = re.compile(rb"<!-- lmtool card ([0-9a-f]{64}) -->\n\Z")
_TEST_TEXT = "the test split of "
_TOKENS_OF_EXAMPLE = {"word": 3, "subword": 4, "char": 12}
_SPECIAL = re.compile(r"[`|<>\\]")
_READS = {
    "words-2": "words in lower case, with every other mark alone",
    "words": "words in lower case, with every other mark alone",
    "whitespace": "words between white space, in their letter case",
    "characters": "characters",
    "bpe": "parts of words, which write any text",
}


class CardFile(NamedTuple):
    """An artifact that a card is about.

    Attributes:
        name: The file, from the card's folder.
        path: Where it is now.
        artifact: Its content.
    """

    name: str
    path: Path
    artifact: Artifact

    @property
    def precision(self) -> str:
        """Its precision."""
        return self.artifact.precision


def exports_beside(path: Path) -> list[CardFile]:
    """An artifact and the others in its folder that hold the same weights: one of each precision, fp32 first.

    Raises:
        ArtifactError: `path` is not an artifact of this version.
        StorageError: It cannot be read.
    """
    own = Artifact.read(path)
    if own.is_of_earlier_version:
        raise ArtifactError(f"{path} is {own.variant} of an earlier version; {own.invariant_instead()}")
    found = {own.precision: CardFile(path.name, path, own)}
    for other in sorted(path.parent.glob("*.onnx")):
        try:
            artifact = Artifact.read(other)
        except ArtifactError:  # a model for sherpa-onnx, say
            continue
        if not artifact.is_of_earlier_version and _weights(artifact) == _weights(own) is not None:
            found.setdefault(artifact.precision, CardFile(other.name, other, artifact))
    return sorted(found.values(), key=lambda file: PRECISIONS.index(file.precision))


def write_card(path: Path) -> Path:
    """Write the card of an artifact, and of its other precisions, as `README.md` beside it.

    Raises:
        ArtifactError: `path` is not an artifact of this version.
        ExportError: There is a `README.md` of other content.
        StorageError: A file cannot be read or written.
    """
    card = path.parent / CARD
    require_own_card(path.parent)
    write_atomically(card, card_bytes(path.parent.resolve().name, exports_beside(path)))
    return card


def require_own_card(folder: Path) -> None:
    """Check that a folder has no `README.md`, or one that this module wrote and that is unchanged.

    Raises:
        ExportError: It has another one.
        StorageError: It cannot be read.
    """
    card = folder / CARD
    if not card.exists():
        return
    data = read_bytes(card)
    seal = _SEAL.search(data)
    if seal is None or seal[1].decode() != hashlib.sha256(data[: seal.start()]).hexdigest():
        raise ExportError(
            f"{card} is not a card of lmtool, or was edited since, and is kept; "
            "move it away, export again, and copy your text into the new one"
        )


def card_bytes(name: str, files: Sequence[CardFile]) -> bytes:
    """The card of a model.

    Args:
        name: What to call it.
        files: Its artifacts, the one to show first.
    """
    lines = [*_head(name, files), "", f"# {_plain(name)}", "", *_run(files[0]), "", *_measured(files)]
    lines += ["", *_training(files[0].artifact), "", *_limits(files), ""]
    text = "".join(f"{line}\n" for line in lines).encode()
    return text + f"<!-- lmtool card {hashlib.sha256(text).hexdigest()} -->\n".encode()


def _head(name: str, files: Sequence[CardFile]) -> list[str]:
    artifact = files[0].artifact
    cell = artifact.architecture.cell
    lines = ["---", "library_name: lmtool", "pipeline_tag: text-generation", "tags:"]
    lines += [f"- {tag}" for tag in ("onnx", cell, "language-model", "streaming")]
    corpus = artifact.training.get("corpus")
    metrics = [
        f"    - {{type: perplexity, name: {_yaml(f'perplexity, {file.precision}')}, value: {value}}}"
        for file in files
        if (value := _test_perplexity(file.artifact)) is not None
    ]
    if metrics:
        lines += ["model-index:", f"- name: {_yaml(name)}", "  results:"]
        lines += ["  - task: {type: text-generation, name: Language modelling}"]
        lines += [f"    dataset: {{type: {_yaml(str(corpus))}, name: {_yaml(str(corpus))}, split: test}}"]
        lines += ["    metrics:", *metrics]
    return [*lines, "---"]


def _run(file: CardFile) -> Iterator[str]:
    architecture, vocabulary = file.artifact.architecture, file.artifact.vocabulary
    summary = summarize(file.artifact, file.path)
    cell, units = architecture.cell.upper(), " and ".join(map(str, architecture.layer_sizes))
    rule, text = vocabulary.tokenization.rule, _example(file)
    yield f"A language model, which predicts the next token of a text: {cell} of {units} units,"
    yield f"{summary.parameters:,} parameters. Its {len(vocabulary):,} tokens are {_READS[rule]} (rule `{rule}`)."
    yield from ("", "## Run it", "", "```python", "from lmtool.runtime import Predictor", "")
    yield f"predictor = Predictor.load({_literal(file.name)})"
    yield "stream = predictor.stream()"
    yield f"stream.feed({text})"
    yield f"print(stream.suggest(5), predictor.score({text}).perplexity)"
    yield from ("```", "", "The block needs [lmtool](https://github.com/lmtool/lmtool) with its extra `cpu`, that is")
    yield from ("numpy and onnxruntime. Other ONNX runtimes run the files without lmtool:", "")
    yield from ("| | name | type | shape |", "|---|---|---|---|", f"| input | `{TOKEN_IDS}` | int64 | [batch, time] |")
    yield from (f"| input | `{state}` | float32 | [batch, {size}] |" for state, size in architecture.states.items())
    yield f"| optional input | `{LOGITS_TO_KEEP}` | int64 | [1]: logits of the last k positions; 0: of all |"
    yield f"| output | `{LOGITS}` | float32 | [batch, kept, {len(vocabulary)}] |"
    for state, size in architecture.states.items():
        yield f"| output | `{NEXT}{state}` | float32 | [batch, {size}] |"
    end = vocabulary.end_of_sentence_id
    yield from ("", f"The states are zeros first, then the `{NEXT}` outputs of the call before. A text begins with the")
    yield f"token {end}, the end of a sentence. The vocabulary is in the file's metadata, under `lmtool.vocabulary`."


def _example(file: CardFile) -> str:
    """A text that the model itself finds probable, as a literal of Python."""
    vocabulary = file.artifact.vocabulary
    stream = Predictor.load(file.path).stream()
    pieces = stream.generate(_TOKENS_OF_EXAMPLE[vocabulary.tokenization.unit], method="greedy")
    return _literal(" ".join("".join(pieces).split()))


def _measured(files: Sequence[CardFile]) -> Iterator[str]:
    first = files[0].artifact
    parity = first.parity
    yield from ("## Sizes, quality and parity", "")
    if parity:
        original = _perplexity(parity.get("original_perplexity"))
        yield f"Measured at export on {_plain(fact_text(parity.get('text')))}, {_count(parity.get('tokens'))} tokens."
        yield f"Differences are from the PyTorch network, whose perplexity is {original}."
        if _test_perplexity(first) is not None and _is_number(first.training.get("unigram_perplexity")):
            yield f"That of word frequencies alone is {_perplexity(first.training['unigram_perplexity'])}."
        yield ""
    yield "| file | precision | bytes | perplexity | largest logit difference | other greedy tokens | batch-invariant |"
    yield "|---|---|---:|---:|---:|---:|---|"
    for file in files:
        found, artifact = file.artifact.parity, file.artifact
        logit = _mapping(found.get("largest_differences")).get(LOGITS)
        loop = f"{_count(found.get('loop_differences'))} of {_count(found.get('loop_steps'))}"
        cells = (f"`{_plain(file.name)}`", file.precision, f"{file.path.stat().st_size:,}")
        figures = (_perplexity(found.get("artifact_perplexity")), f"{logit:.2g}" if _is_number(logit) else "-", loop)
        yield f"| {' | '.join((*cells, *figures, fact_text(artifact.batch_invariant)))} |"
    yield from ("", "SHA-256 of each file, with its own 64 digits in `lmtool.sha256` taken as zeros:", "")
    yield from (f"- `{_plain(file.name)}`: `{file.artifact.sha256}`" for file in files)


def _training(artifact: Artifact) -> Iterator[str]:
    yield from ("## Training", "")
    if not artifact.training:
        yield "Not recorded."
        return
    yield from ("| | |", "|---|---|")
    for key, value in artifact.training.items():
        if value is None:
            continue
        label = key.replace("sha256", "SHA-256").replace("_", " ")
        yield f"| {_plain(label)} | {_plain(fact_text(value))} |"


def _limits(files: Sequence[CardFile]) -> Iterator[str]:
    artifact = files[0].artifact
    tokenization, corpus = artifact.vocabulary.tokenization, artifact.training.get("corpus")
    yield from ("## Limits", "")
    if corpus is None:
        yield "- What it learnt from is not recorded."
    else:
        yield f"- It learnt from one corpus, {_plain(str(corpus))}, and expects text like it."
    if tokenization.unit != "subword":
        yield f"- All {tokenization.reads} outside its vocabulary are one token to it."
    if _test_perplexity(artifact) is None:
        yield "- Its quality was not measured on a text."
    else:
        yield "- Its quality was measured on the test split of that corpus and nowhere else."
    if warning := training_warning(artifact.training):
        yield f"- {warning[:1].upper()}{warning[1:]}."
    yield "- It writes what is probable, true or not. Bias and harmful output were not measured."


def _test_perplexity(artifact: Artifact) -> float | None:
    """The artifact's perplexity on the test split of its corpus; None where it was measured on another text."""
    value, text = artifact.parity.get("artifact_perplexity"), artifact.parity.get("text")
    known = isinstance(text, str) and text == f"{_TEST_TEXT}{artifact.training.get('corpus')}"
    return value if known and _is_number(value) else None


def _weights(artifact: Artifact) -> tuple[str, str] | None:
    weights = artifact.parity.get("original_sha256")
    return None if weights is None else (weights, artifact.vocabulary.sha256)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _perplexity(value: Any) -> str:
    return format_perplexity(value) if _is_number(value) else "-"


def _count(value: Any) -> str:
    return f"{value:,}" if _is_number(value) else "-"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _plain(text: str) -> str:
    """Text that means nothing to Markdown or HTML; the names of corpora and folders are anybody's."""
    return _SPECIAL.sub("_", "".join(character if character.isprintable() else "_" for character in text))


def _literal(text: str) -> str:
    """A string of Python that does not end a block of Markdown."""
    return repr(text).replace("`", "\\x60")


def _yaml(text: str) -> str:
    """A YAML string: JSON with the characters escaped that YAML does not allow in a file."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'
