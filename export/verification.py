"""Verification: the artifact beside the PyTorch original, over many shapes, a long closed loop and real text."""

import itertools
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from ..model.checkpoint import weights_hash
from ..model.evaluation import evaluate_perplexity
from ..model.network import LanguageModel, NetworkState, state_from_tensors, state_tensors
from ..model.threads import single_thread
from ..runtime.artifact import Architecture
from ..runtime.errors import ArtifactError
from ..runtime.predictor import Predictor
from ..runtime.state import State
from .parity import Case, ParityReport

_BATCHES = (1, 2, 5, 16)
_TIMES = (1, 2, 7, 33)
_LOOP_STEPS = 1000
_SAMPLED_TOKENS = 2000

Tokens = NDArray[np.int64]
Array = NDArray[np.float32]


def verify(
    network: LanguageModel, predictor: Predictor, token_ids: NDArray[np.int32] | None, loop_steps: int = _LOOP_STEPS
) -> ParityReport:
    """Compare `predictor` with the network it was exported from.

    Args:
        network: The original, in evaluation mode.
        predictor: The artifact, on any provider.
        token_ids: Text for the perplexities and half of the grid, int32 [tokens], at least 2; None where the corpus
            is not at hand: then text drawn from the original itself.
        loop_steps: Length of the closed loop.

    Raises:
        ArtifactError: The artifact has other sizes than the network.
    """
    _require_same_sizes(network, predictor)
    token_ids = _sampled_text(network) if token_ids is None else token_ids
    pair = _Pair(network, predictor)
    with single_thread():
        disagreements, loop_case = pair.closed_loop(int(token_ids[0]), loop_steps)
        cases = [*pair.grid(token_ids), loop_case]
        original_perplexity = evaluate_perplexity(network, token_ids)
    return ParityReport(
        precision=predictor.artifact.precision,
        variant=predictor.artifact.variant,
        provider=predictor.provider,
        original_sha256=weights_hash(network.weights()),
        cases=cases,
        loop_steps=loop_steps,
        loop_disagreements=disagreements,
        tokens=len(token_ids),
        original_perplexity=original_perplexity,
        artifact_perplexity=predictor.perplexity(token_ids),
        batch_invariant=measure_batch_invariance(predictor),
    )


def measure_batch_invariance(predictor: Predictor) -> bool:
    """Whether rows alone and in a batch, and whole and in chunks, give the same bits."""
    random = np.random.default_rng(0)
    rows = random.integers(0, len(predictor.vocabulary), (16, 24))
    whole = predictor.step(rows, predictor.initial_state(16))
    for row in (0, 7, 15):
        alone = predictor.step(rows[row : row + 1], predictor.initial_state(1))
        if not _same_bits(_row(whole, row), alone):
            return False
    for cuts in ([1] * 24, [5, 1, 11, 7]):
        state, parts = predictor.initial_state(16), []
        for start, size in zip(itertools.accumulate([0, *cuts[:-1]]), cuts, strict=True):
            logits, state = predictor.step(rows[:, start : start + size], state)
            parts.append(logits)
        if not _same_bits(whole, (np.concatenate(parts, axis=1), state)):
            return False
    return True


@final
class _Pair:
    """The original and the artifact, stepped side by side."""

    def __init__(self, network: LanguageModel, predictor: Predictor) -> None:
        self._network = network
        self._predictor = predictor
        self._names = tuple(predictor.artifact.architecture.states)
        self._random = np.random.default_rng(0)

    def grid(self, text: NDArray[np.int32]) -> list[Case]:
        """One case for every batch and time size: random tokens from a random state, and text from the zero state."""
        cases = []
        for batch, time in itertools.product(_BATCHES, _TIMES):
            starts = self._random.integers(0, max(len(text) - time, 1), batch)
            from_text = np.stack([np.resize(text[start : start + time], time) for start in starts]).astype(np.int64)
            random = self._random.integers(0, len(self._predictor.vocabulary), (batch, time))
            for kind, tokens, state in (
                ("random tokens", random, self._random_state(batch)),
                ("text", from_text, self._predictor.initial_state(batch)),
            ):
                cases.append(self._compare(f"{kind}, batch {batch}, time {time}", tokens, state))
        return cases

    def closed_loop(self, first: int, steps: int) -> tuple[int, Case]:
        """Disagreements that the margin does not excuse, and the largest difference over all steps.

        After a disagreement both sides go on with the original's token.
        """
        state = self._predictor.initial_state(1)
        original_state = self._to_torch(state)
        token = first
        disagreements, worst, scale = 0, 0.0, 0.0
        for _ in range(steps):
            tokens = np.array([[token]], np.int64)
            expected, original_state = self._original(tokens, original_state)
            logits, state = self._predictor.step(tokens, state)
            difference, size = self._differences(expected, original_state, logits, state)
            worst, scale = float(np.fmax(worst, difference)), max(scale, size)
            if not np.isfinite(difference):
                worst = float("nan")
            token, found = int(expected[0, 0].argmax()), int(logits[0, 0].argmax())
            margin = float(expected[0, 0, token] - expected[0, 0, found])
            disagreements += token != found and not margin <= 2 * difference
        return disagreements, Case(f"closed loop of {steps:,} steps", worst, scale)

    def _compare(self, name: str, tokens: Tokens, state: State) -> Case:
        expected, original_state = self._original(tokens, self._to_torch(state))
        logits, new_state = self._predictor.step(tokens, state)
        return Case(name, *self._differences(expected, original_state, logits, new_state))

    def _differences(
        self, expected: Array, original_state: NetworkState, logits: Array, state: State
    ) -> tuple[float, float]:
        """Largest absolute difference, and largest magnitude of the original, over logits and states."""
        original = state_tensors(original_state)
        pairs = [(expected, logits)]
        pairs += [(original[name].cpu().numpy(), found) for name, found in zip(self._names, state.tensors, strict=True)]
        difference = np.max([np.abs(ours - theirs).max() for theirs, ours in pairs])
        return float(difference), float(np.max([np.abs(theirs).max() for theirs, _ in pairs]))

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


def _require_same_sizes(network: LanguageModel, predictor: Predictor) -> None:
    found: tuple[Architecture, int] = (predictor.artifact.architecture, len(predictor.vocabulary))
    expected = (network.architecture, network.vocabulary_size)
    if found != expected:
        raise ArtifactError(
            f"the artifact is {found[0]} with {found[1]:,} tokens, the original {expected[0]} with {expected[1]:,}"
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


def _row(result: tuple[Array, State], row: int) -> tuple[Array, State]:
    logits, state = result
    part = slice(row, row + 1)
    return logits[part], State(state.model_sha256, tuple(tensor[part] for tensor in state.tensors))


def _same_bits(first: tuple[Array, State], second: tuple[Array, State]) -> bool:
    pairs = zip((first[0], *first[1].tensors), (second[0], *second[1].tensors), strict=True)
    return all(np.array_equal(ours, theirs) for ours, theirs in pairs)
