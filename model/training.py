"""Training: truncated back-propagation with carried state, exact checkpoints, a history that a resume continues."""

import collections
import math
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, final

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from .batches import Batches
from .checkpoint import Checkpoint, weights_hash
from .config import TrainConfig
from .corpus import Corpus
from .curves import draw_curves
from .errors import CheckpointError, RunError, TrainingError
from .evaluation import evaluate_perplexity
from .network import LanguageModel, state_from_tensors, state_tensors
from .run import Run, load_weights
from .signals import StopRequest
from .threads import single_thread

RECORDS_PER_EPOCH = 20
_AVERAGED_STEPS = 50


class Reporter(Protocol):
    """Who is told how a training goes."""

    def step(self, done: int, total: int, epoch: int, loss: float, perplexity: float, tokens_per_second: float) -> None:
        """`done` of `total` steps of the whole training; loss per token, perplexity and speed are recent averages."""
        ...

    def record(self, record: dict[str, Any]) -> None:
        """A record of metrics.jsonl was made: `kind` is `train`, `valid` or `test`."""
        ...


@final
@dataclass
class Position:
    """Where a training stands: the facts of its checkpoint that are no tensors.

    Attributes:
        epoch: Epochs finished.
        step: Steps finished in the current epoch.
        seconds: Time spent so far, over all sittings.
        best_valid: Lowest valid perplexity so far, None before the first.
        finished: Whether the last epoch and the test are done.
        loss_sum: Summed loss of the steps since the last record.
        loss_steps: How many those are.
        history: The records of metrics.jsonl.
    """

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    best_valid: float | None = None
    finished: bool = False
    loss_sum: float = 0.0
    loss_steps: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


