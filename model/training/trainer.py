"""Training: truncated back-propagation with carried state, exact checkpoints, a history that a resume continues."""

import contextlib
import dataclasses
import math
import time
from dataclasses import asdict
from typing import Any, Protocol, final

import torch
from torch import Tensor

from ...runtime.io.files import make_folder
from ..checkpoint import Checkpoint, errors_of, random_state, set_random_state
from ..data.batches import Batches
from ..data.corpus import Corpus
from ..errors import CheckpointError, Interrupted, RunError, TrainingError
from ..evaluation import evaluate_perplexity, single_thread
from ..figures import draw_curves
from ..network import (
    LanguageModel,
    NetworkState,
    initial_network,
    state_from_tensors,
    state_shapes,
    state_tensors,
    weight_shapes,
)
from ..run import Run, load_weights
from .config import TrainConfig
from .device import resolved_precision, set_precision
from .distributed import Processes
from .loss import Objective
from .optimizers import (
    WeightAverage,
    clip_gradients,
    load_optimizer,
    make_optimizer,
    optimizer_tensors,
    updates_touched_rows,
)
from .progress import Position, Speedometer
from .signals import StoppedError, StopRequest

RECORDS_PER_EPOCH = 20


class Reporter(Protocol):
    """Who is told how a training goes."""

    def step(self, done: int, total: int, epoch: int, loss: float, perplexity: float, tokens_per_second: float) -> None:
        """`done` of `total` steps of the whole training; loss per token, perplexity and speed are recent averages."""
        ...

    def record(self, record: dict[str, Any]) -> None:
        """A record of metrics.jsonl was made: `kind` is `train`, `valid` or `test`."""
        ...


