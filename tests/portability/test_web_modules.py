"""The browser example's modules compared with Python: tokenization, artifact reader, probabilities, random numbers."""

import random
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lmtool.model import Run
from lmtool.runtime import Artifact, ArtifactError, Sampling, Tokenization
from support.models.networks import artifact_of, network_of
from support.models.subwords import MERGES, bpe_artifact
from support.prose import PROSE, SAME
from support.web.javascript import evaluate

WORDS = ["<eos>", "<unk>", "the", "(", ")", ".", "foo", "for", "os.path", "don't", "caf\u00e9"]
ODD = [
    *("", " ", "\n", "\n\n", "don't", "DON\u2019T", "os.path", "os.", "os..path", "a-b-", "3.14", "_x_", "x._y"),
    *("<unk> <UNK>", "<eos>", "a<eos>b", "(foo) the.", "e.g. the", "\ud800x", "x\udc00"),
    *("caf\u00e9 cafe\u0301", "\u6f22\u5b57\u304b\u306a", "\u0661\u0662\u0663", "\u0967\u0968", "\u2167 \u00bd \u00b2"),
    *("\u0e44\u0e17\u0e22\u0e40\u0e01\u0e4d", "\u0928\u092e\u0938\u094d\u0924\u0947", "\U0001d7d8\U00020000"),
    *(
        "\U0001f600\U0001f469\u200d\U0001f680",
        "\u0130\u0130a",
        "\u03a3\u03a3 \u039f\u03a3. \u039f\u03a3A",
        "stra\u00dfe \u1e9e",
    ),
    *("a\ufeffb\u00a0c\u1680d\u180ee\u3000f", "x\x1cy\x1dz\x85w\u2028v", "a\r\nb\rc"),
    *(text for pair in PROSE.values() for text in (pair[0], pair[0][:-1])),
    *(text for text, _ in SAME.values()),
]
ALPHABET = "fotheFOT'\u2019.-_(<>unkeos) \n\t\x1c\x85\u0130\u03a3\u0301\u6f22\U0001f600\u0661\ud800"
ALPHABET += '"/:@$=#\r\u201c\u2018\u02bc\u00ad\u200d\u0307\u0344\uff0c\u0939\u093f'
RULES = ["whitespace", "words", "words-2", "characters", "bpe"]

SPLITS = """
import { TokenDecoder } from "./token_decoder.mjs";
import { Tokenization } from "./tokenization.mjs";
const tokenization = new Tokenization(given.tokenization);
give(given.texts.map((text) => {
  const { tokens, letters } = tokenization.splitUnfinished(text);
  const whole = tokenization.split(text);
  const decoder = new TokenDecoder(tokenization);
  return [whole, tokens, letters, whole.map((token) => decoder.add(token)).join("") + decoder.finish()];
}));
"""
CLASSES = """
import { Tokenization } from "./tokenization.mjs";
const tokenization = new Tokenization(given.tokenization);
const lowered = {};
const classes = given.codes.map((code) => {
  const character = String.fromCodePoint(code);
  if (tokenization.folded(character) !== character) lowered[code] = tokenization.folded(character);
  return tokenization.split(`a${character}b`).length;
});
give({ classes, lowered });
"""
READ = """
import { Artifact } from "./artifact.mjs";
const read = async (path) => {
  const { states, vocabulary, model, training, precision, batchInvariant, sha256, hashChecked } =
    await Artifact.read(readFileSync(path), path);
  const { unknownId, endOfSentenceId, tokens } = vocabulary;
  const completions = given.prefixes.map((prefix) => vocabulary.completions(prefix));
  const ids = given.texts.map((text) => vocabulary.encode(text));
  return { states, model, training, precision, batchInvariant, sha256, hashChecked, unknownId, endOfSentenceId, tokens,
    completions, ids };
};
give(await Promise.all(given.paths.map((path) => read(path).catch((error) => `${error.name}: ${error.message}`))));
"""


def odd_texts() -> list[str]:
    draw = random.Random(5)
    return ODD + ["".join(draw.choices(ALPHABET, k=draw.randrange(1, 14))) for _ in range(400)]


@pytest.mark.parametrize("rule", RULES)
def test_odd_text_gives_the_same_tokens(rule: str) -> None:
    tokenization = Tokenization.of_rule(rule, MERGES if rule == "bpe" else ())
    texts = odd_texts()
    expected = []
    for text in texts:
        whole = tokenization.split(text)
        expected.append([whole, *tokenization.split_unfinished(text), tokenization.join(whole)])
    found = evaluate(SPLITS, {"tokenization": tokenization.to_json(), "texts": texts})
    assert [pair for pair in zip(texts, found, expected, strict=True) if list(pair[1]) != list(pair[2])] == []


