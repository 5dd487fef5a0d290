"""Completion: one request's prompts are read, and its choices written side by side."""

import asyncio
import contextlib
import functools
from collections.abc import Iterable
from typing import final

import numpy as np
from numpy.typing import NDArray

from ...runtime.draws.draw import Draw
from ...runtime.generation_plan import seed_of_text
from ...runtime.pool.generation import NEVER, Generation
from ...runtime.pool.loop_inbox import LoopInbox
from ...runtime.state import State
from ...runtime.text.stops import Rollback
from ...runtime.text.text_decoder import TextDecoder
from ..concurrency import gather
from ..engine import Engine
from ..errors import invalid
from ..options import EVENT_SECONDS, EVENT_SECONDS_PER_CHOICE, ServeOptions
from ..schemas import CompletionRequest
from ..sessions import Session, Sessions, SessionState
from .bias import check_after_space, checked_bias
from .choice import Choice, Delta
from .logprobs import TokenLogprobs
from .prompt import PromptTokens, split_prompts
from .stop_buffer import Token

_CHARS_PER_TOKEN = 16
"""An echoed prompt counts as at least one token for every this many characters."""


@final
class Completion:
    """The work for one request, in steps.

    `start` takes slots, streams and the session. The caller then waits and takes what was written until `is_done`; it
    calls `finish` when the response is made, and `release` in any case.

    Attributes:
        engine: Runs the model.
        is_done: Whether all of it was taken.
    """

    def __init__(self, engine: Engine, sessions: Sessions, request: CompletionRequest, options: ServeOptions) -> None:
        """Nothing runs yet; the request has been checked."""
        self.is_done = False
        self.engine = engine
        self._sessions = sessions
        self._request = request
        self._limits = options
        self._resources = contextlib.ExitStack()
        self._sampling = request.sampling
        self._bias: tuple[NDArray[np.int64], NDArray[np.float32]] | None = None
        self._has_begun = False
        self._start = SessionState(engine.start)
        self._prompts: list[PromptTokens] = []
        self._choices: list[Choice] = []
        self._session: Session | None = None
        self._rollback: Rollback[SessionState] | None = None

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all prompts."""
        return sum(len(prompt.ids) for prompt in self._prompts)

    @property
    def completion_tokens(self) -> int:
        """Tokens drawn so far, including those of a stop string."""
        return sum(len(choice.generation.tokens) for choice in self._choices)

    async def start(self) -> list[Delta]:
        """Read what has to be read first, and start the choices; returns the echoed prompts.

        Raises:
            ApiError: There is no such session, or it is in use; a prompt or the response is too long; the bias has
                an id outside the vocabulary; or too few slots are free.
            PoolError: A call of the model failed.
        """
        if self._request.session is not None:
            taken = self._sessions.take(self._request.session, self.engine.sha256)
            self._session = self._resources.enter_context(taken)
            self._start = self._session.state
        if self._request.logit_bias:
            self._bias = checked_bias(self._request.logit_bias, self.engine)
        await self._split_prompts()
        self._resources.enter_context(self.engine.slots.take(len(self._prompts) * self._request.n))
        results = await gather(self._start_prompt(number, prompt) for number, prompt in enumerate(self._prompts))
        self._choices = [choice for choices, _ in results for choice in choices]
        return [
            Delta(choice.index, echo, blank=prompt.blank)
            for prompt, (choices, echo) in zip(self._prompts, results, strict=True)
            for choice in choices
            if echo or prompt.blank
        ]

    async def wait(self) -> None:
        """Wait until all choices have ended.

        Raises:
            PoolError: A call of the model failed; also other errors of a choice, as soon as it fails.
        """
        while await self._wait_for_one(NEVER):
            pass

    async def wait_for_more(self, deadline: float) -> None:
        """Wait for the first token, then for a while or a choice's end, so that an event has several tokens.

        Raises:
            PoolError: A call of the model failed; also other errors of a choice, as soon as it fails.
            TimeoutError: The deadline, in the event loop's seconds, has passed.
        """
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0:
            raise TimeoutError
        if self._has_begun:
            seconds = max(EVENT_SECONDS, EVENT_SECONDS_PER_CHOICE * self.engine.slots.taken)
            await self._wait_for_one(NEVER, min(left, seconds))
        else:
            await self._wait_for_one(1, left)
            self._has_begun = True

    def take(self) -> list[Delta]:
        """What was written since the last call."""
        deltas = [choice.take() for choice in self._choices if choice.finish_reason is None]
        self.is_done = all(choice.finish_reason is not None for choice in self._choices)
        return deltas

    def finish(self) -> None:
        """Move the session on, and release everything."""
        if self._session is not None and self._rollback is not None:
            self._session.state = self._rollback.place
        self.release()

    def release(self) -> None:
        """Release slots, streams and the session. Idempotent."""
        self._resources.close()

    async def _wait_for_one(self, count: int, seconds: float | None = None) -> bool:
        """Wait until a choice that runs has `count` tokens or has ended; returns whether there was one that ran."""
        generations = [choice.generation for choice in self._choices]
        running = [generation for generation in generations if not generation.has_ended]
        _raise_errors(generations)  # of those that do not run any more, before the others are waited for
        if running:
            await LoopInbox.running().wait(running, count, seconds)
            _raise_errors(generations)
        return bool(running)

    async def _split_prompts(self) -> None:
        """Split the prompts, and refuse a response that may be too long."""
        request, limits = self._request, self._limits
        self._prompts = await split_prompts(
            request.prompts,
            self.engine.vocabulary,
            self._start.text_end(self.engine.vocabulary),
            limits.max_prompt_tokens,
            with_pieces=request.echo,
        )
        echoed = sum(
            max(len(prompt.ids), len(prompt.text) // _CHARS_PER_TOKEN) for prompt in self._prompts if prompt.text
        )
        tokens = request.n * (echoed + len(self._prompts) * request.max_tokens)
        if tokens > limits.max_answer_tokens:
            raise invalid(
                f"the answer may have {tokens:,} tokens, those of all choices echoed ones included, expected "
                f"{limits.max_answer_tokens:,} or fewer; ask for fewer tokens or choices, or in several requests",
                "max_tokens",
            )

    async def _start_prompt(self, number: int, prompt: PromptTokens) -> tuple[list[Choice], list[Token]]:
        """Start the choices of a prompt; returns them, and the tokens that are echoed."""
        request = self._request
        pending, tokens = self._start.pending, list(prompt.ids)
        starts_text = self._session is None and prompt.given_as_ids and tokens[0] == pending[-1]
        if not starts_text:  # else the ids have the end of sentence after which a text begins
            tokens = [*pending, *tokens]
        state, tokens, logprobs = await self._read_before(tokens)
        offset = len(prompt.text)  # 0 unless it is echoed
        before = self._start.text_end(self.engine.vocabulary)
        text_end = before.copy()
        text_end.skip(prompt.ids)
        read = self._start.tokens + len(prompt.ids)
        if self._session is not None and state is not None:
            after = self.engine.with_pending(state, tokens, text_end)
            self._rollback = Rollback(SessionState(after, read), offset)
        if prompt.ends_in_space:
            text_end.previous = None
        opened, text_end.takes_space = self.engine.vocabulary.spaces.opened(tokens)
        if text_end.takes_space and self._bias is not None:
            check_after_space(self._bias, self.engine)
        choices = [
            Choice(
                self.engine,
                index=number * request.n + place,
                request=request,
                draw=Draw(self._sampling, self._random(place), self.engine.barred, self._bias),
                prompt=opened,
                end=offset,
                text_end=text_end.copy(),
                rollback=self._rollback,
                read=read - len(tokens) + len(opened),
            )
            for place in range(request.n)
        ]
        for choice in choices:
            self._resources.enter_context(self.engine.write(choice.generation, state))
        if starts_text:
            before.previous = None
        return choices, _echo(prompt, before, logprobs) if request.echo else []

    def _random(self, place: int) -> np.random.Generator:
        """The source of a choice's draws: a new one costs as much as a token, so choices without a seed share one."""
        seed = self._request.seed
        return self.engine.random if seed is None else np.random.default_rng(seed_of_text(seed, place))

    async def _read_before(self, tokens: list[int]) -> tuple[State | None, list[int], list[TokenLogprobs]]:
        """Read the tokens before the last ones, if they are scored, or several texts or a session continue from there.

        Returns:
            The state, None at the start of a text; the tokens that are not read yet; the scores of the prompt.
        """
        request, start = self._request, self._start.state
        is_scored = request.echo and request.logprobs is not None
        if not (is_scored or self._session is not None or request.n > 1):
            return None, tokens, []
        if not is_scored:
            return *await self.engine.read_to_end(start, tokens), []
        before, pending = self.engine.split(tokens)
        with self.engine.open_stream(start) as stream:
            score = functools.partial(self.engine.score, stream, count=request.logprobs or 0)
            logprobs = [each async for each in score(before, tokens[1 : len(before) + 1])]
            state = self.engine.pool.state(stream)
            logprobs += [each async for each in score(pending[:-1], pending[1:])]
        return state, pending, logprobs[len(self._start.pending) - 1 :]


def _echo(prompt: PromptTokens, before: TextDecoder, logprobs: list[TokenLogprobs]) -> list[Token]:
    """The tokens of an echoed prompt; the first has no score if it is the start of the text."""
    first = len(prompt.ids) - len(logprobs)
    spelling = prompt.spelling[first:] or (0.0,) * len(logprobs)
    spelled = [score.plus(added) for score, added in zip(logprobs, spelling, strict=True)]
    scores: list[TokenLogprobs | None] = [*([None] * first), *spelled]
    tokens, offset = [], 0
    for text, token_id, score in zip(prompt.pieces, prompt.ids, scores, strict=True):
        tokens.append(Token(text, offset, token_id, before.copy(), score))
        before.add(token_id)
        offset += len(text)
    return tokens


def _raise_errors(generations: Iterable[Generation]) -> None:
    """Raise the first error of the generations."""
    for generation in generations:
        if generation.error is not None:
            raise generation.error
