"""Generation jobs of a pool: each text is to the bit what a stream writes alone, and nothing is lost."""

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lmtool.runtime import (
    BusyError,
    GenerationJob,
    NumberError,
    OptionError,
    PoolError,
    PoolOptions,
    Predictor,
    RequestTimeoutError,
    StateError,
    StreamPool,
    TokenError,
)
from lmtool.runtime.draws.token_sampler import TokenSampler
from lmtool.runtime.generation_plan import GenerationPlan
from lmtool.runtime.pool.draw_tokens import draw_tokens
from lmtool.runtime.pool.generation import Generation
from lmtool.runtime.sampling import Sampling
from support.models.networks import network_of, predictor_of
from support.pools import PATIENCE_SECONDS, Gate, alone

CHARACTERS = ["\n", "\ufffd", "a", "b", " "]
WAYS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.8, "top_k": 3},
    {"top_p": 0.7, "repetition_penalty": 1.5, "repetition_window": 4},
    {"temperature": 0},
    {"stop": ["the", "<eos>"], "never": ["cat"], "allow_unknown": True},
    {"temperature": 1e-30},
    {"temperature": 1e30, "top_k": 1000},
    {"top_p": 1e-12},
    {"stop_at_end_of_sentence": True, "max_tokens": 0},
]


def alone_text(predictor: Predictor, prompt: str, **options: Any) -> str:
    stream = predictor.stream()
    stream.feed(prompt)
    return "".join(stream.generate(**{"max_tokens": 12, **options}))


def test_texts_are_to_the_bit_what_a_stream_writes_alone(predictor: Predictor) -> None:
    """Prompts of many lengths, all ways of drawing, single steps of other callers beside them."""
    cases = [("the cat saw " * (number % 40), {**WAYS[number % len(WAYS)], "seed": number}) for number in range(54)]
    pieces = [[1], [2, 3], [4]] * 10
    with StreamPool(predictor, PoolOptions(max_batch=16)) as pool, ThreadPoolExecutor(1) as thread:
        stream = pool.open_stream()
        steps = thread.submit(lambda: [pool.step(stream, piece) for piece in pieces])
        jobs = [pool.generate(prompt, **{"max_tokens": 12, **options}) for prompt, options in cases]
        for job, (prompt, options) in zip(jobs, cases, strict=True):
            expected = alone_text(predictor, prompt, **options)
            assert "".join(job) == expected
            assert job.result() == expected
            assert job.done
            assert job.finish_reason == ("length" if len(job.tokens) == options.get("max_tokens", 12) else "stop")
        for logits, other in zip(steps.result(), alone(predictor, pieces)[0], strict=True):
            assert np.array_equal(logits, other[-1:])
        stats = pool.stats
        assert (stats.jobs, stats.waiting, stats.open_streams) == (0, 0, 1)
        assert stats.calls < stats.requests < stats.tokens


def test_characters_are_drawn_after_white_space_only() -> None:
    characters = predictor_of(network_of((7, 3), vocabulary=len(CHARACTERS)), CHARACTERS, "characters")
    options: dict[str, Any] = {"method": "weighted-at-boundaries", "temperature": 2.0, "seed": 1}
    with StreamPool(characters) as pool:
        for prompt in ("", "a ", "ab"):
            expected = alone_text(characters, prompt, max_tokens=60, **options)
            assert pool.generate(prompt, 60, **options).result() == expected


def test_a_job_continues_a_state(pool: StreamPool, predictor: Predictor) -> None:
    stream = predictor.stream()
    stream.feed("the cat saw the dog")
    ids = predictor.vocabulary.encode("a cat")
    jobs = [pool.generate(prompt, 9, state=stream.state, seed=[3, 1]) for prompt in ("a cat", ids, "a cat ")]
    stream.feed_ids(ids)
    assert [job.result() for job in jobs[:2]] == ["".join(stream.generate(9, seed=[3, 1]))] * 2
    assert jobs[2].result() == jobs[0].result().removeprefix(" ")
    _, read = predictor.step([[1]], predictor.initial_state())
    with pytest.raises(TokenError, match="nothing to read: the state has no pending tokens"):
        pool.generate(state=read)
    with pytest.raises(StateError, match="the state is int"):
        pool.generate(state=3)  # type: ignore[arg-type]
    with pytest.raises(TokenError, match="token id 10000 is outside"):
        pool.generate([10_000])
    with pytest.raises(OptionError, match="seed is -1"):
        pool.generate(seed=[1, -1])
    assert pool.stats.open_streams == 0


