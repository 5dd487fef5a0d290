"""Verification: an artifact compared with a reference over many shapes, a long closed loop and real text."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from ..runtime.artifact.artifact import LOGITS
from ..runtime.batches.batch_invariance import first_difference
from ..runtime.errors import ArtifactError
from ..runtime.predictor import Predictor
from ..runtime.state import State
from .parity import Array, Case, Largest, ParityReport
from .reference import PredictorReference, Reference, States, Text, Tokens, zero_states
from .rounding import measure_rounding
from .tolerances import BOUNDS

_BATCHES = (1, 2, 5, 16)
_TIMES = (1, 2, 7, 33)
_LOOP_STEPS = 1000
_DRAWN_TOKENS = 2000

Tensors = dict[str, Array]
"""`logits` and the name of each state -> a call's result."""


def verify(
    reference: Reference,
    predictor: Predictor,
    loop_steps: int = _LOOP_STEPS,
    drawn_tokens: int = _DRAWN_TOKENS,
    shapes: Sequence[tuple[int, int]] = (),
) -> ParityReport:
    """Compare `predictor`, on any provider, with a reference.

    Args:
        reference: The computation that it must agree with.
        predictor: The artifact.
        loop_steps: Steps of the closed loop.
        drawn_tokens: Length of the text that is drawn from a reference without one.
        shapes: Batch and time of additional calls to compare.

    Raises:
        ArtifactError: The artifact has other sizes or another vocabulary than the reference, or the reference's logits
            are NaN or infinite.
    """
    _require_same_network(reference, predictor)
    text = reference.text or _draw_text(reference, drawn_tokens)
    comparison = _Comparison(reference, predictor)
    loop = comparison.closed_loop(int(text.token_ids[0]), loop_steps)
    return ParityReport(
        precision=predictor.artifact.precision,
        variant=predictor.artifact.variant,
        exported_from=predictor.artifact.parity.get("original_sha256"),
        provider=predictor.provider,
        original=reference.name,
        original_sha256=reference.weights_sha256,
        cases=[*comparison.grid(text.token_ids, shapes), loop.case],
        tensors=comparison.largest,
        loop_steps=loop_steps,
        loop_differences=loop.differences,
        loop_disagreements=loop.disagreements,
        text=text.source,
        tokens=len(text.token_ids),
        original_perplexity=reference.perplexity(text.token_ids),
        artifact_perplexity=predictor.perplexity(text.token_ids),
        batch_invariant=measure_batch_invariance(predictor),
    )


def measure_batch_invariance(predictor: Predictor) -> bool:
    """Whether rows give the same bits alone and in a batch, whole and in chunks.

    The sizes include odd ones: a kernel may take rows two at a time and compute a last single row differently.
    """
    if first_difference(predictor, (2, 3, 16, 17)) or first_difference(predictor, (16,), time=24):
        return False
    random = np.random.default_rng(0)
    rows = random.integers(0, len(predictor.vocabulary), (16, 24))
    whole = predictor.step(rows, predictor.initial_state(16))
    for cuts in ([1] * 24, [5, 1, 11, 7]):
        state, parts = predictor.initial_state(16), []
        for start, size in zip(itertools.accumulate([0, *cuts[:-1]]), cuts, strict=True):
            logits, state = predictor.step(rows[:, start : start + size], state)
            parts.append(logits)
        if not _same_bits(whole, (np.concatenate(parts, axis=1), state)):
            return False
    return True


class _Loop(NamedTuple):
    differences: int
    disagreements: int
    case: Case


class _Step(NamedTuple):
    """A step of the closed loop.

    Attributes:
        tokens: int64 [1, 1], read by both sides.
        cases: Logits and states after it.
        lead: The reference's logit of its own next token minus that of the artifact's; None where they are the same
            token.
    """

    tokens: Tokens
    cases: list[Case]
    lead: float | None


