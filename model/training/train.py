"""A training job: a new run or one to go on with, from the options of a command to the finished network."""

import contextlib
import dataclasses
import datetime
import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import torch

from ...runtime.errors import LmtoolError, OptionError, ProviderError
from ...runtime.io.files import make_folder
from ...runtime.session.session import check_threads
from ...runtime.system import usable_cores
from ..checkpoint import errors_of
from ..data.corpus import load_corpus
from ..data.texts import PYDOCS
from ..errors import CheckpointError
from ..network import weight_shapes
from ..run import RUNS, Run, chosen_run
from .config import TrainConfig
from .device import enough_memory, environment, resolved_precision
from .distributed import Processes
from .presets import preset_named
from .reporters import Reporters
from .trainer import Reporter, Trainer

DEFAULT_PRESET = "quick"
DEVICES = ("cpu", "cuda")


@final
@dataclass(frozen=True)
class TrainOptions:
    """What to train.

    Attributes:
        preset: Name of a preset; None for `quick`, or for what a resumed run has.
        data: Corpus; None for `pydocs`, or for what a resumed run has.
        run: Run folder; None for a new one under `runs`, or for the latest to resume.
        resume: Go on with a run; a finished one is left as it is.
        settings: Fields of the configuration to replace, as text.
        device: `cpu` or `cuda`.
        threads: Threads of torch; None for one for each usable core.
        checkpoint_seconds: Time between checkpoints within an epoch.
        tensorboard: Write the records as TensorBoard scalars too.
    """

    preset: str | None = None
    data: str | None = None
    run: Path | None = None
    resume: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    device: str = "cpu"
    threads: int | None = None
    checkpoint_seconds: float = 180.0
    tensorboard: bool = False

    def __post_init__(self) -> None:
        """Check the device and the ranges.

        Raises:
            OptionError: One is outside its range.
            ProviderError: The device is not there.
            ModuleNotFoundError: `tensorboard` is asked for and not installed.
        """
        if self.tensorboard:
            importlib.import_module("tensorboard")
        if self.threads is not None:
            check_threads(self.threads)
        if not 0 < self.checkpoint_seconds < math.inf:
            raise OptionError(
                f"the time between checkpoints is {self.checkpoint_seconds / 60:g} minutes, expected more than 0 and a "
                "finite number"
            )
        if self.device not in DEVICES:
            raise OptionError(f"device {self.device!r} is not known, expected one of {', '.join(DEVICES)}")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ProviderError(
                f"torch {torch.__version__} finds no CUDA device; install a CUDA build of torch and a driver"
            )


@final
@dataclass(frozen=True)
class TrainResult:
    """What a training reached.

    Attributes:
        run: Where it is.
        epoch: The epoch of the best weights.
        valid_perplexity: Of the best weights.
        test_perplexity: Of the best weights.
        unigram_perplexity: Of the test text under its tokens' frequencies, to compare with.
        seconds: Time spent in training steps.
        parameters: Number of trained parameters.
    """

    run: Path
    epoch: int
    valid_perplexity: float
    test_perplexity: float
    unigram_perplexity: float
    seconds: float
    parameters: int

    def to_json(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return {**self.__dict__, "run": str(self.run)}


def run_training(options: TrainOptions, reporter: Reporter) -> TrainResult:
    """Train to the end.

    Raises:
        LmtoolError: Whatever is wrong with options, corpus, run folder or the training itself; see the error's class.
    """
    processes = Processes.join(options.device)
    try:
        with enough_memory(), contextlib.ExitStack() as stack:
            trainer = _begin(options, processes, stack)
            if options.tensorboard and processes.first:
                from .tensorboard import tensorboard_scalars

                scalars = tensorboard_scalars(trainer.run.tensorboard, trainer.position.history)
                reporter = Reporters(reporter, stack.enter_context(scalars))
            trainer.train(reporter, options.checkpoint_seconds)
    finally:
        processes.leave()
    return _result(trainer)


def _begin(options: TrainOptions, processes: Processes, stack: contextlib.ExitStack) -> Trainer:
    """A trainer that is ready to go (on); `stack` keeps the run's lock."""
    torch.set_num_threads(options.threads or max(usable_cores() // processes.on_this_machine, 1))
    run, config, data = processes.from_first(_resolve(options))
    corpus = load_corpus(data, config.tokenization, config.min_count)
    if options.resume:
        _take(run, processes, stack)
        precision = resolved_precision(config.precision, options.device)
        run.require_same(dataclasses.replace(config, precision=precision), corpus)
        if checkpoint := run.read_latest():
            # Before the network is made: what a damaged configuration says could be of any size.
            with errors_of(run.latest):
                checkpoint.checked("model", weight_shapes(config.architecture, len(corpus.vocabulary)))
        trainer = Trainer(config, corpus, run, options.device, processes)
        trainer.restore(checkpoint)
        return trainer
    trainer = Trainer(config, corpus, run, options.device, processes)
    _take(run, processes, stack, lambda: run.create(trainer.config, corpus, environment(options.device, processes)))
    return trainer


def _take(run: Run, processes: Processes, stack: contextlib.ExitStack, then: Callable[[], None] = lambda: None) -> None:
    """Lock the run's folder; the first process does it for all, and goes on with `then`."""
    failure = None
    if processes.first:
        try:
            make_folder(run.path)
            stack.enter_context(run.lock())
            run.remove_leftovers()
            then()
        except LmtoolError as error:
            failure = error
    processes.agree(failure)


def _result(trainer: Trainer) -> TrainResult:
    network, best = trainer.run.trained()
    if None in (best.facts["valid_perplexity"], best.facts["test_perplexity"]):
        raise CheckpointError(f"{trainer.run.best} lacks its perplexities, although the training is finished")
    return TrainResult(
        run=trainer.run.path,
        epoch=best.facts["epoch"],
        valid_perplexity=best.facts["valid_perplexity"],
        test_perplexity=best.facts["test_perplexity"],
        unigram_perplexity=trainer.corpus.unigram_perplexity("test"),
        seconds=trainer.position.seconds,
        parameters=sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad),
    )


def _resolve(options: TrainOptions) -> tuple[Run, TrainConfig, str]:
    if not options.resume:
        preset = DEFAULT_PRESET if options.preset is None else options.preset
        config = preset_named(preset).with_settings(options.settings)
        return Run(options.run or _new_folder(preset)), config, PYDOCS if options.data is None else options.data
    run = chosen_run(options.run)
    began = run.config()
    base = began if options.preset is None else preset_named(options.preset)
    return (
        run,
        base.with_settings(options.settings),
        run.corpus_facts()["name"] if options.data is None else options.data,
    )


def _new_folder(preset: str) -> Path:
    """`runs/DATE-TIME-MICROSECONDS-PRESET`: trainings that begin in the same second do not meet."""
    return RUNS / f"{datetime.datetime.now():%Y%m%d-%H%M%S-%f}-{preset}"
