"""Text cases: every implementation of a tokenization gives the same ids and the same text."""

import json
from pathlib import Path

import pytest
from lmtool.export.test_vectors.text_cases import NAME, text_cases, write_text_cases
from lmtool.runtime import Tokenization, Vocabulary
from support.cpp import build_check, execute
from support.models.subwords import MERGES, bpe_vocabulary
from support.web.javascript import NODE, evaluate, run_node

RULES = ["bpe", "characters", "whitespace", "words-2"]
CASES = 2522


def vocabulary_of(rule: str) -> Vocabulary:
    """Of other rules than `bpe` four of five tokens of the texts, so that another splitting gives other ids."""
    if rule == "bpe":
        return bpe_vocabulary()
    tokenization = Tokenization.of_rule(rule)
    texts = text_cases(Vocabulary(tokenization.specials, tokenization))["texts"]
    tokens = {token for case in texts for token in tokenization.split(case["text"])} - set(tokenization.specials)
    kept = [token for place, token in enumerate(sorted(tokens)) if place % 5]
    return Vocabulary([*tokenization.specials, *kept], tokenization)


@pytest.fixture(scope="module", params=RULES)
def cases(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    return write_text_cases(vocabulary_of(request.param), "model.onnx", "0" * 64, folder)


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_check(tmp_path_factory.getbasetemp() / "cpp_check")


def damaged(path: Path, folder: Path) -> Path:
    """The file with one wrong id and one wrong text."""
    content = json.loads(path.read_text())
    next(case for case in content["texts"] if case["text"].isascii())["ids"].append(0)
    content["ids"][3]["decoded"] += "x"
    wrong = folder / NAME
    wrong.write_text(json.dumps(content))
    return wrong


def test_javascript_agrees(cases: Path, tmp_path: Path) -> None:
    finished = run_node(NODE / "check_texts.mjs", cases)
    rule = json.loads(cases.read_text())["tokenization"]["rule"]
    assert finished.stdout.splitlines() == [f"{CASES} cases of the rule {rule}, 0 differ"], finished.stderr
    assert finished.returncode == 0
    finished = run_node(NODE / "check_texts.mjs", damaged(cases, tmp_path))
    assert (finished.returncode, finished.stdout.splitlines()[-1]) == (1, f"{CASES} cases of the rule {rule}, 2 differ")


def test_cpp_agrees(cases: Path, check: Path, tmp_path: Path) -> None:
    """Words of other scripts than Latin are refused, see the program's README."""
    finished = execute(check, cases)
    rule = json.loads(cases.read_text())["tokenization"]["rule"]
    (line,) = finished.stdout.decode().splitlines()
    assert finished.returncode == 0, line
    compared = int(line.split()[0])
    assert line == f"{compared} cases of the rule {rule}, 0 differ"
    assert compared == CASES - 100 if rule == "bpe" else compared > 100
    assert execute(check, damaged(cases, tmp_path)).returncode == 1


@pytest.mark.parametrize(
    ("merges", "message"),
    [
        (["th e", "t h"], "merge 1 of its tokenization is 'th e', expected two tokens"),
        (["t h", "t h"], "merge 2 of its tokenization"),
        (["\u010a a"], "no newline"),
        (["u n", "< un", "<un k>"], "merge 3 of its tokenization"),
        ([], "holds other ones than the bytes"),
        ([*MERGES, "z z"], "its vocabulary lacks the token 'zz'"),
    ],
)
def test_cpp_refuses_merges_that_do_not_fit(check: Path, tmp_path: Path, merges: list[str], message: str) -> None:
    content = text_cases(bpe_vocabulary())
    content["tokenization"]["merges"] = merges
    (tmp_path / NAME).write_text(json.dumps(content))
    finished = execute(check, tmp_path / NAME)
    assert (finished.returncode, finished.stdout) == (1, b"")
    assert message in finished.stderr.decode()


def test_javascript_refuses_merges_that_do_not_fit() -> None:
    source = """
    import { Tokenization } from "./tokenization.mjs";
    import { Vocabulary } from "./vocabulary.mjs";
    const made = ({ tokenization, tokens }) => {
      try {
        new Vocabulary(tokens, new Tokenization(tokenization));
        return "";
      } catch (error) {
        return `${error.name}: ${error.message}`;
      }
    };
    give(given.map(made));
    """
    good = bpe_vocabulary()
    fields, tokens = good.tokenization.to_json(), list(good.tokens)
    wrong = {
        "": (fields, tokens),
        "merge 1 of its tokenization": ({**fields, "merges": ["th e", "t h"]}, tokens),
        "merge 2 of its tokenization": ({**fields, "merges": ["t h", "t h"]}, tokens),
        "no newline": ({**fields, "merges": ["\u010a a"]}, tokens),
        'is "< unk>"': ({**fields, "merges": ["u n", "un k", "unk >", "< unk>"]}, tokens),
        "no list of strings": ({**fields, "merges": [1]}, tokens),
        "only bpe has any": ({**fields, "rule": "words"}, tokens),
        "the rule bpe has <unk>": ({**fields, "end_of_sentence": "<eos>"}, tokens),
        "lacks the token": (fields, tokens[:-1]),
        "which is no byte": (fields, [*tokens, "zebra"]),
    }
    given = [{"tokenization": tokenization, "tokens": words} for tokenization, words in wrong.values()]
    for reason, message in zip(wrong, evaluate(source, given), strict=True):
        assert reason in message
        assert message.startswith("ArtifactError: ") or not reason
