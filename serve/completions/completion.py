"""Completion: one request's prompts are read, and its choices written side by side."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import final

from ..concurrency import gather
from ..engine import Engine
from ..errors import invalid
from ..options import ServeOptions
from ..schemas import CompletionRequest
from ..sessions import Rollback, Session, Sessions, SessionState
from .bias import LogitBias
from .choice import Choice, Delta, choice_random
from .logprobs import TokenLogprobs
from .prompt import PromptTokens, split_prompts
from .stop import Token

_CHARS_PER_TOKEN = 16
"""An echoed prompt counts as at least one token for every this many characters."""


@final
class Completion:
    """The work for one request, in steps.

    `steps` takes slots, streams and the session. The caller calls `finish` when the response is made, and `release` in
    any case.

    Attributes:
        engine: Runs the model.
        is_done: Whether the latest step is the last one.
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
        self._bias: LogitBias | None = None
        self._start = SessionState(engine.start)
        self._prompts: list[PromptTokens] = []
        self._choices: list[Choice] = []
        self._session: Session | None = None
        self._rollback: Rollback | None = None

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all prompts."""
        return sum(len(prompt.ids) for prompt in self._prompts)

    @property
    def completion_tokens(self) -> int:
        """Tokens drawn so far, including those of a stop string."""
        return sum(choice.generated for choice in self._choices)

    async def steps(self, deadline: float) -> AsyncGenerator[list[Delta], None]:
        """Yield the echoed prompts, then one token of each choice at a time.

        Args:
            deadline: When the last step must be done, in the event loop's seconds.

        Raises:
            ApiError: There is no such session, or it is in use; a prompt or the response is too long; the bias has
                an id outside the vocabulary; or too few slots are free.
            TimeoutError: The deadline has passed.
            PoolError: A call of the model failed.
        """
        if self._request.session is not None:
            taken = self._sessions.take(self._request.session, self.engine.sha256)
            self._session = self._resources.enter_context(taken)
            self._start = self._session.state
        if self._request.logit_bias:
            self._bias = LogitBias(self._request.logit_bias, self.engine)
        async with asyncio.timeout_at(deadline):
            await self._split_prompts()
            self._resources.enter_context(self.engine.slots.take(len(self._prompts) * self._request.n))
            deltas = await self._read_prompts()
        if deltas:
            yield deltas
        live = self._choices
        while live:
            async with asyncio.timeout_at(deadline):
                deltas = [await self._draw(choice) for choice in live]
            live = [choice for choice in live if choice.finish_reason is None]
            if live:
                yield deltas
                async with asyncio.timeout_at(deadline):
                    await gather(choice.read() for choice in live)
        self.is_done = True
        yield deltas

    def finish(self) -> None:
        """Move the session on, and release everything."""
        if self._session is not None and self._rollback is not None:
            self._session.state = self._rollback.state
        self.release()

    def release(self) -> None:
        """Release slots, streams and the session. Idempotent."""
        self._resources.close()

    async def _split_prompts(self) -> None:
        """Split the prompts, and refuse a response that may be too long."""
        request, limits = self._request, self._limits
        self._prompts = await split_prompts(
            request.prompts,
            self.engine.vocabulary,
            self._start.last_token,
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

    async def _read_prompts(self) -> list[Delta]:
        """Read all prompts and make their choices; returns what is echoed."""
        results = await gather(self._read_prompt(number, prompt) for number, prompt in enumerate(self._prompts))
        self._choices = [choice for choices, _ in results for choice in choices]
        return [
            Delta(choice.index, echo, blank=prompt.blank)
            for prompt, (choices, echo) in zip(self._prompts, results, strict=True)
            for choice in choices
            if echo or prompt.blank
        ]

    async def _read_prompt(self, number: int, prompt: PromptTokens) -> tuple[list[Choice], list[Token]]:
        """Read a prompt once; returns its choices, each with its own stream, and the tokens that are echoed."""
        engine, request = self.engine, self._request
        first, tokens = self._start.last_token, list(prompt.ids)
        starts_text = self._session is None and prompt.given_as_ids and tokens[0] == first
        if not starts_text:  # else the ids have the end of sentence after which a text begins
            tokens.insert(0, first)
        stream = self._resources.enter_context(engine.open_stream(self._start.state))
        *before, last = tokens
        before, logprobs = await self._read_before(stream, before, last)
        offset = len(prompt.text)  # 0 unless it is echoed
        if self._session is not None:
            count = self._start.tokens + len(prompt.ids)
            self._rollback = Rollback(SessionState(engine.state(stream, pending=last), count), offset)
        logits = await engine.read(stream, [*before, last])
        states = [engine.pool.state(stream)] * (request.n - 1) if request.n > 1 else []
        streams = [stream, *(self._resources.enter_context(engine.open_stream(state)) for state in states)]
        choices = [
            Choice(
                engine,
                index=number * request.n + place,
                stream=own_stream,
                request=request,
                sampling=self._sampling,
                bias=self._bias,
                random=choice_random(request.seed, place),
                logits=logits,
                last_token=last,
                end=offset,
                after_space=prompt.ends_in_space,
            )
            for place, own_stream in enumerate(streams)
        ]
        return choices, _echo(prompt, None if starts_text else first, logprobs) if request.echo else []

    async def _read_before(self, stream: int, before: list[int], last: int) -> tuple[list[int], list[TokenLogprobs]]:
        """Read the tokens before a prompt's last one, if they are scored or a session may continue from there.

        Returns:
            The tokens that are not read yet, and the scores.
        """
        request = self._request
        if request.echo and request.logprobs is not None:
            targets = [*before, last][1:]
            return [], [item async for item in self.engine.score(stream, before, targets, request.logprobs)]
        if self._session is not None and before:
            await self.engine.read(stream, before)
            return [], []
        return before, []

    async def _draw(self, choice: Choice) -> Delta:
        """Draw a token, then let the event loop run: with a large vocabulary a draw takes a while."""
        delta = choice.draw()
        if self._rollback is not None and choice.generated:
            self._rollback.add(choice.state, choice.end, choice.sure_end)
        await asyncio.sleep(0)
        return delta


def _echo(prompt: PromptTokens, previous: int | None, logprobs: list[TokenLogprobs]) -> list[Token]:
    """The tokens of an echoed prompt; the first has no score if it is the start of the text."""
    first = len(prompt.ids) - len(logprobs)
    spelling = prompt.spelling[first:] or (0.0,) * len(logprobs)
    spelled = [score.plus(added) for score, added in zip(logprobs, spelling, strict=True)]
    scores: list[TokenLogprobs | None] = [*([None] * first), *spelled]
    tokens, offset = [], 0
    for text, token_id, score in zip(prompt.pieces, prompt.ids, scores, strict=True):
        tokens.append(Token(text, offset, token_id, previous, score))
        previous, offset = token_id, offset + len(text)
    return tokens
