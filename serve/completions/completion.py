"""A completion from its request to its last token: prompts are read, choices are written side by side."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import final

from ...runtime.sampling import Sampling
from ..concurrency import together
from ..engine import Engine
from ..errors import invalid
from ..options import ServeOptions
from ..schemas import CompletionRequest, Prompt
from ..sessions import Session, Sessions, Snapshot, Trail
from .choice import Choice, ChoiceOptions, Delta, random_of
from .logprobs import Scored
from .prompt import Place, PromptTokens, split_prompt, start_of_text
from .stop import Token

_TOKEN_CHARS = 16
"""Characters of an echoed prompt that count as a token at least."""
_LONG_TEXT = 4096
"""Characters from which on a prompt is split in another thread."""


@final
class Completion:
    """The answer to one request, step by step.

    Slots, streams and the session are taken by `steps`. Who reads the steps calls `finish` when the answer is made, and
    `give_back` in any case.
    """

    def __init__(self, engine: Engine, sessions: Sessions, request: CompletionRequest, options: ServeOptions) -> None:
        """Nothing runs yet.

        Args:
            engine: Runs the model.
            sessions: Where the request's session is.
            request: What is asked for, checked.
            options: The server's bounds.
        """
        self.is_written = False
        """Whether the step that came last is the last one."""
        self._engine = engine
        self._sessions = sessions
        self._request = request
        self._bounds = options
        self._taken = contextlib.ExitStack()
        self._given = request.prompts
        top_p = None if request.top_p == 1 else request.top_p
        sampling = Sampling(temperature=1.0 if request.temperature is None else request.temperature, top_p=top_p)
        self._options = ChoiceOptions(sampling, request.tokens, request.stops, request.logprobs)
        self._prompts: list[PromptTokens] = []
        self._choices: list[Choice] = []
        self._session: Session | None = None
        self._trail: Trail | None = None

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all prompts."""
        return sum(len(prompt.ids) for prompt in self._prompts)

    @property
    def completion_tokens(self) -> int:
        """Tokens that were drawn so far, those of a stop included."""
        return sum(choice.generated for choice in self._choices)

    async def steps(self, deadline: float) -> AsyncGenerator[list[Delta], None]:
        """Write the answer: what is echoed, then a token of each choice that goes on, then another one.

        Args:
            deadline: When it must be done, in the event loop's seconds.

        Raises:
            ApiError: There is no such session, or another request has it; a prompt or the answer is too long; or not
                enough slots are free.
            TimeoutError: It is not done in time.
            PoolError: A call of the model failed.
        """
        if self._request.session is not None:
            self._session = self._taken.enter_context(self._sessions.take(self._request.session))
        async with asyncio.timeout_at(deadline):
            start = await self._split_prompts()
            self._check_answer()
            self._taken.enter_context(self._engine.take_slots(len(self._given) * self._request.choices))
            deltas = await self._begin(start)
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
                    await together(choice.read() for choice in live)
        self.is_written = True
        yield deltas

    def finish(self) -> None:
        """Let the session go on from here, and give everything back."""
        if self._session is not None and self._trail is not None:
            self._session.snapshot = self._trail.last
        self.give_back()

    def give_back(self) -> None:
        """Give back slots, streams and the session, those that are still taken."""
        self._taken.close()

    async def _split_prompts(self) -> Place:
        """Split all prompts; where they begin."""
        start = start_of_text(self._engine.vocabulary) if self._session is None else self._session.snapshot.place
        if sum(map(len, self._given)) > _LONG_TEXT:
            self._prompts = await asyncio.to_thread(self._split, start)
        else:
            self._prompts = self._split(start)
        return start

    def _check_answer(self) -> None:
        """Refuse an answer that may be too long; only echoed prompts have pieces."""
        echoed = sum(max(len(prompt.ids), len(prompt.text) // _TOKEN_CHARS) for prompt in self._prompts if prompt.text)
        found = self._request.choices * (echoed + len(self._prompts) * self._request.tokens)
        largest = self._bounds.max_answer_tokens
        if found > largest:
            raise invalid(
                f"the answer may have {found:,} tokens, those of all choices echoed ones included, expected "
                f"{largest:,} or fewer; ask for fewer tokens or choices, or in several requests",
                "max_tokens",
            )

    async def _begin(self, start: Place) -> list[Delta]:
        """Read all prompts; what is echoed of them."""
        found = await together(self._begin_prompt(number, prompt, start) for number, prompt in enumerate(self._prompts))
        self._choices = [choice for choices, _ in found for choice in choices]
        return [
            Delta(choice.index, echo, blank=prompt.blank)
            for prompt, (choices, echo) in zip(self._prompts, found, strict=True)
            for choice in choices
            if echo or prompt.blank
        ]

    def _split(self, start: Place) -> list[PromptTokens]:
        vocabulary, echo = self._engine.vocabulary, bool(self._request.echo)

        def split(prompt: Prompt) -> PromptTokens:
            return split_prompt(prompt, vocabulary, start.previous, self._bounds.max_prompt_tokens, with_pieces=echo)

        return [split(prompt) for prompt in self._given]

    async def _begin_prompt(self, number: int, prompt: PromptTokens, start: Place) -> tuple[list[Choice], list[Token]]:
        """Read a prompt once; its choices, each with a stream of its own, and what is echoed."""
        if self._session is None and prompt.begins_text(start):
            start = Place((), None)
        engine, count = self._engine, self._request.choices
        stream = self._taken.enter_context(
            engine.open_stream(None if self._session is None else self._session.snapshot.state)
        )
        *before, last = [*start.pending, *prompt.ids]
        before, scores = await self._read_before(stream, before, last)
        offset = len(prompt.text)  # 0 where it is not echoed
        if self._session is not None:
            tokens = self._session.snapshot.tokens + len(prompt.ids)
            self._trail = Trail(Snapshot(engine.pool.state(stream), Place((last,), last), tokens), offset)
        logits = await engine.read(stream, [*before, last])
        states = [engine.pool.state(stream)] * (count - 1) if count > 1 else []
        streams = [stream, *(self._taken.enter_context(engine.open_stream(state)) for state in states)]
        choices = []
        for place, own in enumerate(streams):
            random = random_of(self._request.seed, place)
            index = number * count + place
            choices.append(Choice(engine, index, own, self._options, random, logits, last, offset))
        return choices, _echo(prompt, start, scores) if self._request.echo else []

    async def _read_before(self, stream: int, before: list[int], last: int) -> tuple[list[int], list[Scored]]:
        """Read what must be read apart from the prompt's last token: what is left of it, and scores.

        That is all of it where it is scored, and where a session may have to go on from before the last token.
        """
        request = self._request
        if request.echo and request.logprobs is not None:
            targets = [*before, last][1:]
            return [], [scored async for scored in self._engine.score(stream, before, targets, request.logprobs)]
        if self._session is not None and before:
            await self._engine.read(stream, before)
            return [], []
        return before, []

    async def _draw(self, choice: Choice) -> Delta:
        """Draw a token, and let others have a turn: over a large vocabulary a draw takes a while."""
        delta = choice.draw()
        if self._trail is not None and choice.generated:
            self._trail.add(choice.last_snapshot, choice.end, choice.kept_end)
        await asyncio.sleep(0)
        return delta


def _echo(prompt: PromptTokens, start: Place, scores: list[Scored]) -> list[Token]:
    """The tokens of an echoed prompt; the first has no score where it begins the text by itself."""
    previous = [start.previous, *prompt.ids[:-1]][: len(prompt.ids)]
    known: list[Scored | None] = [*([None] * (len(prompt.ids) - len(scores))), *scores]
    tokens, offset = [], 0
    for text, token_id, before, scored in zip(prompt.pieces, prompt.ids, previous, known, strict=True):
        tokens.append(Token(text, offset, token_id, before, scored))
        offset += len(text)
    return tokens