@final
class Trainer:
    """One training in one run folder, in this process or in one of several that train together."""

    def __init__(
        self,
        config: TrainConfig,
        corpus: Corpus,
        run: Run,
        device: str = "cpu",
        processes: Processes | None = None,
    ) -> None:
        """Make the network, its optimiser and the batches; seeds torch and sets its switches for the whole process.

        Raises:
            DataError: The corpus is too short for batch_size x steps.
            ConfigError: The device cannot compute in the precision.
        """
        processes = processes or Processes()
        precision = resolved_precision(config.precision, device)
        self.config = config = dataclasses.replace(config, precision=precision)
        self.corpus = corpus
        self.run = run
        self.position = Position()
        self._processes = processes
        self._batches = Batches(corpus.ids["train"], config, processes)
        self._device = torch.device(device)
        self._network = initial_network(config, len(corpus.vocabulary))
        self._network.embedding.sparse = updates_touched_rows(config) and processes.count == 1
        self._network.to(self._device)
        self._parameters = [parameter for parameter in self._network.parameters() if parameter.requires_grad]
        self._objective = processes.spread(Objective(self._network, config), self._device)
        self._optimizer = make_optimizer(config, self._parameters)
        self._average = WeightAverage(config, self._network)
        self._state = self._zero_state()
        self._speed = Speedometer()
        torch.manual_seed(config.seed + processes.rank)
        torch.set_flush_denormal(True)
        set_precision(precision)

    def restore(self, checkpoint: Checkpoint | None) -> None:
        """Go on from what the run's `read_latest` gave.

        Raises:
            RunError: The run was begun with another configuration or corpus, or its checkpoint is of another
                configuration or number of processes; the message says what differs.
            CheckpointError: The checkpoint does not fit.
        """
        self.run.require_same(self.config, self.corpus)
        if checkpoint is None:
            make_folder(self.run.latest.parent)
            self._write_metrics()
            return
        with errors_of(self.run.latest):
            self._require_own(checkpoint)
            self._load(checkpoint)
        self._write_metrics()
        self._draw_curves()

    def _require_own(self, checkpoint: Checkpoint) -> None:
        facts, own = checkpoint.facts, self._facts()
        if "processes" not in facts:
            raise CheckpointError("it holds weights only, nothing to go on from")
        if facts["processes"] != own["processes"]:
            raise RunError(
                f"{self.run.latest} is of {facts['processes']} processes, this training has {own['processes']}; "
                "resume with as many processes as it was made by"
            )
        if facts.get("training") != own["training"]:
            raise RunError(
                f"{self.run.latest} was made with another configuration than {self.run.path} holds now; put back the "
                "config.json that it was begun with, or begin a new run: --run DIR"
            )

    def _facts(self) -> dict[str, Any]:
        """What a checkpoint has to have in common with the training that goes on from it, ready for JSON."""
        return {"processes": self._processes.count, "training": self.config.to_json()}

    def _load(self, checkpoint: Checkpoint) -> None:
        architecture = self.config.architecture
        shapes = weight_shapes(architecture, len(self.corpus.vocabulary))
        load_weights(self._network, checkpoint.checked("model", shapes))
        load_optimizer(self._optimizer, self._parameters, checkpoint.group("optimizer"))
        self._average.load(checkpoint.group("average"))
        carried = checkpoint.checked("carried", state_shapes(architecture, self.config.batch_size))
        self._state = self._own_rows(carried)
        set_random_state(checkpoint.group(f"random.{self._processes.rank}"), self._device)
        self.position = Position.from_json(checkpoint.facts.get("position"))

    def train(self, reporter: Reporter, checkpoint_seconds: float = 180.0) -> None:
        """Train to the last epoch, then measure the best weights on the test text.

        Raises:
            TrainingError: The loss is no finite number.
            Interrupted: SIGINT or SIGTERM came; everything is saved.
            StorageError: A file cannot be written.
        """
        with StopRequest() as stop:
            while not self._at_the_end():
                self._train_epoch(reporter, checkpoint_seconds, stop)
                self._finish_epoch(reporter, stop)
                self._stop_if_asked(stop)
            if not self.position.finished:
                self._test(reporter, stop)
            self._stop_if_asked(stop)

    def _at_the_end(self) -> bool:
        config, position = self.config, self.position
        too_stale = config.early_stopping > 0 and position.stale >= config.early_stopping
        return position.epoch >= config.epochs or too_stale

    def _train_epoch(self, reporter: Reporter, checkpoint_seconds: float, stop: StopRequest) -> None:
        position, spans = self.position, self._batches.spans(self.position.epoch)
        total = len(spans)
        if position.step == 0:
            self._state = self._zero_state()
        self._network.train()
        self._speed.start()
        last_save = time.monotonic()
        for span in spans[position.step :]:
            started = time.monotonic()
            inputs, targets = self._batches.read(span)
            loss = self._update(inputs.to(self._device), targets.to(self._device), total)
            position.step += 1
            position.loss_sum += loss * inputs.shape[1]
            position.loss_tokens += inputs.shape[1]
            position.seconds += time.monotonic() - started
            self._speed.add(inputs.shape[1] * self.config.batch_size)
            self._report_step(reporter, total)
            if position.step * RECORDS_PER_EPOCH // total > (position.step - 1) * RECORDS_PER_EPOCH // total:
                self._record_training(reporter, total)
            due = time.monotonic() - last_save > checkpoint_seconds
            if self._processes.largest(int(due or stop.received > 0), self._device):
                self._save()
                self._stop_if_asked(stop)
                last_save = time.monotonic()

    def _update(self, inputs: Tensor, targets: Tensor, total: int) -> float:
        """One step of the optimiser; returns the mean loss of a token."""
        self._set_learning_rate(inputs.shape[1], total)
        loss, token_loss, self._state = self._objective(inputs, targets, self._state)
        value = self._processes.mean(token_loss)
        if not math.isfinite(value):
            raise self._diverged(f"the loss is {value}")
        self._optimizer.zero_grad()
        loss.backward()
        norm = clip_gradients(self._parameters, self.config.clip_norm)
        if not math.isfinite(norm):
            raise self._diverged(f"the norm of the gradient is {norm}")
        self._optimizer.step()
        self._average.update()
        return value

    def _set_learning_rate(self, time_steps: int, total: int) -> None:
        config, position = self.config, self.position
        rate = config.learning_rate_at(position.epoch + position.step / total, position.drops)
        if config.variable_steps and (config.loss_over_time == "mean" or config.optimizer != "sgd"):
            rate *= time_steps / config.steps
        for group in self._optimizer.param_groups:
            group["lr"] = rate

    def _report_step(self, reporter: Reporter, total: int) -> None:
        position = self.position
        loss = position.loss_sum / position.loss_tokens
        done, speed = position.epoch * total + position.step, self._speed.recent()
        reporter.step(done, self.config.epochs * total, position.epoch + 1, loss, _exp(loss), speed)

    def _record_training(self, reporter: Reporter, total: int) -> None:
        position = self.position
        loss = position.loss_sum / position.loss_tokens
        progress = position.epoch + position.step / total
        position.loss_sum, position.loss_tokens = 0.0, 0
        self._record(
            reporter,
            {
                "kind": "train",
                "epoch": progress,
                "loss": loss,
                "perplexity": _exp(loss),
                "learning_rate": self._optimizer.param_groups[0]["lr"],
                "tokens_per_second": self._speed.lap(),
            },
        )

    def _finish_epoch(self, reporter: Reporter, stop: StopRequest) -> None:
        """Measure and save; where a signal ends the measuring, save the state before it, so that a resume measures."""
        self._require_finite()
        with self._average.applied():
            perplexity = self._measured(self._network, "valid", stop)
            if perplexity is not None:
                self._count_epoch(perplexity)
        if perplexity is None:
            return self._save()
        self._adapt(perplexity)
        position = self.position
        record = {"kind": "valid", "epoch": position.epoch, "perplexity": perplexity, "seconds": position.seconds}
        self._record(reporter, record)
        self._save()
        return self._draw_curves()

    def _count_epoch(self, perplexity: float) -> None:
        """Move on to the next epoch, and keep the weights if they are the best so far."""
        if not math.isfinite(perplexity):
            raise self._diverged(f"the perplexity on valid is {perplexity}")
        position = self.position
        position.epoch += 1
        position.step = 0
        position.stale += 1
        if position.best_valid is None or perplexity < position.best_valid:
            position.best_valid, position.stale = perplexity, 0
            self._save_best({"epoch": position.epoch, "valid_perplexity": perplexity, "test_perplexity": None})

    def _adapt(self, perplexity: float) -> None:
        """Let the learning rate fall at a plateau, and begin the average of NT-ASGD."""
        config, position = self.config, self.position
        if config.schedule == "plateau" and position.stale > 0 and position.stale % config.patience == 0:
            position.drops += 1
        valid = [record["perplexity"] for record in position.history if record["kind"] == "valid"]
        if config.averaging == "triggered" and perplexity >= min(valid[: -config.patience], default=math.inf):
            self._average.trigger()

    def _measured(self, network: LanguageModel, split: str, stop: StopRequest) -> float | None:
        """The perplexity on a split, measured by the first process for all; None where a signal ended that."""
        found: float | None = None
        if self._processes.first:
            with single_thread(), contextlib.suppress(StoppedError):
                found = evaluate_perplexity(network, self.corpus.ids[split], stop.check)
        return self._processes.from_first(found)

    def _test(self, reporter: Reporter, stop: StopRequest) -> None:
        network, best = self.run.trained() if self._processes.first else (self._network, None)
        perplexity = self._measured(network.to(self._device), "test", stop)
        if perplexity is None:
            return
        if best is not None:
            if not math.isfinite(perplexity):
                raise self._diverged(f"the perplexity on test is {perplexity}")
            Checkpoint(best.tensors, {**best.facts, "test_perplexity": perplexity}).write(self.run.best)
            self._record(reporter, {"kind": "test", "epoch": best.facts["epoch"], "perplexity": perplexity})
        self.position.finished = True
        self._save()

    def _record(self, reporter: Reporter, record: dict[str, Any]) -> None:
        self.position.history.append(record)
        self._write_metrics()
        reporter.record(record)

    def _write_metrics(self) -> None:
        if self._processes.first:
            self.run.write_metrics(self.position.history)

    def _draw_curves(self) -> None:
        if self._processes.first and self.position.epoch > 0:
            draw_curves(self.position.history, self.run.curves)

    def _stop_if_asked(self, stop: StopRequest) -> None:
        """Stop if this process or another one was asked to; all of them stop at the same step."""
        number = self._processes.largest(stop.received, self._device)
        if number:
            raise Interrupted(number, self.run.path)

    def _zero_state(self) -> NetworkState:
        return self._network.initial_state(self._batches.row_count)

    def _own_rows(self, carried: dict[str, Tensor]) -> NetworkState:
        rows = self._processes.rows(self.config.batch_size)
        return state_from_tensors({name: tensor[rows].to(self._device) for name, tensor in carried.items()})

    def _diverged(self, what: str) -> TrainingError:
        kept = "the last checkpoint is kept; " if self.run.latest.exists() else ""
        return TrainingError(
            f"{what} at epoch {self.position.epoch + 1}, step {self.position.step + 1}; {kept}"
            f"in a new run, try a lower learning_rate ({self.config.learning_rate:g}) "
            f"or clip_norm ({self.config.clip_norm:g})"
        )

    def _require_finite(self) -> None:
        """Nothing that is no number is ever saved: neither in the weights nor in what the next steps go on from."""
        held = {
            "a weight": self._network.weights(),
            "an averaged weight": self._average.tensors(),
            "a number of the optimiser's": optimizer_tensors(self._optimizer),
            "a number of the carried state": state_tensors(self._state),
        }
        for what, tensors in held.items():
            if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
                raise self._diverged(f"{what} is no finite number")

    def _save_best(self, facts: dict[str, Any]) -> None:
        if not self._processes.first:
            return
        weights, vocabulary = self._network.weights(), self.corpus.vocabulary
        Checkpoint.of_weights(weights, vocabulary, facts).write(self.run.best)

    def _save(self) -> None:
        self._require_finite()
        states = self._processes.gathered(state_tensors(self._state))
        randoms = self._processes.gathered(random_state(self._device))
        if not self._processes.first:
            return
        groups = {
            "model": self._network.weights(),
            "optimizer": optimizer_tensors(self._optimizer),
            "average": self._average.tensors(),
            "carried": {name: torch.cat([state[name] for state in states]) for name in states[0]},
            **{f"random.{rank}": tensors for rank, tensors in enumerate(randoms)},
        }
        tensors = {f"{group}.{name}": tensor for group, held in groups.items() for name, tensor in held.items()}
        facts = {"position": asdict(self.position), **self._facts()}
        Checkpoint(tensors, facts).write(self.run.latest)


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
