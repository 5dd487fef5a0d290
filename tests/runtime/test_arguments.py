"""Arguments of wrong types: every public callable names the argument, what it found and what it expected."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmtool.runtime
import numpy as np
import pytest
from lmtool.runtime import (
    Architecture,
    ArgumentError,
    Artifact,
    Autocompletion,
    Cache,
    CacheOptions,
    Hypothesis,
    LmtoolError,
    PoolOptions,
    Predictor,
    Rescorer,
    Sampling,
    State,
    StatefulSession,
    StateTensors,
    StreamPool,
    TextDecoder,
    Tokenization,
    Vocabulary,
    latest_artifact,
    layer_table,
    summarize,
)

TEXT = (None, 3, 1.5, b"the", ["the"], np.float32(1), Path("the"), {"a": 1})
NUMBER = ("3", b"3", [3], {}, np.zeros(3), Path("3"), True)
WHOLE = (*NUMBER, 2.0, np.float64(2))
FLAG = ("no", None, 2, 0.0, [])
PATH = (None, 3, 1.5, [], np.zeros(3))
BYTES = (None, 3, "text", [1, 2], np.zeros(3), Path("x"))
IDS = (None, "the", b"the", ["the"], [None], [1.5], {"a": 1}, {1, 2}, np.zeros((2, 2), bool), [[1], [2, 3]], object())
OBJECT = (3, "the", b"the", [1], {}, np.zeros(3), Path("x"))
ARRAY = (3, "the", [1.0], None, np.array(["a"]))
OPTIONAL_WHOLE = tuple(value for value in WHOLE if value is not None)
TEXTS = (3, None, b"the", [1], [b"the"], "the")
WORDS = TEXTS[:-1]

Row = tuple[str, str, tuple[object, ...]]
STREAM_OPTIONS = (
    ("max_tokens", WHOLE),
    ("temperature", NUMBER),
    ("top_k", WHOLE),
    ("top_p", NUMBER),
    ("method", TEXT),
    ("seed", (*(value for value in WHOLE if not isinstance(value, list)), ["3"], [1.5])),
    ("allow_unknown", FLAG),
    ("repetition_penalty", NUMBER),
    ("repetition_window", WHOLE),
    ("stop", (3, None, b"the", [1])),
    ("stop_at_end_of_sentence", FLAG),
    ("never", WORDS),
)
ROWS: list[Row] = [
    ("Architecture", "cell", TEXT),
    ("Architecture", "embedding_size", WHOLE),
    ("Architecture", "layer_sizes", (3, None, "7", [7], ("7",))),
    ("Architecture", "tied", FLAG),
    ("Artifact.read", "path", PATH),
    ("Artifact.parse", "data", BYTES),
    ("Artifact.parse", "name", TEXT),
    ("Autocompletion", "predictor", OBJECT),
    ("Autocompletion", "count", WHOLE),
    ("Autocompletion", "allow_unknown", FLAG),
    ("Autocompletion", "never", WORDS),
    ("Autocompletion.suggestions", "line", TEXT),
    ("Autocompletion.end_line", "line", TEXT),
    ("Cache", "options", OBJECT),
    ("Cache", "hidden", ARRAY),
    ("Cache", "token_ids", ARRAY),
    ("Cache", "oldest", WHOLE),
    ("Cache.resized", "options", OBJECT),
    ("CacheOptions", "size", WHOLE),
    ("CacheOptions", "theta", NUMBER),
    ("CacheOptions", "weight", NUMBER),
    *(("PoolOptions", name, WHOLE) for name in ("max_streams", "max_waiting", "max_batch", "max_tokens")),
    ("PoolOptions", "linger_seconds", NUMBER),
    ("PoolOptions", "allow_inexact", FLAG),
    ("Predictor.load", "source", PATH),
    ("Predictor.load", "provider", TEXT),
    ("Predictor.load", "threads", WHOLE),
    ("Predictor.load", "sha256", TEXT[1:]),
    ("Predictor.load", "spinning", FLAG),
    ("Predictor.load", "memory_arena", FLAG),
    ("Predictor.load", "provider_options", ("a", 3, [("device_id", "1")], {"device_id": 1})),
    ("Predictor.initial_state", "batch_size", WHOLE),
    ("Predictor.step", "token_ids", IDS),
    ("Predictor.step", "state", (None, *OBJECT)),
    ("Predictor.step", "logits_to_keep", OPTIONAL_WHOLE),
    ("Predictor.log_probs", "token_ids", IDS),
    ("Predictor.log_probs", "state", (None, *OBJECT)),
    ("Predictor.log_probs", "targets", IDS),
    ("Predictor.stream", "state", OBJECT),
    ("Predictor.stream", "cache", OBJECT),
    ("Predictor.score", "text", (IDS[0], *IDS[2:])),
    ("Predictor.score", "context", IDS[1:]),
    ("Predictor.score_words", "text", TEXT),
    ("Predictor.scores", "lines", ("the", b"the", 5, None, [3], [None])),
    ("Predictor.perplexity", "token_ids", IDS),
    ("Predictor.perplexity", "cache", OBJECT),
    *(("Sampling", *row) for row in STREAM_OPTIONS[1:5]),
    *(("Sampling", *row) for row in STREAM_OPTIONS[6:9]),
    ("Sampling.choose", "logits", ARRAY),
    ("Sampling.choose", "random", OBJECT),
    ("State", "model_sha256", TEXT),
    ("State", "tensors", (None, 3, [3], {"a": 1})),
    ("State", "pending", ARRAY),
    ("State", "cache", OBJECT),
    ("State", "letters", TEXT),
    ("State.from_bytes", "data", BYTES),
    ("StateTensors", "tensors", (None, 3, ["h"], {1: np.zeros(3)}, {"h": "x"})),
    ("StatefulSession.load", "source", PATH),
    ("StatefulSession.load", "states", (3, "h", ["h"])),
    ("StatefulSession.load", "threads", WHOLE),
    ("StatefulSession.initial_state", "inputs", (3, "the", [1], {"token_ids": "the"}, {"ids": [[1]]})),
    ("StatefulSession.run", "inputs", (None, 3, "the", [1], {"token_ids": "the"}, {"ids": [[1]]})),
    ("StatefulSession.run", "state", (3, "the", [1], {"h": np.zeros(3)})),
    ("Stream.feed", "text", TEXT),
    ("Stream.feed_ids", "token_ids", IDS),
    ("Stream.score", "text", (IDS[0], *IDS[2:])),
    ("Stream.suggest", "k", WHOLE),
    ("Stream.suggest", "prefix", TEXT[1:]),
    ("Stream.suggest", "allow_unknown", FLAG),
    ("Stream.suggest", "never", WORDS),
    ("Stream.next_words", "k", WHOLE),
    ("Stream.next_words", "prefix", TEXT[1:]),
    ("Stream.next_words", "allow_unknown", FLAG),
    ("Stream.next_words", "never", WORDS),
    *(("Stream.generate", *row) for row in STREAM_OPTIONS),
    ("StreamPool", "predictor", OBJECT),
    ("StreamPool", "options", OBJECT),
    ("StreamPool.open_stream", "state", OBJECT),
    ("StreamPool.submit", "token_ids", IDS),
    ("StreamPool.submit", "logits_to_keep", WHOLE),
    ("StreamPool.submit", "timeout_seconds", NUMBER),
    ("StreamPool.step", "token_ids", IDS),
    *(("StreamPool.generate", *row) for row in STREAM_OPTIONS),
    ("StreamPool.generate", "state", OBJECT),
    ("StreamPool.generate", "timeout_seconds", NUMBER),
    ("GenerationJob.result", "timeout_seconds", NUMBER),
    ("StreamPool.close", "cancel_waiting", FLAG),
    *(("Tokenization", name, TEXT) for name in ("rule", "unknown", "end_of_sentence")),
    ("Tokenization.of_rule", "rule", TEXT),
    ("Tokenization.from_json", "value", (None, 3, "a", [], {"rule": 3})),
    *((f"Tokenization.{name}", "text", TEXT) for name in ("folded", "split", "split_unfinished")),
    ("Tokenization.split_chunks", "chunks", (None, 3, 1.5)),
    ("Tokenization.join", "tokens", TEXTS),
    ("Tokenization.piece", "token", TEXT),
    ("Tokenization.text", "token", TEXT),
    ("Tokenization", "merges", TEXTS),
    ("Vocabulary", "tokens", TEXTS),
    ("Vocabulary", "tokenization", (None, *OBJECT)),
    ("Vocabulary.from_json", "tokens", (None, 3, "a", {"a": 1}, [1])),
    ("Vocabulary.id", "token", TEXT),
    ("Vocabulary.completions", "prefix", TEXT),
    ("Vocabulary.forms", "words", WORDS),
    ("Vocabulary.word_filter", "never", WORDS),
    ("Vocabulary.barred_words", "never", WORDS),
    ("Vocabulary.encode", "text", TEXT),
    ("Vocabulary.decode", "token_ids", (None, 3, "the", ["the"], [None], [1.5], np.zeros((2, 2), int))),
    ("Vocabulary.token", "token_id", (None, "the", 1.5, [1], np.zeros(3))),
    ("Vocabulary.text", "token_id", (None, "the", 1.5, [1])),
    ("TextDecoder", "vocabulary", (None, *OBJECT)),
    ("TextDecoder", "partial", (None, 3, "a")),
    ("TextDecoder", "letters", TEXT),
    ("TextDecoder.add", "token_id", (None, "the", 1.5, [1])),
    ("TextDecoder.add_token", "token", TEXT),
    ("latest_artifact", "runs", PATH),
    ("layer_table", "architecture", (None, *OBJECT)),
    ("layer_table", "vocabulary_size", WHOLE),
    ("Hypothesis", "text", TEXT),
    ("Hypothesis", "score", NUMBER),
    ("Rescorer", "predictor", OBJECT),
    ("Rescorer", "weight", NUMBER),
    ("Rescorer", "word_bonus", NUMBER),
    ("Rescorer.log_probs", "texts", TEXTS),
    ("Rescorer.rescore", "hypotheses", ([3], ["the"], [None])),
    ("summarize", "artifact", (None, *OBJECT)),
    ("summarize", "path", PATH),
]
WITH_METHODS = {"Predictor", "Stream", "StreamPool", "Vocabulary", "Tokenization", "Autocompletion", "Cache"}
WITH_METHODS |= {"StatefulSession"}
"""Classes whose methods take arguments of users."""
MADE_BY_LMTOOL = {"Artifact", "GenerationJob", "LayerRow", "PoolStats", "Predictor", "Score", "Stream", "Suggestion"}
MADE_BY_LMTOOL |= {"StatefulSession", "Summary"}
"""Classes whose objects users get and do not make."""


@pytest.fixture(scope="module")
def right(predictor: Predictor, artifact_path: Path) -> Any:
    """The callables by name, each with right arguments."""
    vocabulary = predictor.vocabulary
    tokenization = vocabulary.tokenization
    state, stream = predictor.initial_state(), predictor.stream()
    hidden, ids = np.zeros((1, 3), np.float32), np.zeros(1, np.int64)
    pool = StreamPool(predictor, PoolOptions(max_streams=4, max_waiting=4))
    pooled = pool.open_stream()
    line, session = Autocompletion(predictor, 2), StatefulSession.load(artifact_path)
    calls: dict[str, tuple[Callable[..., object], dict[str, object]]] = {
        "Architecture": (Architecture, {"cell": "lstm", "embedding_size": 5, "layer_sizes": (7, 3), "tied": False}),
        "Artifact.read": (Artifact.read, {"path": artifact_path}),
        "Artifact.parse": (Artifact.parse, {"data": artifact_path.read_bytes(), "name": "it"}),
        "Autocompletion": (Autocompletion, {"predictor": predictor, "count": 2, "allow_unknown": False}),
        "Autocompletion.suggestions": (line.suggestions, {"line": "the"}),
        "Autocompletion.end_line": (line.end_line, {"line": "the"}),
        "Cache": (Cache, {"options": CacheOptions(), "hidden": hidden, "token_ids": ids, "oldest": 0}),
        "Cache.resized": (Cache(CacheOptions(), hidden, ids).resized, {"options": CacheOptions(3)}),
        "CacheOptions": (CacheOptions, {}),
        "PoolOptions": (PoolOptions, {}),
        "Predictor.load": (Predictor.load, {"source": artifact_path}),
        "Predictor.initial_state": (predictor.initial_state, {"batch_size": 1}),
        "Predictor.step": (predictor.step, {"token_ids": [[1]], "state": state}),
        "Predictor.log_probs": (predictor.log_probs, {"token_ids": [[1]], "state": state, "targets": [[1]]}),
        "Predictor.stream": (predictor.stream, {}),
        "Predictor.score": (predictor.score, {"text": "the"}),
        "Predictor.score_words": (predictor.score_words, {"text": "the"}),
        "Predictor.scores": (
            lambda lines, ranks: list(predictor.scores(lines, ranks=ranks)),
            {"lines": ["the"], "ranks": True},
        ),
        "Predictor.perplexity": (predictor.perplexity, {"token_ids": [1, 2]}),
        "Sampling": (Sampling, {}),
        "Sampling.choose": (
            Sampling().choose,
            {"logits": np.zeros(3, np.float32), "random": np.random.default_rng(1), "at_boundary": True},
        ),
        "State": (State, {"model_sha256": state.model_sha256, "tensors": state.tensors}),
        "State.from_bytes": (State.from_bytes, {"data": state.to_bytes()}),
        "Stream.feed": (stream.feed, {"text": "the"}),
        "Stream.feed_ids": (stream.feed_ids, {"token_ids": [1]}),
        "Stream.score": (stream.score, {"text": "the"}),
        "Stream.suggest": (stream.suggest, {"k": 3}),
        "Stream.next_words": (stream.next_words, {"k": 3}),
        "Stream.generate": (stream.generate, {"max_tokens": 2}),
        "StreamPool": (StreamPool, {"predictor": predictor, "options": PoolOptions(max_streams=1)}),
        "StreamPool.open_stream": (pool.open_stream, {}),
        "StateTensors": (StateTensors, {"tensors": {"h": hidden}}),
        "StatefulSession.load": (StatefulSession.load, {"source": artifact_path}),
        "StatefulSession.initial_state": (session.initial_state, {}),
        "StatefulSession.run": (session.run, {"inputs": {"token_ids": [[1]]}}),
        "StreamPool.submit": (pool.submit, {"stream_id": pool.open_stream(), "token_ids": [1]}),
        "StreamPool.step": (pool.step, {"stream_id": pooled, "token_ids": [1]}),
        "StreamPool.generate": (pool.generate, {"prompt": "the", "max_tokens": 1}),
        "GenerationJob.result": (pool.generate("the", 1).result, {}),
        "StreamPool.close": (pool.close, {}),
        "Tokenization": (Tokenization, {}),
        "Tokenization.of_rule": (Tokenization.of_rule, {"rule": "words"}),
        "Tokenization.text": (tokenization.text, {"token": "the"}),
        "Tokenization.from_json": (Tokenization.from_json, {"value": tokenization.to_json()}),
        "Tokenization.folded": (tokenization.folded, {"text": "the"}),
        "Tokenization.split": (tokenization.split, {"text": "the"}),
        "Tokenization.split_unfinished": (tokenization.split_unfinished, {"text": "the"}),
        "Tokenization.split_chunks": (tokenization.split_chunks, {"chunks": ["the"]}),
        "Tokenization.join": (tokenization.join, {"tokens": ["the"]}),
        "Tokenization.piece": (tokenization.piece, {"token": "the", "previous": None}),
        "Vocabulary": (Vocabulary, {"tokens": vocabulary.tokens, "tokenization": tokenization}),
        "Vocabulary.from_json": (
            Vocabulary.from_json,
            {"tokens": list(vocabulary.tokens), "tokenization": tokenization.to_json()},
        ),
        "Vocabulary.id": (vocabulary.id, {"token": "the"}),
        "Vocabulary.completions": (vocabulary.completions, {"prefix": "t"}),
        "Vocabulary.encode": (vocabulary.encode, {"text": "the"}),
        "Vocabulary.forms": (vocabulary.forms, {"words": "the"}),
        "Vocabulary.word_filter": (vocabulary.word_filter, {"never": "the"}),
        "Vocabulary.barred_words": (vocabulary.barred_words, {"never": "the"}),
        "Vocabulary.decode": (vocabulary.decode, {"token_ids": [1]}),
        "Vocabulary.token": (vocabulary.token, {"token_id": 1}),
        "Vocabulary.text": (vocabulary.text, {"token_id": 1}),
        "TextDecoder": (TextDecoder, {"vocabulary": vocabulary, "partial": b""}),
        "TextDecoder.add": (TextDecoder(vocabulary).add, {"token_id": 1}),
        "TextDecoder.add_token": (TextDecoder(vocabulary).add_token, {"token": "the"}),
        "latest_artifact": (latest_artifact, {"runs": artifact_path.parents[1]}),
        "layer_table": (layer_table, {"architecture": predictor.artifact.architecture, "vocabulary_size": 11}),
        "Hypothesis": (Hypothesis, {"text": "the", "score": -1.0}),
        "Rescorer": (Rescorer, {"predictor": predictor}),
        "Rescorer.log_probs": (Rescorer(predictor).log_probs, {"texts": ["the"]}),
        "Rescorer.rescore": (Rescorer(predictor).rescore, {"hypotheses": [Hypothesis("the", -1.0)]}),
        "summarize": (summarize, {"artifact": predictor.artifact, "path": artifact_path}),
    }
    yield calls
    pool.close()


@pytest.mark.parametrize(("name", "argument", "values"), ROWS, ids=[f"{row[0]}-{row[1]}" for row in ROWS])
def test_wrong_types_are_named(right: Any, name: str, argument: str, values: tuple[object, ...]) -> None:
    function, arguments = right[name]
    for value in values:
        with pytest.raises(LmtoolError) as caught:
            function(**{**arguments, argument: value})
        assert isinstance(caught.value, TypeError | ValueError), value
        assert len(str(caught.value)) < 600


def test_right_types_pass(right: Any) -> None:
    """The positive control of the table."""
    for name, (function, arguments) in right.items():
        if name not in ("StreamPool", "StreamPool.close"):
            function(**arguments)


def test_every_public_callable_is_in_the_table() -> None:
    tried = {row[0] for row in ROWS} | {"StreamPool.step_async", "StreamPool.close_stream", "StreamPool.state"}
    for name in lmtool.runtime.__all__:
        value = getattr(lmtool.runtime, name)
        if not callable(value) or (inspect.isclass(value) and issubclass(value, Exception)):
            continue
        if name not in MADE_BY_LMTOOL and inspect.signature(value).parameters:
            assert name in tried
        if name in WITH_METHODS:
            for method, function in inspect.getmembers(value, callable):
                if not method.startswith("_") and len(inspect.signature(function).parameters) > 1:
                    assert f"{name}.{method}" in tried | INTERNAL


INTERNAL = {
    "Tokenization.is_subword",
    "Tokenization.split_last_piece",
    "Stream.score_ids",
    "Stream.token_log_probs",
    "StreamPool.cancel",
    "StreamPool.start",
    "Vocabulary.ids",
    "Vocabulary.is_boundary",
}


def test_the_message_says_what_was_found_and_the_fix(predictor: Predictor) -> None:
    stream = predictor.stream()
    for call, message in (
        (lambda: stream.feed(["the", "cat"]), "text is list ['the', 'cat'], expected text (str); join words"),  # type: ignore[arg-type]
        (lambda: stream.feed(b"the"), "text is bytes b'the', expected text (str); decode it"),  # type: ignore[arg-type]
        (lambda: stream.feed_ids("the"), "token_ids is str 'the', expected token ids; of a text: predictor.voc"),
        (lambda: predictor.score(None), "text is None, expected text (str) or token ids"),  # type: ignore[arg-type]
        (lambda: predictor.score(b"the"), "text is bytes b'the', expected text (str) or token ids; decode it"),
        (lambda: stream.score(3), "text is int 3, expected text (str) or token ids"),  # type: ignore[arg-type]
        (lambda: predictor.score(["the"]), "text is list ['the'], expected token ids; of words: predictor"),  # type: ignore[list-item]
        (lambda: stream.suggest("3"), "k is str '3', expected a whole number (int)"),  # type: ignore[arg-type]
    ):
        with pytest.raises(ArgumentError) as caught:
            call()
        assert str(caught.value).startswith(message)


def test_numbers_of_numpy_are_numbers(predictor: Predictor) -> None:
    stream = predictor.stream()
    assert len(stream.suggest(np.int64(3))) == 3  # type: ignore[arg-type]
    sampling = Sampling(temperature=np.float32(0.5), top_k=np.int32(4))  # type: ignore[arg-type]
    assert (type(sampling.temperature), type(sampling.top_k)) == (float, int)
    assert len(list(stream.generate(np.int8(3), seed=np.uint64(5)))) == 3  # type: ignore[arg-type]
    assert predictor.vocabulary.token(np.int64(1)) == predictor.vocabulary.token(1)  # type: ignore[arg-type]