@final
class Trainer:
    """One training in one run folder."""

    def __init__(self, config: TrainConfig, corpus: Corpus, run: Run, device: str = "cpu") -> None:
        """Make the network, its optimiser and the batches.

        Raises:
            DataError: The corpus is too short for batch_size x steps.
        """
        self.config = config
        self.corpus = corpus
        self.run = run
        self.position = Position()
        self._batches = Batches(corpus.ids["train"], config.batch_size, config.steps)
        self._device = torch.device(device)
        self._network = LanguageModel(config.architecture, len(corpus.vocabulary), config.dropout)
        self._network.initialize(config.init_range, torch.Generator().manual_seed(config.seed))
        self._network.to(self._device)
        self._parameters = [parameter for parameter in self._network.parameters() if parameter.requires_grad]
        self._optimizer = _optimizer(config, self._parameters)
        self._state = self._network.initial_state(config.batch_size)
        self._speed = _Speed(self._batches.tokens_per_step)
        torch.manual_seed(config.seed)
        torch.set_flush_denormal(True)

    def restore(self) -> None:
        """Go on from the run's latest checkpoint, if it has one.

        Raises:
            RunError: The run was begun with another configuration or corpus; the message names what differs.
            CheckpointError: The checkpoint is damaged or does not fit.
        """
        self._require_same_run()
        if not self.run.latest.exists():
            self.run.write_metrics([])
            return
        checkpoint = Checkpoint.read(self.run.latest)
        load_weights(self._network, checkpoint)
        _load_optimizer(self._optimizer, self._parameters, checkpoint.group("optimizer"))
        carried = {name: tensor.to(self._device) for name, tensor in checkpoint.group("carried").items()}
        self._state = state_from_tensors(carried)
        _set_random_state(checkpoint.group("random"), self._device)
        try:
            self.position = Position(**checkpoint.facts["position"])
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"{self.run.latest} lacks a position to go on from: {error}") from error
        self.run.write_metrics(self.position.history)

    def train(self, reporter: Reporter, checkpoint_seconds: float = 180.0) -> None:
        """Train to the last epoch, then measure the best weights on the test text.

        Raises:
            TrainingError: The loss is no finite number.
            Interrupted: SIGINT or SIGTERM came; everything is saved.
            StorageError: A file cannot be written.
        """
        with StopRequest() as stop:
            while self.position.epoch < self.config.epochs:
                self._train_epoch(reporter, checkpoint_seconds, stop)
                self._finish_epoch(reporter)
                stop.raise_if_made()
            if not self.position.finished:
                self._test(reporter)
            stop.raise_if_made()

    def _train_epoch(self, reporter: Reporter, checkpoint_seconds: float, stop: StopRequest) -> None:
        position, total = self.position, self._batches.step_count
        if position.step == 0:
            self._state = self._network.initial_state(self.config.batch_size)
        self._network.train()
        self._speed.start(position.step)
        last_save = time.monotonic()
        for inputs, targets in self._batches.from_step(position.step):
            started = time.monotonic()
            loss = self._update(inputs.to(self._device), targets.to(self._device))
            position.step += 1
            position.loss_sum += loss
            position.loss_steps += 1
            position.seconds += time.monotonic() - started
            self._report_step(reporter)
            if position.step * RECORDS_PER_EPOCH // total > (position.step - 1) * RECORDS_PER_EPOCH // total:
                self._record_training(reporter)
            if stop or time.monotonic() - last_save > checkpoint_seconds:
                self._save()
                stop.raise_if_made()
                last_save = time.monotonic()

    def _update(self, inputs: Tensor, targets: Tensor) -> float:
        """One step of the optimiser; returns the loss, summed over time, averaged over the batch."""
        progress = self.position.epoch + self.position.step / self._batches.step_count
        for group in self._optimizer.param_groups:
            group["lr"] = self.config.learning_rate_at(progress)
        logits, state = self._network(inputs, self._state)
        loss = cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum") / self.config.batch_size
        value = loss.item()
        if not math.isfinite(value):
            raise self._diverged(f"the loss is {value}")
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._parameters, self.config.clip_norm)
        self._optimizer.step()
        self._state = tuple(tuple(tensor.detach() for tensor in layer) for layer in state)
        return value

    def _report_step(self, reporter: Reporter) -> None:
        position, total = self.position, self._batches.step_count
        loss = position.loss_sum / (position.loss_steps * self.config.steps)
        done, speed = position.epoch * total + position.step, self._speed.recent(position.step)
        reporter.step(done, self.config.epochs * total, position.epoch + 1, loss, _exp(loss), speed)

    def _record_training(self, reporter: Reporter) -> None:
        position = self.position
        loss = position.loss_sum / (position.loss_steps * self.config.steps)
        progress = position.epoch + position.step / self._batches.step_count
        position.loss_sum, position.loss_steps = 0.0, 0
        self._record(
            reporter,
            {
                "kind": "train",
                "epoch": progress,
                "loss": loss,
                "perplexity": _exp(loss),
                "learning_rate": self._optimizer.param_groups[0]["lr"],
                "tokens_per_second": self._speed.lap(position.step),
            },
        )

    def _finish_epoch(self, reporter: Reporter) -> None:
        position = self.position
        self._require_finite_weights()
        with single_thread():
            perplexity = evaluate_perplexity(self._network, self.corpus.ids["valid"])
        if not math.isfinite(perplexity):
            raise self._diverged(f"the perplexity on valid is {perplexity}")
        position.epoch += 1
        position.step = 0
        if position.best_valid is None or perplexity < position.best_valid:
            position.best_valid = perplexity
            self._save_best({"epoch": position.epoch, "valid_perplexity": perplexity, "test_perplexity": None})
        record = {"kind": "valid", "epoch": position.epoch, "perplexity": perplexity, "seconds": position.seconds}
        self._record(reporter, record)
        self._save()
        draw_curves(position.history, self.run.curves)

    def _test(self, reporter: Reporter) -> None:
        network, best = self.run.trained()
        with single_thread():
            perplexity = evaluate_perplexity(network.to(self._device), self.corpus.ids["test"])
        Checkpoint(best.tensors, {**best.facts, "test_perplexity": perplexity}).write(self.run.best)
        self.position.finished = True
        self._record(reporter, {"kind": "test", "epoch": best.facts["epoch"], "perplexity": perplexity})
        self._save()

    def _record(self, reporter: Reporter, record: dict[str, Any]) -> None:
        self.position.history.append(record)
        self.run.write_metrics(self.position.history)
        reporter.record(record)

    def _diverged(self, what: str) -> TrainingError:
        return TrainingError(
            f"{what} at epoch {self.position.epoch + 1}, step {self.position.step + 1}; the last checkpoint is kept; "
            f"try a lower learning_rate ({self.config.learning_rate:g}) or clip_norm ({self.config.clip_norm:g})"
        )

    def _require_finite_weights(self) -> None:
        if not all(bool(tensor.isfinite().all()) for tensor in self._network.weights().values()):
            raise self._diverged("a weight is no finite number")

    def _save_best(self, facts: dict[str, Any]) -> None:
        weights = self._network.weights()
        tensors = {f"model.{name}": tensor for name, tensor in weights.items()}
        hashes = {"weights_sha256": weights_hash(weights), "vocabulary_sha256": self.corpus.vocabulary.sha256}
        Checkpoint(tensors, {**facts, **hashes}).write(self.run.best)

    def _save(self) -> None:
        self._require_finite_weights()
        weights = self._network.weights()
        tensors = {f"model.{name}": tensor for name, tensor in weights.items()}
        tensors |= {f"optimizer.{name}": tensor for name, tensor in _optimizer_tensors(self._optimizer).items()}
        tensors |= {f"carried.{name}": tensor for name, tensor in state_tensors(self._state).items()}
        tensors |= {f"random.{name}": tensor for name, tensor in _random_state(self._device).items()}
        Checkpoint(tensors, {"position": asdict(self.position)}).write(self.run.latest)

    def _require_same_run(self) -> None:
        began, now = self.run.config().to_json(), self.config.to_json()
        differences = [f"{key} was {began[key]!r}, is {now[key]!r}" for key in now if began[key] != now[key]]
        if self.run.corpus_facts()["sha256"] != self.corpus.sha256:
            differences.append("the corpus has changed")
        if differences:
            raise RunError(
                f"cannot go on with {self.run.path}: {'; '.join(differences)}; "
                "resume with the same settings, begin a new run (--run DIR), or remove that folder"
            )


