"""The inbox of an event loop: all news of a call are delivered by one wake-up."""

import asyncio
from typing import Any

from lmtool.runtime import Predictor, Sampling
from lmtool.runtime.generation_plan import GenerationPlan
from lmtool.runtime.pool.generation import Generation
from lmtool.runtime.pool.loop_inbox import LoopInbox


def test_news_of_several_generations_wake_the_loop_once(predictor: Predictor) -> None:
    vocabulary = predictor.vocabulary
    plans = [GenerationPlan.make(vocabulary, 9, Sampling(), seed, (), False, ()) for seed in range(3)]
    generations = [Generation([0], plan, vocabulary) for plan in plans]

    async def main() -> None:
        loop, woken = asyncio.get_running_loop(), list[Any]()
        wake = loop.call_soon_threadsafe
        loop.call_soon_threadsafe = lambda *work: woken.append(work)  # type: ignore[assignment,return-value,func-returns-value]
        inbox = LoopInbox.running()
        waiting = [asyncio.ensure_future(inbox.wait([generation], 1)) for generation in generations]
        await asyncio.sleep(0)
        for generation in generations:
            generation.tokens.append(2)
            inbox.put([generation])
        assert len(woken) == 1
        assert not any(task.done() for task in waiting)
        wake(*woken[0])
        await asyncio.wait_for(asyncio.gather(*waiting), 5)
        inbox.put(generations)  # wakes again, though nobody waits
        assert len(woken) == 2

    asyncio.run(main())


def test_a_generation_is_told_at_the_smallest_number_that_is_wanted(predictor: Predictor) -> None:
    plan = GenerationPlan.make(predictor.vocabulary, 9, Sampling(), 1, (), False, ())
    generation = Generation([0], plan, predictor.vocabulary)
    for count in (7, 3, 5):
        generation.want(count)
    assert generation.wanted == 3
