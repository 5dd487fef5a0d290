"""Verification: the artifact beside the PyTorch original, over many shapes, a long closed loop and real text."""

import copy
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray

from ..model.checkpoint import weights_hash
from ..model.evaluation import evaluate_perplexity
from ..model.network import LanguageModel, NetworkState, state_from_tensors, state_tensors
from ..model.threads import single_thread
from ..runtime.errors import ArtifactError
from ..runtime.invariance import first_difference
from ..runtime.predictor import Predictor
from ..runtime.state import State
from ..runtime.vocabulary import Vocabulary
from .parity import BOUNDS, Case, Largest, ParityReport

_BATCHES = (1, 2, 5, 16)
_TIMES = (1, 2, 7, 33)
_LOOP_STEPS = 1000
_SAMPLED_TOKENS = 2000

Tokens = NDArray[np.int64]
Array = NDArray[np.float32]


@final
@dataclass(frozen=True, eq=False)
class Original:
    """What an artifact is compared with.

    Attributes:
        network: The trained network, in evaluation mode.
        vocabulary: Its vocabulary.
        token_ids: Text for the perplexities and half of the grid, int32 [tokens], at least 2; None where the corpus is
            not at hand: then text drawn from the network itself.
        text: What that text is.
    """

    network: LanguageModel
    vocabulary: Vocabulary
    token_ids: NDArray[np.int32] | None = None
    text: str = "drawn from the original itself, because its corpus is missing or has changed"


def verify(original: Original, predictor: Predictor, loop_steps: int = _LOOP_STEPS) -> ParityReport:
    """Compare `predictor`, on any provider, with the network it was exported from.

    Raises:
        ArtifactError: The artifact has other sizes or another vocabulary than the original.
    """
    _require_same_kind(original, predictor)
    network = original.network
    with single_thread():
        token_ids = _sampled_text(network) if original.token_ids is None else original.token_ids
        pair = _Pair(network, predictor)
        loop = pair.closed_loop(int(token_ids[0]), loop_steps)
        cases = [*pair.grid(token_ids), loop.case]
        original_perplexity = evaluate_perplexity(network, token_ids)
    return ParityReport(
        precision=predictor.artifact.precision,
        variant=predictor.artifact.variant,
        exported_from=predictor.artifact.parity.get("original_sha256"),
        provider=predictor.provider,
        original_sha256=weights_hash(network.weights()),
        cases=cases,
        tensors=pair.largest,
        loop_steps=loop_steps,
        loop_differences=loop.differences,
        loop_disagreements=loop.disagreements,
        text=original.text,
        tokens=len(token_ids),
        original_perplexity=original_perplexity,
        artifact_perplexity=predictor.perplexity(token_ids),
        batch_invariant=measure_batch_invariance(predictor),
    )


