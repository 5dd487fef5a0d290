"""The network, its optimizers, its weight average and its recurrent state: everything that a training step changes."""

import math
from typing import final

import torch
from torch import Tensor

from ..checkpoint import Checkpoint, random_state, set_random_state, validate_tensors
from ..data.corpus import Corpus
from ..network import LanguageModel, state_from_tensors, state_shapes, state_tensors
from .candidates import CandidateSampler
from .config import TrainConfig
from .distributed import ProcessGroup
from .loss import Objective
from .optimizers import Optimizers, WeightAverage, clip_gradients, updates_touched_rows


class DivergenceError(Exception):
    """The training produced NaN or infinity."""


def initial_network(config: TrainConfig, vocabulary_size: int) -> LanguageModel:
    """The network at the start of its training, on the CPU: weights drawn with the configuration's seed, biases 0."""
    network = LanguageModel(config.architecture, vocabulary_size, config.dropouts)
    generator = torch.Generator().manual_seed(config.seed)
    network.initialize(config.init_range, generator, scaled_layers=config.layer_init == "scaled")
    return network


@final
class Learner:
    """The trained state of one process; the tensors of a checkpoint restore it bit for bit.

    Attributes:
        network: The network.
        average: The average of its weights.
    """

    def __init__(self, config: TrainConfig, corpus: Corpus, device: torch.device, group: ProcessGroup) -> None:
        """Make the network and its optimizers; `config` has a precision other than `auto`."""
        self._config, self._device, self._group = config, device, group
        self.network = initial_network(config, len(corpus.vocabulary))
        if config.bias_init == "unigram":
            self.network.load_weights({"projection.bias": torch.from_numpy(corpus.unigram_log_probs()).float()})
        self.network.embedding.sparse = updates_touched_rows(config) and group.count == 1
        self.network.to(device)
        self.average = WeightAverage(config, self.network)
        self._objective = group.data_parallel(Objective(self.network, config), device)
        self._optimizers = Optimizers(config, self.network)
        sampled = 0 < config.sampled_softmax < len(corpus.vocabulary)
        self._sampler = CandidateSampler(corpus.train_counts, config.sampled_softmax, device) if sampled else None
        self.reset_state()

    @property
    def learning_rate(self) -> float:
        """Learning rate of the last step."""
        return self._optimizers.learning_rate

    def begin_from(self, weights: dict[str, Tensor]) -> None:
        """Start from these weights, and a new average of them."""
        self.network.load_weights(weights)
        self.average = WeightAverage(self._config, self.network)

    def reset_state(self) -> None:
        """Set the recurrent state to zero."""
        self._state = self.network.initial_state(self._config.streams // self._group.count)

    def step(self, inputs: Tensor, targets: Tensor, learning_rate: float, *, full_softmax: bool) -> float:
        """Update the weights once; returns the mean loss of a token, or its estimate by a sampled softmax.

        Args:
            inputs: int64 [rows of this process, time].
            targets: int64 [rows of this process, time], one token ahead.
            learning_rate: Learning rate of this step.
            full_softmax: Sum over all tokens, even if the configuration has a sampled softmax.

        Raises:
            DivergenceError: The loss or the gradient is NaN or infinite; the weights are unchanged.
        """
        tokens = inputs.to(self._device), targets.to(self._device)
        candidates = None if full_softmax or self._sampler is None else self._sampler.draw()
        loss, token_loss, self._state = self._objective(*tokens, self._state, candidates)
        value = self._group.mean(token_loss)
        if not math.isfinite(value):
            raise DivergenceError(f"the loss is {value}")
        self._optimizers.zero_grad()
        loss.backward()
        norm = clip_gradients(self._optimizers.parameters, self._config.clip_norm)
        if not math.isfinite(norm):
            raise DivergenceError(f"the norm of the gradient is {norm}")
        self._optimizers.step(learning_rate)
        self.average.update()
        return value

    def require_finite(self) -> None:
        """Check the weights and everything that the next steps start from, before they are saved.

        Raises:
            DivergenceError: A number is NaN or infinite.
        """
        groups = {
            "a weight": self.network.weights(),
            "an averaged weight": self.average.tensors(),
            "a number of the optimizers' state": self._optimizers.tensors(),
            "a number of the carried state": state_tensors(self._state),
        }
        for what, tensors in groups.items():
            if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
                raise DivergenceError(f"{what} is NaN or infinite")

    def tensors(self) -> dict[str, Tensor]:
        """The tensors of a checkpoint; all processes call this together."""
        states = self._group.gather(state_tensors(self._state))
        randoms = self._group.gather(random_state(self._device))
        groups = {
            "model": self.network.weights(),
            "optimizer": self._optimizers.tensors(),
            "average": self.average.tensors(),
            "carried": {name: torch.cat([state[name] for state in states]) for name in states[0]},
            **{f"random.{rank}": tensors for rank, tensors in enumerate(randoms)},
        }
        return {f"{group}.{name}": tensor for group, tensors in groups.items() for name, tensor in tensors.items()}

    def load(self, checkpoint: Checkpoint, weights: dict[str, Tensor]) -> None:
        """Restore what `tensors` returned; `weights` is the checkpoint's validated group `model`.

        Raises:
            CheckpointError: A tensor is missing or does not fit.
        """
        self.network.load_weights(weights)
        self._optimizers.load(checkpoint.group("optimizer"))
        self.average.load(checkpoint.group("average"))
        shapes = state_shapes(self._config.architecture, self._config.streams)
        carried = validate_tensors("carried", checkpoint.group("carried"), shapes)
        rows = self._group.rows(self._config.streams)
        self._state = state_from_tensors({name: tensor[rows].to(self._device) for name, tensor in carried.items()})
        set_random_state(checkpoint.group(f"random.{self._group.rank}"), self._device)
