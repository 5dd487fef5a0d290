"""EleutherAI's lm-evaluation-harness, unmodified, evaluates a served model with `local-completions`."""

import importlib.util
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lmtool.runtime import Predictor
from support.models.subwords import LOUD, WRITING_MERGES, bpe_artifact
from support.processes.commands import PATIENCE_SECONDS
from support.servers import ServerProcess

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None,
    reason="lm-evaluation-harness is not installed; pip install 'lm-eval[api]'",
)

DOCUMENTS = [
    {
        "text": "the old market sold the news\nevery stock liked a house\n",
        "context": "the cat saw",
        "choices": [" the fish", " cat old two the"],
        "label": 0,
    },
    {"text": "a dog saw some zebra bonds", "context": "one trader", "choices": [" the", " bought shares"], "label": 1},
]
COMMON = """
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
metadata: {version: 1}
"""
TASKS = {
    "rolling": """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: word_perplexity}]
""",
    "choice": """
output_type: multiple_choice
doc_to_text: "{{context}}"
doc_to_target: label
doc_to_choice: choices
target_delimiter: ""
metric_list: [{metric: acc}]
""",
    "writing": """
output_type: generate_until
doc_to_text: "{{context}}"
doc_to_target: "{{text}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 9, temperature: 0}
metric_list: [{metric: exact_match}]
""",
}


@pytest.fixture(scope="module", params=["words", "bpe"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, artifact_path: Path) -> Path:
    """A model of words, and one whose tokens are parts of words, in one of which the contexts end."""
    if request.param == "words":
        return artifact_path
    path = tmp_path_factory.mktemp("models") / "model.onnx"
    path.write_bytes(bpe_artifact(WRITING_MERGES, LOUD))
    return path


@pytest.fixture(scope="module")
def predictor(model: Path) -> Predictor:
    return Predictor.load(model)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """The folder with the results of the harness, run offline."""
    folder = tmp_path_factory.mktemp("harness")
    data = folder / "documents.jsonl"
    data.write_text("".join(json.dumps(document) + "\n" for document in DOCUMENTS))
    for name, task in TASKS.items():
        (folder / f"{name}.yaml").write_text(f"task: {name}\n{COMMON.replace('DATA', str(data))}{task}")
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "cache")}
    with ServerProcess(model) as server:
        arguments = f"base_url={server.url}/v1/completions,model=model,tokenizer_backend=remote,num_concurrent=4"
        command = [sys.executable, "-m", "lm_eval", "--model", "local-completions", "--model_args", arguments]
        command += ["--tasks", ",".join(TASKS), "--include_path", folder, "--output_path", folder, "--log_samples"]
        finished = subprocess.run(
            command, env={**os.environ, **offline}, capture_output=True, text=True, timeout=PATIENCE_SECONDS
        )
        assert finished.returncode == 0, finished.stderr
        assert server.metric('lmtool_requests_total{route="/v1/completions",status="200"}') == 2 + 4 + 2
    return folder


def samples(folder: Path, task: str) -> list[Any]:
    """The responses for each document."""
    (file,) = folder.glob(f"*/samples_{task}_*.jsonl")
    records = [json.loads(line) for line in file.read_text().splitlines()]
    return [sample["resps"] for sample in sorted(records, key=lambda sample: sample["doc_id"])]


def result(folder: Path, task: str, metric: str) -> float:
    (file,) = folder.glob("*/results_*.json")
    return float(json.loads(file.read_text())["results"][task][f"{metric},none"])


def test_rolling_log_likelihood_and_perplexity_equal_score(evaluated: Path, predictor: Predictor) -> None:
    texts = [str(document["text"]) for document in DOCUMENTS]
    # The harness sends token ids, which have no spelling.
    expected = [predictor.score(predictor.vocabulary.encode(text)).log_prob for text in texts]
    log_probs = [float(responses[0][0]) for responses in samples(evaluated, "rolling")]
    assert log_probs == pytest.approx(expected, abs=1e-4)
    words = sum(len(re.split(r"\s+", text)) for text in texts)  # the number that the harness divides by
    assert result(evaluated, "rolling", "word_perplexity") == pytest.approx(math.exp(-sum(expected) / words), rel=1e-4)


def test_the_log_likelihood_of_a_choice_is_conditional_on_its_context(evaluated: Path, predictor: Predictor) -> None:
    for document, responses in zip(DOCUMENTS, samples(evaluated, "choice"), strict=True):
        context = str(document["context"])
        for choice, response in zip(document["choices"], responses, strict=True):  # type: ignore[call-overload]
            expected = predictor.score(context + choice).log_prob - predictor.score(context).log_prob
            assert float(response[0][0]) == pytest.approx(expected, abs=1e-4)
            assert response[0][1] == str(is_greedy(predictor, context, choice))
    right = [best(predictor, document) == document["label"] for document in DOCUMENTS]
    assert result(evaluated, "choice", "acc") == sum(right) / 2


def best(predictor: Predictor, document: dict[str, Any]) -> int:
    scores = [predictor.score(document["context"] + choice).log_prob for choice in document["choices"]]
    return scores.index(max(scores))


def is_greedy(predictor: Predictor, context: str, choice: str) -> bool:
    stream = predictor.stream()
    stream.feed(context)
    for token_id in predictor.vocabulary.encode(choice):
        if int(stream.logits().argmax()) != token_id:
            return False
        stream.feed_ids([token_id])
    return True


def test_generated_text_equals_that_of_a_stream(evaluated: Path, predictor: Predictor) -> None:
    for document, responses in zip(DOCUMENTS, samples(evaluated, "writing"), strict=True):
        stream = predictor.stream()
        stream.feed(str(document["context"]))
        assert responses[0][0] == "".join(stream.generate(max_tokens=9, temperature=0, stop="\n"))