def test_ten_thousand_jobs_at_once_are_refused_or_written(predictor: Predictor) -> None:
    expected = {number: alone_text(predictor, "the", max_tokens=12, seed=number) for number in range(8)}
    with StreamPool(predictor, PoolOptions(max_streams=300, max_waiting=200)) as pool:
        jobs: list[tuple[int, GenerationJob]] = []
        others: list[GenerationJob] = []
        for number in range(10_000):
            with contextlib.suppress(BusyError):
                jobs.append((number % 8, pool.generate("the", 12, seed=number % 8)))
        assert 200 <= len(jobs) < 10_000
        with pytest.raises(BusyError, match="200 requests wait, which is the limit; nothing was changed"):
            others.extend(pool.generate("the", 200) for _ in range(201))
        for seed, job in jobs:
            assert job.result(PATIENCE_SECONDS) == expected[seed]
        for job in others:
            job.result(PATIENCE_SECONDS)
            assert len(job.tokens) == 200
        assert pool.stats.open_streams == 0
    with StreamPool(predictor, PoolOptions(max_streams=1)) as pool:
        stream = pool.open_stream()
        with pytest.raises(BusyError, match="1 streams are open, which is the limit"):
            pool.generate("the")
        pool.close_stream(stream)
        assert pool.generate("the", 12, seed=3).result() == expected[3]


def test_a_long_prompt_holds_nobody_up(held: tuple[StreamPool, Gate], predictor: Predictor) -> None:
    pool, gate = held
    short = pool.generate("the", 5, seed=1)
    gate.wait_for_a_call()
    long = pool.generate("the cat saw " * 100, 1, seed=2)
    gate.open()
    assert short.result() == alone_text(predictor, "the", max_tokens=5, seed=1)
    assert long.result() == alone_text(predictor, "the cat saw " * 100, max_tokens=1, seed=2)
    assert max(length for _, length in gate.sizes) == 64
    assert sum(length == 64 for _, length in gate.sizes[:8]) <= 4  # every other call, at most
    lengths = [length for _, length in gate.sizes]
    written = [index for index, length in enumerate(lengths) if length == 1][2]  # the third token of the short text
    assert written < max(index for index, length in enumerate(lengths) if length == 64)


def test_a_cancelled_job_ends_where_it_is(held: tuple[StreamPool, Gate], predictor: Predictor) -> None:
    pool, gate = held
    running = pool.generate("the", 5)
    gate.wait_for_a_call()
    with pool.generate("the cat " * 100, 5) as in_prompt, pool.generate("a", 5, seed=1) as other:
        assert pool.stats.jobs == 3
        assert in_prompt.cancel()
        assert not in_prompt.cancel()
        assert pool.stats.jobs == 2
        assert running.cancel()
        assert not running.done  # its call runs
        gate.open()
        for job in (running, in_prompt):
            with pytest.raises(CancelledError):
                job.result(PATIENCE_SECONDS)
            with pytest.raises(CancelledError):
                list(job)
            assert job.finish_reason is None
        assert other.result() == alone_text(predictor, "a", max_tokens=5, seed=1)
    assert (pool.stats.jobs, pool.stats.open_streams) == (0, 0)
    assert not other.cancel()


def test_time_outs(held: tuple[StreamPool, Gate]) -> None:
    pool, gate = held
    slow = pool.generate("the", 5)
    gate.wait_for_a_call()
    late = pool.generate("the", 5, timeout_seconds=1e-9)
    with pytest.raises(RequestTimeoutError, match="the text has not ended within 0.01 s; it goes on"):
        slow.result(0.01)
    with pytest.raises(OptionError, match="timeout_seconds is -1, expected 0 or more"):
        slow.result(-1)
    gate.open()
    with pytest.raises(RequestTimeoutError, match="the text was not written within its timeout_seconds"):
        late.result(PATIENCE_SECONDS)
    assert len(slow.result(PATIENCE_SECONDS)) > 0
    with pytest.raises(OptionError, match="timeout_seconds is 0, expected more"):
        pool.generate("the", timeout_seconds=0)
    assert pool.stats.open_streams == 0


