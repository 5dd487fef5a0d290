"""Many texts of one prompt, written side by side where that changes no text."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..runtime import GenerationJob, Predictor, State, Stream

_AT_ONCE = 128
"""Texts in memory: two for each row of a call, so that calls stay full while the longest text is printed."""


def write_texts(
    predictor: "Predictor",
    prompt: str,
    stream: "Stream",
    count: int,
    max_tokens: int,
    seed: int | None,
    options: Mapping[str, Any],
) -> Iterator[Iterable[str]]:
    """Yield the pieces of `count` texts, in order.

    A pool writes `_AT_ONCE` of them together; where batches change numbers, each is written alone.

    Args:
        predictor: Writes the texts.
        prompt: The text before them.
        stream: After the prompt.
        count: The number of texts.
        max_tokens: Tokens of each.
        seed: As for `seed_of_text`.
        options: The other arguments of `Stream.generate`.
    """
    from ..runtime.generation_plan import seed_of_text

    seeds = (seed_of_text(seed, number) for number in range(count))
    if predictor.batches_are_exact:
        yield from _together(predictor, prompt, stream.state, max_tokens, seeds, options)
        return
    stream.logits()  # forks then have read the prompt
    for own in seeds:
        yield stream.fork().generate(max_tokens, seed=own, **options)


def _together(
    predictor: "Predictor",
    prompt: str,
    state: "State",
    max_tokens: int,
    seeds: Iterable[int | list[int] | None],
    options: Mapping[str, Any],
) -> Iterator["GenerationJob"]:
    from ..runtime import PoolOptions, StreamPool

    blank = _blank_end(prompt, predictor)
    start = _before_last_token(state, predictor)
    jobs: deque[GenerationJob] = deque()
    with StreamPool(predictor, PoolOptions(max_streams=_AT_ONCE)) as pool:
        for seed in seeds:
            if len(jobs) == _AT_ONCE:
                yield jobs.popleft()
            jobs.append(pool.generate(blank, max_tokens, state=start, seed=seed, **options))
        while jobs:
            yield jobs.popleft()


def _blank_end(prompt: str, predictor: "Predictor") -> str:
    """White space at the end that is no token: the text then begins without a space."""
    blank = prompt[len(prompt.rstrip()) :]
    return "" if predictor.vocabulary.encode(blank) else blank


def _before_last_token(state: "State", predictor: "Predictor") -> "State":
    """The same state with all pending tokens read, so that texts do not read them again, but those that must stay."""
    from ..runtime import State

    read, pending = State(state.model_sha256, state.tensors), state.pending
    stay = predictor.vocabulary.spaces.pending(int(pending[0, -1]))
    if pending.shape[1] > stay:
        _, read = predictor.step(pending[:, :-stay], read, logits_to_keep=1)
    return replace(state, tensors=read.tensors, pending=pending[:, -stay:])