def measure_batch_invariance(predictor: Predictor) -> bool:
    """Whether rows alone and in a batch, and whole and in chunks, give the same bits.

    Odd sizes and single rows are among them: a kernel may take rows two at a time and treat one that is left over
    differently, as onnxruntime's 8-bit weight-only product does.
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


@final
class _Pair:
    """The original and the artifact, stepped side by side."""

    def __init__(self, network: LanguageModel, predictor: Predictor) -> None:
        self._network = network
        self._predictor = predictor
        self._names = tuple(predictor.artifact.architecture.states)
        self._random = np.random.default_rng(0)
        self._bounds = BOUNDS[predictor.artifact.precision]
        self.largest: dict[str, Largest] = {}
        self._double: LanguageModel | None = None

    def grid(self, text: NDArray[np.int32]) -> list[Case]:
        """For every batch and time size: random tokens from a random state, text from the zero state, kept logits."""
        cases = []
        for batch, time in itertools.product(_BATCHES, _TIMES):
            starts = self._random.integers(0, max(len(text) - time, 1), batch)
            from_text = np.stack([np.resize(text[start : start + time], time) for start in starts]).astype(np.int64)
            random = self._random.integers(0, len(self._predictor.vocabulary), (batch, time))
            size = f"batch {batch}, time {time}"
            cases.append(self._compare(f"random tokens, {size}", random, self._random_state(batch)))
            cases.append(self._compare(f"text, {size}", from_text, self._predictor.initial_state(batch)))
            kept = (time + 1) // 2
            cases.append(self._compare(f"the last {kept} logits, {size}", random, self._random_state(batch), kept))
        return cases

    def closed_loop(self, first: int, steps: int) -> _Loop:
        """Run both sides on their own states and their own greedy tokens.

        Where the tokens differ, both go on with the original's, so that the rest can be compared.
        """
        allowed = self._bounds.difference
        state = self._predictor.initial_state(1)
        original_state = self._to_torch(state)
        token, differences, disagreements = first, 0, 0
        cases = []
        for _ in range(steps):
            tokens = np.array([[token]], np.int64)
            expected, original_state = self._original(tokens, original_state)
            logits, state = self._predictor.step(tokens, state)
            cases.append(self._case(f"closed loop of {steps:,} steps", expected, original_state, logits, state))
            token, found = int(expected[0, 0].argmax()), int(logits[0, 0].argmax())
            margin = float(expected[0, 0, token] - expected[0, 0, found])
            scale = max(float(np.abs(expected).max()), 1.0)
            differences += token != found
            disagreements += token != found and not margin <= 2 * allowed * scale
        return _Loop(differences, disagreements, max(cases, key=lambda case: case.difference))

    def _compare(self, name: str, tokens: Tokens, state: State, kept: int | None = None) -> Case:
        logits, new_state = self._predictor.step(tokens, state, logits_to_keep=kept)
        count = logits.shape[1]
        expected, original_state = self._original(tokens, self._to_torch(state))
        case = self._case(name, expected[:, -count:], original_state, logits, new_state)
        if case.excess(self._bounds) <= 1:
            return case
        others = [self._original(tokens, self._to_torch(moved)) for moved in self._moved(state)]
        others.append(self._exact(tokens, self._to_torch(state)))
        kept_others = [(moved[:, -count:], moved_state) for moved, moved_state in others]
        return self._case(name, expected[:, -count:], original_state, logits, new_state, kept_others)

    def _case(
        self,
        name: str,
        expected: Array,
        original_state: NetworkState,
        logits: Array,
        state: State,
        others: Sequence[tuple[Array, NetworkState]] = (),
    ) -> Case:
        """The tensor that differs most, as a multiple of what is allowed."""
        original = self._named(expected, original_state)
        found = {"logits": logits, **dict(zip(self._names, state.tensors, strict=True))}
        moves = [self._named(*other) for other in others]
        cases = [
            Case(
                name,
                key,
                absolute=float(np.abs(found[key] - theirs).max()),
                scale=max(float(np.abs(theirs).max()), 1.0),
                moved=max((float(np.abs(move[key] - theirs).max()) for move in moves), default=0.0),
            )
            for key, theirs in original.items()
        ]
        for case in cases:
            self.largest[case.tensor] = self.largest.get(case.tensor, Largest()).over(case)
        return max(cases, key=lambda case: case.excess(self._bounds))

    def _named(self, logits: Array, state: NetworkState) -> dict[str, Array]:
        tensors = {key: tensor.cpu().numpy() for key, tensor in state_tensors(state).items()}
        return {"logits": logits, **{key: tensors[key] for key in self._names}}

    def _moved(self, state: State) -> Iterator[State]:
        """The state, each number moved by the precision's rounding: all up, all down, at random."""
        random, size = np.random.default_rng(1), self._bounds.rounding
        for signs in ((1.0,), (-1.0,), (-1.0, 1.0)):
            tensors = (
                tensor + size * random.choice(signs, tensor.shape) * np.maximum(np.abs(tensor), 0.5)
                for tensor in state.tensors
            )
            yield State(state.model_sha256, tuple(tensor.astype(np.float32) for tensor in tensors))

    @torch.inference_mode()
    def _exact(self, tokens: Tokens, state: NetworkState) -> tuple[Array, NetworkState]:
        """The original in float64, which rounds almost nothing."""
        if self._double is None:
            self._double = copy.deepcopy(self._network).double()
        doubled = tuple(tuple(tensor.double() for tensor in layer) for layer in state)
        device = self._network.projection.weight.device
        logits, new_state = self._double(torch.from_numpy(tokens).to(device), doubled)
        return logits.cpu().numpy(), new_state

    @torch.inference_mode()
    def _original(self, tokens: Tokens, state: NetworkState) -> tuple[Array, NetworkState]:
        device = self._network.projection.weight.device
        logits, new_state = self._network(torch.from_numpy(tokens).to(device), state)
        return logits.cpu().numpy(), new_state

    def _random_state(self, batch: int) -> State:
        zero = self._predictor.initial_state(batch)
        draws = tuple(self._random.uniform(-1, 1, tensor.shape).astype(np.float32) for tensor in zero.tensors)
        return State(zero.model_sha256, draws)

    def _to_torch(self, state: State) -> NetworkState:
        device = self._network.projection.weight.device
        named = zip(self._names, state.tensors, strict=True)
        return state_from_tensors({name: torch.from_numpy(tensor.copy()).to(device) for name, tensor in named})


def _require_same_kind(original: Original, predictor: Predictor) -> None:
    found, expected = predictor.artifact.architecture, original.network.architecture
    if found != expected:
        raise ArtifactError(f"the artifact is {found}, the original {expected}")
    if predictor.vocabulary.sha256 != original.vocabulary.sha256:
        raise ArtifactError(
            f"the artifact has another vocabulary ({len(predictor.vocabulary):,} tokens, "
            f"{predictor.vocabulary.sha256[:12]}...) than the original ({len(original.vocabulary):,}, "
            f"{original.vocabulary.sha256[:12]}...)"
        )


@torch.inference_mode()
def _sampled_text(network: LanguageModel) -> NDArray[np.int32]:
    """Tokens drawn from the network itself."""
    generator = torch.Generator().manual_seed(0)
    state, token = network.initial_state(1), 0
    drawn = []
    for _ in range(_SAMPLED_TOKENS):
        logits, state = network(torch.tensor([[token]], device=network.projection.weight.device), state)
        token = int(torch.multinomial(logits[0, 0].cpu().softmax(0), 1, generator=generator))
        drawn.append(token)
    return np.array(drawn, np.int32)


def _same_bits(first: tuple[Array, State], second: tuple[Array, State]) -> bool:
    pairs = zip((first[0], *first[1].tensors), (second[0], *second[1].tensors), strict=True)
    return all(np.array_equal(ours, theirs) for ours, theirs in pairs)