@final
class _Speed:
    """Tokens per second: recent, and since the last lap."""

    def __init__(self, tokens_per_step: int) -> None:
        self._tokens_per_step = tokens_per_step
        self.start(0)

    def start(self, step: int) -> None:
        self._lap = (time.monotonic(), step)
        self._recent: collections.deque[tuple[float, int]] = collections.deque(maxlen=_AVERAGED_STEPS)

    def recent(self, step: int) -> float:
        now = time.monotonic()
        self._recent.append((now, step))
        began, first = self._recent[0]
        return (step - first) * self._tokens_per_step / max(now - began, 1e-9)

    def lap(self, step: int) -> float:
        now = time.monotonic()
        began, first = self._lap
        self._lap = (now, step)
        return (step - first) * self._tokens_per_step / max(now - began, 1e-9)


def _optimizer(config: TrainConfig, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, config.learning_rate)
    return torch.optim.SGD(parameters, config.learning_rate)


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as `INDEX.NAME` -> tensor, INDEX counting the parameters."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": torch.as_tensor(value) for index, entry in state.items() for name, value in entry.items()
    }


def _load_optimizer(
    optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], tensors: dict[str, Tensor]
) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = tensor
    if state and set(state) != set(range(len(parameters))):
        raise CheckpointError(f"the checkpoint's optimiser has {len(state)} parameters, expected {len(parameters)}")
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _random_state(device: torch.device) -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _set_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    if "cpu" not in state:
        raise CheckpointError("the checkpoint lacks the random state")
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
