"""A text typed against suggestions: recall and keystrokes by hand, the corners of the rules, and a control."""

import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lmtool.model import DataError, Run, TypingEvaluation, evaluate_typing
from lmtool.model.keyboard.latencies import Latencies
from lmtool.model.keyboard.lines import LONGEST_LINE, Line, typed_lines, word_spans
from lmtool.model.keyboard.typist import ASKED, Suggester, TypingCounts, Typist
from lmtool.runtime import Autocompletion, OptionError, Predictor, StorageError, Suggestion
from support.corpora import sentences
from support.models.networks import artifact_of, network_of

RANKED = ["the", "cat", "sat", "car", "cap", "mat", "."]
"""The most probable first, after any text."""


@pytest.fixture(scope="module")
def ranked_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose suggestions are known: its logits are constants."""
    tokens = ["<eos>", "<unk>", *RANKED]
    network = network_of((7, 3), vocabulary=len(tokens))
    with torch.no_grad():
        network.projection.weight.zero_()
        network.projection.bias.copy_(torch.tensor([9.0, 8.0, *range(len(RANKED), 0, -1)]))
    path = tmp_path_factory.mktemp("ranked") / "model.onnx"
    path.write_bytes(artifact_of(network, tokens, "words-2"))
    return path


class Scripted:
    """Suggests what a script says for a line, and notes the lines that end."""

    def __init__(self, script: dict[str, list[Suggestion]]) -> None:
        self.script, self.ended = script, list[str]()

    def suggestions(self, line: str) -> Sequence[Suggestion]:
        return self.script.get(line, [])

    def end_line(self, line: str) -> None:
        self.ended.append(line)


class OneKeyLate:
    """The suggestions of another one for the line before the last keystroke."""

    def __init__(self, suggester: Suggester) -> None:
        self.suggester, self.last = suggester, list[Suggestion]()

    def suggestions(self, line: str) -> Sequence[Suggestion]:
        late, self.last = self.last, list(self.suggester.suggestions(line))
        return late

    def end_line(self, line: str) -> None:
        self.suggester.end_line(line)


def typed(suggester: Suggester, text: str, ignore_case: bool = False) -> TypingCounts:
    typist = Typist(suggester, ignore_case)
    for line in typed_lines([text]):
        typist.type(line)
    return typist.counts


def suggestion(text: str, start: int = 0) -> Suggestion:
    return Suggestion(text, start, text, 0.5)


def evaluated(path: Path, text: str, tmp_path: Path, **options: bool) -> TypingEvaluation:
    file = tmp_path / "typed.txt"
    file.write_bytes(text.encode())
    return evaluate_typing(path, str(file), None, **options)


def test_figures_are_those_computed_by_hand(ranked_path: Path, tmp_path: Path) -> None:
    result = evaluated(ranked_path, "the cat sat.\nThe car\n", tmp_path)
    # the 1 (space free), cat 1 (space free), sat 1, "." 1, Enter 1; T + The 2 (space free), c + car 2, Enter 1
    assert (result.letters, result.keystrokes, result.chosen, result.free_spaces) == (21, 10, 5, 3)
    # ranks before the first letter: the 1, cat 2, sat 3, The none, car 4
    assert (result.words, result.top1_words, result.top3_words, result.top5_words) == (5, 1, 3, 4)
    assert (result.top1, result.top3, result.top5) == (1 / 5, 3 / 5, 4 / 5)
    assert result.keystrokes_saved == pytest.approx(1 - 10 / 21)
    assert 0 < result.p50_ms <= result.p99_ms
    assert (result.split, result.unknown) == ("all", 0)


def test_letter_case_can_be_ignored(ranked_path: Path, tmp_path: Path) -> None:
    result = evaluated(ranked_path, "the cat sat.\nThe car\n", tmp_path, ignore_case=True)
    assert (result.top1_words, result.top3_words, result.top5_words, result.keystrokes) == (2, 4, 5, 9)


def test_words_that_the_model_cannot_write_are_typed(ranked_path: Path, tmp_path: Path) -> None:
    result = evaluated(ranked_path, "zebra (cat) dog\n", tmp_path)
    assert (result.words, result.unknown, result.top5_words) == (3, 2, 1)
    assert result.keystrokes == len("zebra (") + 1 + len(") dog\n")


def test_without_a_right_suggestion_every_character_is_a_keystroke() -> None:
    text = "Two  spaces,\ttabs\n\n… \U0001f600 e\u0301 naïve\nend"
    counts = typed(Scripted({}), text)
    assert counts.keystrokes == counts.letters == len(text)
    assert (counts.words, counts.foreseen(ASKED)) == (6, 0)


def test_a_suggestion_of_each_word_leaves_a_key_for_each() -> None:
    line = "it is, so they say"
    starts = [0, 3, 7, 10, 15]
    words = ["it", "is", "so", "they", "say"]
    script = {line[:at]: [suggestion(word)] for at, word in zip(starts, words, strict=True)}
    counts = typed(Scripted(script), f"{line}\n")
    assert counts.keystrokes == len(words) + len(", ") + 1
    assert (counts.chosen, counts.free_spaces, counts.foreseen(1)) == (5, 3, 5)


@pytest.mark.parametrize(
    ("offered", "text", "keystrokes", "chosen"),
    [
        ({"": [suggestion("ca")]}, "cats", 4, 0),  # the middle of a word
        ({"": [suggestion("cats")]}, "cat", 3, 0),  # more than the word
        ({"": [suggestion("cat s")]}, "cat sat", 7, 0),  # a letter of the next word
        ({"": [suggestion("cat")]}, "cat's", 5, 0),
        ({"": [suggestion("cat,")]}, "cat, dog", 1 + 3, 1),  # with a mark; then a free space
        ({"": [suggestion("cat ")]}, "cat dog", 1 + 3, 1),
        ({"": [suggestion("cat")]}, "cat  dog", 1 + 1 + 3, 1),  # one space is free
        ({"": [suggestion("cat")]}, "cat\tdog", 1 + 4, 1),
        ({"": [suggestion("cat")]}, "cat", 1, 1),
        ({"c": [suggestion("cat", -1)]}, "cat", 2, 1),
        ({"c": [suggestion("at")]}, "cat", 2, 1),
        ({"c": [suggestion("at", -2)]}, "cat", 3, 0),  # replaces more than there is
        ({"": [suggestion(word) for word in ("a", "b", "c", "cat")]}, "cat", 3, 0),  # the fourth is not shown
        ({"cat": [suggestion(" dog")]}, "cat dog", 7, 0),  # before the space nobody looks
        ({"--": [suggestion("--help", -2)]}, "--help", 3, 1),
    ],
)
def test_what_is_right_and_what_it_costs(
    offered: dict[str, list[Suggestion]], text: str, keystrokes: int, chosen: int
) -> None:
    counts = typed(Scripted(offered), text)
    assert (counts.keystrokes, counts.chosen, counts.letters) == (keystrokes, chosen, len(text))


def test_late_suggestions_save_less(predictor: Predictor) -> None:
    text = sentences(30, seed=5)
    saved = {
        name: 1 - counts.keystrokes / counts.letters
        for name, counts in (
            ("in time", typed(Autocompletion(predictor, ASKED), text)),
            ("late", typed(OneKeyLate(Autocompletion(predictor, ASKED)), text)),
        )
    }
    assert saved["in time"] > 0.3
    assert saved["late"] < saved["in time"] / 2


def test_a_line_ends_for_the_suggester_as_it_was_typed() -> None:
    suggester = Scripted({})
    typed(suggester, "a cat\n\nsat")
    assert suggester.ended == ["a cat", "", "sat"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't stop: see os.path!", ["Don't", "stop", "see", "os.path"]),
        ("at 10:30, 1,000 well-known--or not", ["at", "10:30", "1,000", "well-known", "or", "not"]),
        ("yes,no (a/b) --flag __init__ ...", ["yes", "no", "a/b", "flag", "__init__"]),
        ("\u092e\u0947\u0902 e\u0301t\u00e9 \u2764\ufe0f \U0001f600", ["\u092e\u0947\u0902", "e\u0301t\u00e9"]),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", ["\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"]),
        (" \u0301 ", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert [text[start:end] for start, end in word_spans(text)] == words


@settings(max_examples=20, derandomize=True)
@given(pieces=st.lists(st.sampled_from(["\n", " ", "word ", "x" * 700, "y " * 900, "z" * 5000]), max_size=8))
def test_lines_do_not_depend_on_how_a_text_is_cut(pieces: list[str]) -> None:
    text = "".join(pieces)
    lines = list(typed_lines([text]))
    assert "".join(line.text + "\n" * line.enters for line in lines) == text
    assert all(len(line.text) <= LONGEST_LINE for line in lines)
    rng = random.Random(len(text))
    cuts = sorted(rng.randrange(len(text) + 1) for _ in range(5))
    assert list(typed_lines([text[a:b] for a, b in zip([0, *cuts], [*cuts, None], strict=True)])) == lines


def test_a_long_line_is_typed_in_parts_between_words() -> None:
    first, second = typed_lines(["word " * 500])
    assert (first, second) == (Line("word " * 400, False), Line("word " * 100, False))
    counts = typed(Scripted({}), "ab " * 10_000 + "\n")
    assert (counts.letters, counts.keystrokes, counts.words) == (30_001, 30_001, 10_000)


def test_percentiles_are_within_half_a_percent() -> None:
    latencies = Latencies()
    assert latencies.percentile_ms(50) == 0
    for milliseconds in range(1, 101):
        latencies.add(milliseconds / 1000)
    assert latencies.percentile_ms(50) == pytest.approx(51, rel=0.006)
    assert latencies.percentile_ms(99) == pytest.approx(100, rel=0.006)


def test_a_split_is_typed_or_its_first_lines(run: Run, artifact_path: Path) -> None:
    result = evaluate_typing(artifact_path, None, None, lines=10)
    again = evaluate_typing(artifact_path, run.corpus_name(), "test", lines=10)
    assert (result.split, result.words > 40) == ("test", True)
    times = {"p50_ms": 0, "p99_ms": 0}
    assert result.to_json() | times == again.to_json() | times


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", DataError, "all of .* holds no word"),
        ("\n \n... !\n", DataError, "all of .* holds no word"),
        ("a\0b\n", StorageError, "NUL"),
    ],
)
def test_a_text_without_words_is_refused(
    ranked_path: Path, tmp_path: Path, text: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        evaluated(ranked_path, text, tmp_path)


def test_wrong_choices_are_refused(ranked_path: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("the cat sat.\n")
    with pytest.raises(OptionError, match="no split 'tset', expected one of train, valid, test, all"):
        evaluate_typing(ranked_path, str(tmp_path / "text.txt"), "tset")
    with pytest.raises(OptionError, match="the number of lines is 0"):
        evaluate_typing(ranked_path, "pydocs", None, lines=0)
    with pytest.raises(DataError, match="lies in no run folder"):
        evaluate_typing(ranked_path, None, None)


def test_a_model_of_characters_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(artifact_of(network_of((7, 3), vocabulary=4), ["\n", "\ufffd", "a", "b"], "characters"))
    with pytest.raises(OptionError, match="reads characters and suggests the next one"):
        evaluate_typing(path, "pydocs", None)


def test_a_named_text_is_typed_without_torch(ranked_path: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("the cat sat.\n")
    code = (
        "import sys; from lmtool.model import evaluate_typing; from pathlib import Path\n"
        f"print(evaluate_typing(Path({str(ranked_path)!r}), {str(tmp_path / 'text.txt')!r}, None).top1_words)\n"
        "print('torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["1", "False"]
