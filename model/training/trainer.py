"""The training loop: truncated back-propagation through time with carried state, and exact resume."""

import contextlib
import datetime
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any, final

import torch
from torch import Tensor

from ...runtime.artifact.run_folders import TIME_KEY
from ...runtime.errors import counted
from ...runtime.io.files import make_folder
from ..checkpoint import Checkpoint, checkpoint_errors
from ..data.batches import Batches
from ..data.corpus import AUTO, Corpus
from ..errors import CheckpointError, ConfigError, Interrupted, RunError, TrainingError
from ..evaluation import evaluate_perplexity
from ..figures import draw_curves
from ..network import LanguageModel
from ..run import Run
from .config import TrainConfig
from .device import resolve_precision, set_precision
from .distributed import ProcessGroup
from .fine_tuning import weights_of_origin
from .learner import DivergenceError, Learner
from .progress import Throughput, TrainingProgress
from .reporters import Reporter
from .signals import StoppedError, StopRequest

RECORDS_PER_EPOCH = 20


@final
class Trainer:
    """One training in one run folder, in this process or in a group of processes."""

    def __init__(
        self, config: TrainConfig, corpus: Corpus, run: Run, device: str = "cpu", group: ProcessGroup | None = None
    ) -> None:
        """Begin a training; seeds torch and sets its switches for the whole process.

        Raises:
            DataError: The corpus is too short for batch_size x steps.
            ConfigError: The device does not support the precision.
        """
        self._group = group = group or ProcessGroup()
        self.config = config = _resolve(config, corpus, device)
        self.corpus = corpus
        self.run = run
        self.progress = TrainingProgress()
        self._batches = Batches(corpus.ids["train"], config, group)
        self._device = torch.device(device)
        self._learner = Learner(config, corpus, self._device, group)
        self._throughput = Throughput()
        torch.manual_seed(config.seed + group.rank)
        torch.set_flush_denormal(True)
        set_precision(config.precision)

    @classmethod
    def resume(
        cls, config: TrainConfig, corpus: Corpus, run: Run, device: str = "cpu", group: ProcessGroup | None = None
    ) -> "Trainer":
        """Continue a run from its latest checkpoint, or begin it again if it has none.

        Raises:
            RunError: The run or its checkpoint is of another configuration, corpus or number of processes; the message
                names the difference.
            CheckpointError: The checkpoint is damaged or does not fit.
            DataError, ConfigError: As for `Trainer`.
        """
        run.require_same(_resolve(config, corpus, device), corpus)
        checkpoint = run.read_latest()
        if checkpoint is None:
            trainer = cls(config, corpus, run, device, group)
            make_folder(run.latest.parent)
            trainer.extend(run.config().total_epochs)
            if (origin := run.origin()) is not None:
                trainer.begin_from(weights_of_origin(origin))
        else:
            with checkpoint_errors(run.latest):
                weights = checkpoint.weights(config.architecture, len(corpus.vocabulary))
                trainer = cls(config, corpus, run, device, group)
                trainer._require_same_training(checkpoint)
                trainer._learner.load(checkpoint, weights)
                trainer.progress = TrainingProgress.from_json(checkpoint.facts.get("position"))
            trainer.extend(checkpoint.facts["training"]["epochs"])
        trainer._write_metrics()
        trainer._draw_curves()
        return trainer

    def begin_from(self, weights: dict[str, Tensor]) -> None:
        """Replace the initial weights, before the first step."""
        self._learner.begin_from(weights)

    def extend(self, epochs: int) -> None:
        """Go on with a run that was to end after `epochs` epochs, if there are more now.

        Raises:
            RunError: It has stopped early.
        """
        progress, config = self.progress, self.config
        if epochs == config.total_epochs:
            return
        if 0 < config.early_stopping <= progress.stale:
            raise RunError(
                f"{self.run.path} stopped early, {counted(progress.stale, 'epoch')} after its best one, so more epochs "
                "change nothing; begin a new run with another early_stopping: --run DIR"
            )
        progress.finished = False
        if self._group.first:
            self.run.extend(config.total_epochs, progress.epoch)

    def train(self, reporter: Reporter, checkpoint_seconds: float = 180.0) -> None:
        """Train to the last epoch, then measure the best weights on the test text.

        Raises:
            TrainingError: The training diverged: NaN or infinity in the loss, the gradient or the weights.
            Interrupted: SIGINT, SIGTERM or SIGHUP came; everything is saved.
            StorageError: A file cannot be written.
        """
        with self._translate_divergence(), StopRequest() as stop:
            while not self._is_done():
                self._train_epoch(reporter, checkpoint_seconds, stop)
                self._finish_epoch(reporter, stop)
                self._raise_if_stopped(stop)
            if not self.progress.finished:
                self._test(reporter, stop)
            self._raise_if_stopped(stop)

    def _is_done(self) -> bool:
        too_stale = 0 < self.config.early_stopping <= self.progress.stale
        return self.progress.epoch >= self.config.total_epochs or too_stale

    def _train_epoch(self, reporter: Reporter, checkpoint_seconds: float, stop: StopRequest) -> None:
        progress, spans = self.progress, self._batches.spans(self.progress.epoch)
        total = len(spans)
        if progress.step == 0:
            self._learner.reset_state()
        self._learner.network.train()
        self._throughput.start()
        last_save = time.monotonic()
        for span in spans[progress.step :]:
            started = time.monotonic()
            inputs, targets = self._batches.read(progress.epoch, span)
            time_steps = inputs.shape[1]
            rate = self._learning_rate(time_steps, total)
            loss = self._learner.step(inputs, targets, rate, full_softmax=self.config.full_softmax_at(progress.epoch))
            progress.add_loss(loss, time_steps)
            progress.seconds += time.monotonic() - started
            self._throughput.add(time_steps * self.config.streams)
            self._report_step(reporter, total)
            if progress.step * RECORDS_PER_EPOCH // total > (progress.step - 1) * RECORDS_PER_EPOCH // total:
                self._record_training(reporter, total)
            due = time.monotonic() - last_save > checkpoint_seconds
            if self._group.maximum(int(due or stop.received > 0), self._device):
                self._save()
                self._raise_if_stopped(stop)
                last_save = time.monotonic()

    def _learning_rate(self, time_steps: float, total: int) -> float:
        """Learning rate of the next of `total` steps, which reads `time_steps` tokens of each row."""
        config, progress = self.config, self.progress
        rate = config.learning_rate_at(progress.epoch + progress.step / total, progress.drops)
        if config.variable_steps and (config.loss_over_time == "mean" or config.optimizer != "sgd"):
            rate *= time_steps / config.steps
        return rate

    def _report_step(self, reporter: Reporter, total: int) -> None:
        progress, loss = self.progress, self.progress.mean_loss
        done = progress.epoch * total + progress.step
        speed = self._throughput.recent()
        reporter.step(done, self.config.total_epochs * total, progress.epoch + 1, loss, _exp(loss), speed)

    def _record_training(self, reporter: Reporter, total: int) -> None:
        progress, loss = self.progress, self.progress.mean_loss
        progress.loss_sum, progress.loss_tokens = 0.0, 0
        self._record(
            reporter,
            {
                "kind": "train",
                "epoch": progress.epoch + progress.step / total,
                "loss": loss,
                "perplexity": _exp(loss),
                "learning_rate": self._learner.learning_rate,
                "tokens_per_second": self._throughput.lap(),
            },
        )

    def _finish_epoch(self, reporter: Reporter, stop: StopRequest) -> None:
        """Evaluate and save. If a signal ends the evaluation, save the state before it, so that a resume evaluates."""
        self._learner.require_finite()
        with self._learner.average.applied():
            perplexity = self._evaluate(self._learner.network, "valid", stop)
            if perplexity is not None:
                self._count_epoch(perplexity)
        if perplexity is None:
            return self._save()
        self._adjust_schedule(perplexity)
        epoch, seconds = self.progress.epoch, self.progress.seconds
        figures = self.corpus.figures("valid", perplexity)._asdict()
        record = {"kind": "valid", "epoch": epoch, "perplexity": perplexity, **figures, "seconds": seconds}
        self._record(reporter, record)
        self._save()
        return self._draw_curves()

    def _count_epoch(self, perplexity: float) -> None:
        """Move on to the next epoch, and save the weights if they are the best so far."""
        if not math.isfinite(perplexity):
            raise DivergenceError(f"the perplexity on valid is {perplexity}")
        progress = self.progress
        progress.epoch += 1
        progress.step = 0
        progress.stale += 1
        if progress.best_valid is None or perplexity < progress.best_valid:
            progress.best_valid, progress.stale = perplexity, 0
            if self._group.first:
                facts = {"epoch": progress.epoch, "valid_perplexity": perplexity, "test_perplexity": None}
                weights = self._learner.network.weights()
                Checkpoint.of_weights(weights, self.corpus.vocabulary, facts).write(self.run.best)

    def _adjust_schedule(self, perplexity: float) -> None:
        """Lower the learning rate at a plateau, and start the average of NT-ASGD."""
        config, progress = self.config, self.progress
        if config.schedule == "plateau" and progress.stale > 0 and progress.stale % config.patience == 0:
            progress.drops += 1
        earlier = progress.valid_perplexities()[: -config.patience]
        if config.averaging == "triggered" and perplexity >= min(earlier, default=math.inf):
            self._learner.average.start()

    def _evaluate(self, network: LanguageModel, split: str, stop: StopRequest) -> float | None:
        """The perplexity on a split, evaluated by the first process for all; None if a signal ended the evaluation."""
        perplexity: float | None = None
        if self._group.first:
            with contextlib.suppress(StoppedError):
                perplexity = evaluate_perplexity(network, self.corpus.ids[split], stop.check)
        return self._group.broadcast(perplexity)

    def _test(self, reporter: Reporter, stop: StopRequest) -> None:
        network, best = self.run.trained() if self._group.first else (self._learner.network, None)
        perplexity = self._evaluate(network.to(self._device), "test", stop)
        if perplexity is None:
            return
        if best is not None:
            if not math.isfinite(perplexity):
                raise DivergenceError(f"the perplexity on test is {perplexity}")
            figures = self.corpus.figures("test", perplexity)._asdict()
            measured = {
                "test_perplexity": perplexity,
                **{f"test_{name}": value for name, value in figures.items()},
                "unigram_perplexity": self.corpus.unigram_perplexity("test"),
            }
            Checkpoint(best.tensors, {**best.facts, **measured}).write(self.run.best)
            self._record(reporter, {"kind": "test", "epoch": best.facts["epoch"], "perplexity": perplexity, **figures})
        self.progress.finished = True
        self._save()

    def _record(self, reporter: Reporter, record: dict[str, Any]) -> None:
        record = {**record, TIME_KEY: datetime.datetime.now(datetime.UTC).isoformat()}
        self.progress.history.append(record)
        self._write_metrics()
        reporter.record(record)

    def _write_metrics(self) -> None:
        if self._group.first:
            self.run.write_metrics(self.progress.history)

    def _draw_curves(self) -> None:
        if self._group.first and self.progress.epoch > 0:
            draw_curves(self.progress.history, self.run.curves)

    def _save(self) -> None:
        self._learner.require_finite()
        tensors = self._learner.tensors()
        if self._group.first:
            facts = {"position": asdict(self.progress), **self._facts()}
            Checkpoint(tensors, facts).write(self.run.latest)

    def _facts(self) -> dict[str, Any]:
        """The facts of a checkpoint that a resumed training must share, ready for JSON."""
        return {"processes": self._group.count, "training": self.config.to_json()}

    def _require_same_training(self, checkpoint: Checkpoint) -> None:
        facts, processes = checkpoint.facts, self._group.count
        if "processes" not in facts:
            raise CheckpointError("it holds weights only, nothing to go on from")
        if facts["processes"] != processes:
            raise RunError(
                f"{self.run.latest} is of {facts['processes']} processes, this training has {processes}; "
                "resume with as many processes as it was made by"
            )
        if not _may_continue(facts.get("training"), self.config):
            raise RunError(
                f"{self.run.latest} was made with another configuration than {self.run.path} holds now; put back the "
                "config.json that it was begun with, or begin a new run: --run DIR"
            )

    def _raise_if_stopped(self, stop: StopRequest) -> None:
        """Raise `Interrupted` if any process received a signal; all processes stop at the same step."""
        number = self._group.maximum(stop.received, self._device)
        if number:
            raise Interrupted(number, self.run.path)

    @contextlib.contextmanager
    def _translate_divergence(self) -> Iterator[None]:
        try:
            yield
        except DivergenceError as error:
            kept = "the last checkpoint is kept; " if self.run.latest.exists() else ""
            raise TrainingError(
                f"{error} at epoch {self.progress.epoch + 1}, step {self.progress.step + 1}; {kept}"
                f"in a new run, try a lower learning_rate ({self.config.initial_rate:g}) "
                f"or clip_norm ({self.config.clip_norm:g})"
            ) from error


def _may_continue(saved: Any, now: TrainConfig) -> bool:
    """Whether a checkpoint's configuration is this one but for epochs that are added."""
    try:
        before = TrainConfig.from_json(saved)
    except ConfigError:
        return False
    if before.epochs is None or before.epochs > now.total_epochs:
        return False
    return replace(before, epochs=now.epochs) == now


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


def _resolve(config: TrainConfig, corpus: Corpus, device: str) -> TrainConfig:
    """The configuration with the precision, tokenization rule and sizes that device and corpus decide."""
    config = resolve_precision(config.adapted_to(len(corpus.ids["train"])), device)
    if config.tokenization == AUTO:
        config = replace(config, tokenization=corpus.vocabulary.tokenization.rule)
    return config