@pytest.mark.parametrize("rule", ["words", "words-2"])
def test_every_code_point_is_classified_as_in_python(rule: str) -> None:
    tokenization = Tokenization.of_rule(rule)
    # Python and node may support different versions of Unicode: what only one of them knows does not count.
    codes = [code for code in range(0x110000) if unicodedata.category(chr(code)) != "Cn"]
    found = evaluate(CLASSES, {"tokenization": tokenization.to_json(), "codes": codes})
    assigned = r"give(given.filter((code) => !/\p{Cn}/u.test(String.fromCodePoint(code))))"
    expected = {code: len(tokenization.split(f"a{chr(code)}b")) for code in codes}
    assert {expected[ord(character)] for character in "x 1_.!\n"} == {1, 2, 3}
    differ = {code for code, count in zip(codes, found["classes"], strict=True) if count != expected[code]}
    folded = {str(code): tokenization.folded(chr(code)) for code in codes}
    lowered = {code: form for code, form in folded.items() if form != chr(int(code))}
    differ |= {int(code) for code, _ in lowered.items() ^ found["lowered"].items()}
    known = sorted(differ)
    assert evaluate(assigned, known) == []
    assert evaluate(assigned, [65, 0x378]) == [65]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, run: Run) -> list[Path]:
    """Artifacts of every tokenization rule and cell, and in two precisions."""
    folder = tmp_path_factory.mktemp("many")
    characters = ["\n", "\ufffd", "a", "b", " ", "'", "\t", "\u6f22", "\U0001f600", "\x7f", '"']
    made = {
        "words": artifact_of(network_of((7, 3)), WORDS, "words", training='{"test_perplexity": 3.5}'),
        "words-2": artifact_of(network_of((7, 3)), WORDS, "words-2"),
        "whitespace": artifact_of(network_of((7, 3), cell="gru"), WORDS, "whitespace"),
        "characters": artifact_of(network_of((4,), cell="rnn", tied=False), characters, "characters"),
        "bpe": bpe_artifact(),
    }
    for name, data in made.items():
        (folder / f"{name}.onnx").write_bytes(data)
    return [*sorted(folder.iterdir()), run.artifact("fp32"), run.artifact("int8")]


def read(paths: list[Path], prefixes: list[str] | None = None, texts: list[str] | None = None) -> list[Any]:
    return list(evaluate(READ, {"paths": list(map(str, paths)), "prefixes": prefixes or [], "texts": texts or []}))


def test_artifacts_are_read_as_in_python(many: list[Path]) -> None:
    prefixes, texts = ["", "f", "FO", "os.", "don'", "the", "zz", "<"], odd_texts()[:40]
    for path, found in zip(many, read(many, prefixes, texts), strict=True):
        artifact = Artifact.read(path)
        vocabulary = artifact.vocabulary
        assert found == {
            "states": artifact.architecture.states,
            "model": artifact.architecture.to_json(),
            "training": artifact.training,
            "precision": artifact.precision,
            "batchInvariant": artifact.batch_invariant,
            "sha256": artifact.sha256,
            "hashChecked": True,
            "unknownId": vocabulary.unknown_id,
            "endOfSentenceId": vocabulary.end_of_sentence_id,
            "tokens": list(vocabulary.tokens),
            "completions": [vocabulary.completions(prefix) for prefix in prefixes],
            "ids": [vocabulary.encode(text) for text in texts],
        }


def refused(path: Path) -> str:
    """JavaScript's error for a file that Python refuses too."""
    with pytest.raises(ArtifactError):
        Artifact.read(path)
    (message,) = read([path])
    assert str(message).startswith(f"ArtifactError: {path} ("), message
    return str(message)


def test_foreign_and_wrong_files_are_refused_with_a_reason(tmp_path: Path, many: list[Path]) -> None:
    path = tmp_path / "file.onnx"
    network = network_of((7, 3))
    for data, reason in [
        (b"", "it has no lmtool.format, so it was not exported by lmtool"),
        (b"words, words, words", "it is no ONNX file, or is damaged at byte"),
        (artifact_of(network, WORDS, "words", format="2"), 'its format is "2", this page reads "1"'),
        (artifact_of(network, WORDS, "words", precision="fp7"), 'its lmtool.precision is "fp7", expected one of fp32'),
        (artifact_of(network, WORDS, "words", vocabulary="{"), "its metadata lmtool.vocabulary is not JSON"),
        (artifact_of(network, WORDS, "words", vocabulary='["a", "a"]'), "its vocabulary holds a token twice"),
        (artifact_of(network, WORDS, "words", vocabulary='["a"]'), 'its vocabulary lacks the special token "<eos>"'),
        (artifact_of(network, WORDS, "words", tokenization='{"rule": "words"}'), "its lmtool.tokenization lacks"),
        (artifact_of(network, WORDS, "words", model='{"cell": "lstm"}'), "its lmtool.model is not one"),
        (many[0].read_bytes()[:-9], "damaged at byte"),
    ]:
        path.write_bytes(data)
        assert reason in refused(path)