def test_a_fault_ends_the_texts_that_it_belongs_to(
    own_predictor: Predictor, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failing call ends all of its texts; NaN in a row, a hook or a draw that fails end one."""
    run = own_predictor.network.run
    fault: dict[str, Any] = {"call": False, "row": None}

    def tampered(token_ids: Any, *args: Any) -> Any:
        if fault["call"]:
            raise ZeroDivisionError("planted")
        logits, state = run(token_ids, *args)
        if fault["row"] is not None and len(logits) > fault["row"]:
            logits[fault["row"], -1, 3] = np.nan
        return logits, state

    monkeypatch.setattr(own_predictor.network, "run", tampered)
    with StreamPool(own_predictor, PoolOptions(max_batch=4)) as pool:

        def start(watch: Any = None, barred: Any = None) -> tuple[Generation, threading.Event]:
            made = GenerationPlan.make(predictor.vocabulary, 5, Sampling(), 1, (), False, ())
            if barred is not None:
                made.draw._barred = barred
            ended = threading.Event()
            inbox: Any = type("Inbox", (), {"put": lambda _, __: ended.set()})()
            generation = Generation([0], made, predictor.vocabulary, watch=watch, inbox=inbox)
            pool.start(generation, None)
            return generation, ended

        def ends(*started: tuple[Generation, threading.Event]) -> list[Generation]:
            assert all(ended.wait(PATIENCE_SECONDS) for _, ended in started)
            return [generation for generation, _ in started]

        expected = alone_text(predictor, "", max_tokens=5, seed=1)
        good, hook, draw = ends(start(), start(watch=lambda *_: 1 // 0), start(barred="x"))
        assert predictor.vocabulary.decode(good.tokens) == expected.strip()
        assert isinstance(hook.error, ZeroDivisionError)
        assert "drawing a token failed" in str(draw.error)
        fault["row"] = 0
        (alone,) = ends(start())
        assert isinstance(alone.error, NumberError)
        fault["row"], fault["call"] = None, True
        failed = ends(start(), start())
        assert all("failed: planted" in str(generation.error) for generation in failed)
        fault["call"] = False
        assert ends(start())[0].tokens == good.tokens
        assert pool.stats.open_streams == 0


def test_an_error_in_drawing_ends_the_texts_but_not_the_steps_beside_them(
    held: tuple[StreamPool, Gate], predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, gate = held
    stream = pool.open_stream()
    first = pool.generate("the", 1)
    gate.wait_for_a_call()
    other, step = pool.generate([], 5), pool.submit(stream, [0])
    monkeypatch.setattr("lmtool.runtime.pool.batcher.draw_tokens", lambda *_: 1 // 0)
    gate.open()
    expected = predictor.step([[0]], predictor.initial_state(1), logits_to_keep=1)[0][0]
    np.testing.assert_array_equal(step.result(PATIENCE_SECONDS), expected)
    for job in (first, other):
        with pytest.raises(PoolError, match="drawing the tokens of a call failed: integer division") as error:
            job.result(PATIENCE_SECONDS)
        assert isinstance(error.value.__cause__, ZeroDivisionError)
    assert pool.stats.open_streams == 1


def test_a_draw_that_fails_changes_no_other_text(predictor: Predictor) -> None:
    """The others may have used their random numbers before it fails."""
    logits = predictor.step([[0]], predictor.initial_state(1))[0][:, -1]
    state: Any = print  # not called

    def drawn(count: Any) -> list[list[int]]:
        plans = [GenerationPlan.make(predictor.vocabulary, 9, Sampling(), seed, (), False, ()) for seed in range(4)]
        plans.append(GenerationPlan.make(predictor.vocabulary, 9, Sampling(top_k=3), 9, (), False, ()))
        plans[-1].draw.count = count
        generations = [Generation([0], plan, predictor.vocabulary) for plan in plans]
        for _ in range(5):
            live = [generation for generation in generations if generation.ending is None]
            draw_tokens(live, np.repeat(logits, len(live), axis=0), TokenSampler(logits.shape[1]), state)
        return [generation.tokens for generation in generations]

    *expected, last = drawn(3)
    assert len(last) == 5
    assert drawn("x") == [*expected, []]


def test_a_hook_sees_tokens_and_states_and_ends_the_text(pool: StreamPool, predictor: Predictor) -> None:
    seen: list[Any] = []

    def watch(token: int, logits: Any, state: Callable[[], Any]) -> bool:
        seen.append((token, logits.copy(), state()))
        return len(seen) == 3

    plan = GenerationPlan.make(predictor.vocabulary, 50, Sampling(), 5, (), False, ())
    generation = Generation(predictor.vocabulary.encode("\nthe cat"), plan, predictor.vocabulary, watch=watch)
    pool.start(generation, None)
    stream = predictor.stream()
    stream.feed("the cat")
    assert len(list(stream.generate(3, seed=5))) == 3
    while not generation.has_ended:
        time.sleep(0.001)
    assert generation.finish_reason == "stop"
    expected = alone_text(predictor, "the cat", max_tokens=3, seed=5)
    assert predictor.vocabulary.decode(generation.tokens) == expected.strip()
    state = stream.state
    assert seen[2][2].pending.tolist() == state.pending.tolist()
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(seen[2][2].tensors, state.tensors, strict=True))


def test_asyncio_tasks_read_jobs_and_cancel_them(predictor: Predictor) -> None:
    async def read(pool: StreamPool, seed: int) -> str:
        pieces = [piece async for piece in pool.generate("the cat", 12, seed=seed)]
        assert await pool.generate("the cat", 12, seed=seed).result_async() == "".join(pieces)
        return "".join(pieces)

    async def main(pool: StreamPool) -> list[str]:
        task = asyncio.ensure_future(pool.generate("the", 10**9).result_async())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        failing = pool.generate("the", 10**9, timeout_seconds=0.01)
        with pytest.raises(RequestTimeoutError):
            [piece async for piece in failing]
        return await asyncio.gather(*(read(pool, seed) for seed in range(20)))

    with StreamPool(predictor) as pool:
        texts = asyncio.run(asyncio.wait_for(main(pool), PATIENCE_SECONDS))
        assert texts == [alone_text(predictor, "the cat", max_tokens=12, seed=seed) for seed in range(20)]


def test_closing_writes_texts_to_their_end_or_ends_them(predictor: Predictor) -> None:
    with StreamPool(predictor, PoolOptions(linger_seconds=PATIENCE_SECONDS)) as pool:
        jobs = [pool.generate("the", 30, seed=seed) for seed in range(3)]
    assert [job.result() for job in jobs] == [
        alone_text(predictor, "the", max_tokens=30, seed=seed) for seed in range(3)
    ]
    with pytest.raises(PoolError, match="the pool is closed"):
        pool.generate("the")
    pool = StreamPool(predictor)
    job = pool.generate("the", 10**9)
    assert next(iter(job))
    pool.close(cancel_waiting=True)
    with pytest.raises(PoolError, match="the pool was closed before"):
        job.result()
    with pytest.raises(PoolError, match="the pool was closed before"):
        list(job)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_and_an_end_with_jobs_that_run(artifact_path: Path) -> None:
    code = (
        "import os, sys; from lmtool.runtime import ForkError, Predictor, StreamPool\n"
        "pool = StreamPool(Predictor.load(sys.argv[1])); job = pool.generate('the', 10**9)\n"
        "if os.fork() == 0:\n"
        "    for use in (job.result, job.cancel, pool.generate):\n"
        "        try: use()\n"
        "        except ForkError as error: print('fork')\n"
        "    sys.stdout.flush(); os._exit(0)\n"
        "os.wait(); print(len(next(iter(job))) > 0)"  # and ends with the job running
    )
    ended = subprocess.run([sys.executable, "-c", code, str(artifact_path)], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout.split(), ended.stderr) == (0, ["fork"] * 3 + ["True"], "")