@final
class _Comparison:
    """The reference and the artifact, stepped side by side."""

    def __init__(self, reference: Reference, predictor: Predictor) -> None:
        self._reference = reference
        self._artifact = PredictorReference(predictor, predictor.provider)
        self._random = np.random.default_rng(0)
        self._bounds = BOUNDS[predictor.artifact.precision]
        self.largest: dict[str, Largest] = {}

    def grid(self, text: NDArray[np.int32], shapes: Sequence[tuple[int, int]]) -> list[Case]:
        """Compare random tokens from a random state, text from the zero state, and kept logits, in all sizes."""
        cases = []
        for batch, time in dict.fromkeys([*itertools.product(_BATCHES, _TIMES), *shapes]):
            starts = self._random.integers(0, max(len(text) - time, 1), batch)
            from_text = np.stack([np.resize(text[start : start + time], time) for start in starts]).astype(np.int64)
            random = self._random.integers(0, len(self._artifact.vocabulary), (batch, time))
            size = f"batch {batch}, time {time}"
            zero = zero_states(self._artifact.architecture, batch)
            cases.append(self._compare(f"random tokens, {size}", random, self._random_states(zero)))
            cases.append(self._compare(f"text, {size}", from_text, zero))
            kept = (time + 1) // 2
            cases.append(self._compare(f"the last {kept} logits, {size}", random, self._random_states(zero), kept))
        return cases

    def closed_loop(self, first: int, steps: int) -> _Loop:
        """Run both sides on their own states and greedy tokens.

        Where the tokens differ, both continue with the reference's token, so that later steps can be compared.
        """
        done = self._run_loop(first, steps)
        if any(case.excess(self._bounds) > 1 for step in done for case in step.cases):
            done = self._with_rounding(done)
        differing = [step for step in done if step.lead is not None]
        return _Loop(
            differences=len(differing),
            disagreements=sum(self._is_disagreement(step) for step in differing),
            case=max((case for step in done for case in step.cases), key=lambda case: case.excess(self._bounds)),
        )

    def _run_loop(self, first: int, steps: int) -> list[_Step]:
        predictor = self._artifact.predictor
        names = tuple(predictor.artifact.architecture.states)
        states, state = zero_states(predictor.artifact.architecture, 1), predictor.initial_state(1)
        token, done, name = first, [], f"closed loop of {steps:,} steps"
        for _ in range(steps):
            tokens = np.array([[token]], np.int64)
            expected, states = self._reference.run(tokens, states)
            logits, state = predictor.step(tokens, state)  # on a GPU the state stays there
            after = dict(zip(names, state.tensors, strict=True))
            cases = self._cases(name, {LOGITS: expected, **states}, {LOGITS: logits, **after})
            token, chosen = int(expected[0, 0].argmax()), int(logits[0, 0].argmax())
            lead = None if token == chosen else float(expected[0, 0, token] - expected[0, 0, chosen])
            done.append(_Step(tokens, cases, lead))
        return done

    def _with_rounding(self, done: Sequence[_Step]) -> list[_Step]:
        """The steps with the reference's own rounding error up to each of them."""
        zero = zero_states(self._artifact.architecture, 1)
        rounding = measure_rounding(self._reference, (step.tokens for step in done), zero, self._bounds.rounding)
        return [
            step._replace(cases=[dataclasses.replace(case, moved=moved[case.tensor]) for case in step.cases])
            for step, moved in zip(done, rounding, strict=True)
        ]

    def _is_disagreement(self, step: _Step) -> bool:
        """Whether the reference prefers its token by more than two logits may differ."""
        logits = next(case for case in step.cases if case.tensor == LOGITS)
        return step.lead is not None and not step.lead <= 2 * logits.allowed(self._bounds)

    def _compare(self, name: str, tokens: Tokens, states: States, kept: int | None = None) -> Case:
        """The tensor that differs most as a multiple of its bound."""

        def tensors(logits: Array, after: States) -> Tensors:
            return {LOGITS: logits if kept is None else logits[:, -kept:], **after}

        computed = tensors(*self._artifact.run(tokens, states, kept))
        cases = self._cases(name, tensors(*self._reference.run(tokens, states)), computed)
        if any(case.excess(self._bounds) > 1 for case in cases):
            path = (tokens[:, time : time + 1] for time in range(tokens.shape[1]))
            *_, moved = measure_rounding(self._reference, path, states, self._bounds.rounding)
            cases = [dataclasses.replace(case, moved=moved[case.tensor]) for case in cases]
        return max(cases, key=lambda case: case.excess(self._bounds))

    def _cases(self, name: str, expected: Tensors, computed: Tensors) -> list[Case]:
        cases = [Case.of(name, key, expected[key], computed[key]) for key in expected]
        for case in cases:
            self.largest[case.tensor] = self.largest.get(case.tensor, Largest()).over(case)
        return cases

    def _random_states(self, states: States) -> States:
        return {name: self._random.uniform(-1, 1, array.shape).astype(np.float32) for name, array in states.items()}


def _require_same_network(reference: Reference, predictor: Predictor) -> None:
    architecture = predictor.artifact.architecture
    if architecture != reference.architecture:
        raise ArtifactError(f"the artifact has {architecture}, the original {reference.architecture}")
    if predictor.vocabulary.sha256 != reference.vocabulary.sha256:
        raise ArtifactError(
            f"the artifact has another vocabulary ({len(predictor.vocabulary):,} tokens, "
            f"{predictor.vocabulary.sha256[:12]}...) than the original ({len(reference.vocabulary):,}, "
            f"{reference.vocabulary.sha256[:12]}...)"
        )


def _draw_text(reference: Reference, count: int) -> Text:
    """Draw tokens from the reference, each by its probability."""
    random = np.random.default_rng(0)
    states, token, drawn = zero_states(reference.architecture, 1), 0, []
    for _ in range(count):
        logits, states = reference.run(np.array([[token]], np.int64), states)
        row = logits[0, 0].astype(np.float64)
        if not np.isfinite(row).all():
            raise ArtifactError(f"the logits of the original, {reference.name}, are not finite: nothing equals them")
        sums = np.exp(row - row.max()).cumsum()
        token = min(int(np.searchsorted(sums, random.random() * sums[-1], side="right")), len(sums) - 1)
        drawn.append(token)
    return Text(np.array(drawn, np.int32), f"drawn from the original itself, because {reference.why_no_text}")


def _same_bits(first: tuple[Array, State], second: tuple[Array, State]) -> bool:
    pairs = zip((first[0], *first[1].tensors), (second[0], *second[1].tensors), strict=True)
    return all(np.array_equal(ours, theirs) for ours, theirs in pairs)