def test_a_graph_that_breaks_the_contract_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.onnx"
    sizes = '{"cell": "lstm", "embedding_size": 5, "layer_sizes": [7, 4], "tied": false}'
    path.write_bytes(artifact_of(network_of((7, 3)), WORDS, "words", model=sizes))
    (found,) = read([path])
    assert 'the input "cell_1" breaks the contract: found float32 [any, 3], expected float32 [any, 4]' in found


def test_any_flipped_bit_is_detected(tmp_path: Path, artifact_path: Path) -> None:
    data = artifact_path.read_bytes()
    draw = random.Random(3)
    paths = []
    for number in range(60):
        damaged = bytearray(data)
        damaged[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        paths.append(tmp_path / f"{number}.onnx")
        paths[-1].write_bytes(damaged)
    assert [found for found in read(paths) if not str(found).startswith("ArtifactError")] == []
    assert read([artifact_path])[0]["hashChecked"]


def test_reading_does_not_change_the_input(artifact_path: Path) -> None:
    source = """
    import { Artifact } from "./artifact.mjs";
    const data = readFileSync(given);
    const before = Buffer.from(data);
    const artifact = await Artifact.read(data, given);
    const changed = artifact.bytesKeeping(1);
    const differ = changed.filter((byte, place) => byte !== data[place]);
    const same = artifact.bytesKeeping(0).every((byte, place) => byte === data[place]);
    give([before.equals(data), Array.from(differ), same]);
    """
    assert evaluate(source, str(artifact_path)) == [True, [1], True]


LOGITS = np.random.default_rng(2).normal(0, 3, 40).astype(np.float32)


@pytest.mark.parametrize("temperature", [0.0, 0.3, 0.8, 1.0, 2.0])
def test_a_seed_draws_the_same_tokens(temperature: float) -> None:
    source = """
    import { SeededRandom } from "./random.mjs";
    import { draw } from "./sampling.mjs";
    const logits = Float32Array.from(given.logits);
    give(given.seeds.map((seed) => {
      const random = new SeededRandom(seed);
      return Array.from({ length: 50 }, () => draw(logits, { temperature: given.temperature, random, excluded: [7] }));
    }));
    """
    seeds = [0, 1, 12345, 2**32, 2**53 - 1]
    sampling = Sampling(temperature=temperature)
    allowed = LOGITS.copy()
    allowed[7] = -np.inf
    expected = []
    for seed in seeds:
        generator = np.random.default_rng(seed)
        expected.append([sampling.choose(allowed, generator, True) for _ in range(50)])
    assert temperature == 0 or expected[0] != expected[1]
    given = {"logits": LOGITS.tolist(), "seeds": seeds, "temperature": temperature}
    assert evaluate(source, given) == expected


LIKELIEST = """
import { likeliest } from "./sampling.mjs";
give(likeliest(Float32Array.from(given.logits), given).map(({ id, probability }) => [id, probability]));
"""


@pytest.mark.parametrize("ids", [None, [3, 7, 8, 20, 21], []])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_probabilities_are_a_softmax_over_the_allowed_tokens(temperature: float, ids: list[int] | None) -> None:
    logits = LOGITS.astype(np.float64) / temperature
    among = list(range(len(logits))) if ids is None else ids
    weights = {index: float(np.exp(logits[index])) for index in among}
    shares = sorted(((weight / sum(weights.values()), -index) for index, weight in weights.items()), reverse=True)
    expected = [(-index, share) for share, index in shares if -index != 7][:5]
    found = evaluate(
        LIKELIEST, {"logits": LOGITS.tolist(), "count": 5, "excluded": [7], "ids": ids, "temperature": temperature}
    )
    assert [index for index, _ in found] == [index for index, _ in expected]
    assert [share for _, share in found] == pytest.approx([share for _, share in expected], rel=1e-9)


def test_equal_logits_are_ordered_by_id_also_at_temperature_0() -> None:
    given = {"logits": [1, 5, 5, 0, 5, 5], "count": 3, "excluded": [1], "temperature": 0}
    assert evaluate(LIKELIEST, given) == [[2, 1], [4, 0], [5, 0]]
