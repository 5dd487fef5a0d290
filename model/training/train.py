"""A training from the options of a command to the finished network, in a new run or a resumed one."""

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

from ...runtime.artifact.run_folders import RUNS
from ...runtime.artifact.summary import count_parameters, is_worse, training_warning
from ...runtime.errors import LmtoolError, OptionError, ProviderError
from ...runtime.io.files import make_folder
from ...runtime.session.session import check_threads
from ...runtime.system import usable_cores
from ..data.corpus import AUTO, load_corpus, load_corpus_with
from ..data.texts import PYDOCS
from ..errors import CheckpointError
from ..run import Run
from ..run_choice import chosen_run
from .config import TrainConfig
from .device import device_fault, environment, translate_memory_errors
from .distributed import ProcessGroup
from .fine_tuning import load_new_text, origin_of, tuned_config
from .presets import DEFAULT_PRESET, preset_named
from .reporters import Reporter, Reporters
from .trainer import Trainer

DEVICES = ("cpu", "cuda")


@final
@dataclass(frozen=True)
class TrainOptions:
    """Options of a training.

    Attributes:
        preset: Name of a preset; None for `quick`, or for that of a resumed run.
        data: Corpus; None for `pydocs`, or for that of a resumed run.
        run: Run folder; None for a new one under `runs`, or for the latest to resume.
        resume: Continue a run; a finished one is left as it is.
        settings: Fields of the configuration to replace, as text.
        device: `cpu` or `cuda`.
        threads: Threads of torch; None for one per usable core.
        checkpoint_seconds: Time between checkpoints within an epoch.
        tensorboard: Also write the records as TensorBoard scalars.
        init: Run whose best weights, vocabulary and settings the training starts from; it needs `data`.
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
    init: Path | None = None

    def __post_init__(self) -> None:
        """Check the device and the ranges.

        Raises:
            OptionError: A value is outside its range.
            ProviderError: The device is missing.
            ModuleNotFoundError: `tensorboard` is not installed.
        """
        if self.tensorboard:
            importlib.import_module("tensorboard")
        if self.threads is not None:
            check_threads(self.threads)
        if self.init is not None and (self.resume or self.preset is not None):
            what = "--resume goes on with a run" if self.resume else "--preset chooses other settings"
            raise OptionError(f"--init starts from weights and settings of {self.init}, {what}; give one of the two")
        if self.init is not None and self.data is None:
            raise OptionError(f"--init {self.init} needs the new text to train on: --data")
        if not 0 < self.checkpoint_seconds < math.inf:
            raise OptionError(
                f"the time between checkpoints is {self.checkpoint_seconds / 60:g} minutes, expected more than 0 and a "
                "finite number"
            )
        if self.device not in DEVICES:
            raise OptionError(f"device {self.device!r} is not known, expected one of {', '.join(DEVICES)}")
        if self.device == "cuda" and (fault := device_fault("cuda")):
            raise ProviderError(fault)


@final
@dataclass(frozen=True)
class TrainResult:
    """The result of a training.

    Attributes:
        run: The run folder.
        epoch: The epoch of the best weights.
        valid_perplexity: Of the best weights.
        test_perplexity: Of the best weights.
        bits_per_byte: Of the best weights on the test text, comparable between tokenizations (see `Score`).
        word_perplexity: The same for each word, as a perplexity.
        unigram_perplexity: Of the test text under the token frequencies, for comparison.
        vocabulary_size: Perplexity of guessing evenly.
        epochs: Finished epochs.
        still_falling: Whether the perplexity on valid still fell at the end, so that more epochs may help.
        risen: Whether it was more than 1 % above its lowest at the end.
        seconds: Time spent in training steps.
        parameters: Number of trained parameters.
    """

    run: Path
    epoch: int
    valid_perplexity: float
    test_perplexity: float
    bits_per_byte: float
    word_perplexity: float
    unigram_perplexity: float
    vocabulary_size: int
    epochs: int
    still_falling: bool
    risen: bool
    seconds: float
    parameters: int

    @property
    def warning(self) -> str:
        """The warning of a network that is worse than word frequencies; empty without reason."""
        return training_warning(self.__dict__)

    @property
    def has_failed(self) -> bool:
        """Whether the network is worse than guessing evenly, so that its training went wrong."""
        return is_worse(self.test_perplexity, self.vocabulary_size)

    def to_json(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return {**self.__dict__, "run": str(self.run), "warning": self.warning}


def run_training(options: TrainOptions, reporter: Reporter) -> TrainResult:
    """Train to the end.

    Raises:
        LmtoolError: Options, corpus, run folder or the training itself are at fault; see the error's class.
    """
    group = ProcessGroup.join(options.device)
    try:
        with translate_memory_errors(), contextlib.ExitStack() as stack:
            trainer, notes = _make_trainer(options, group, stack)
            for line in notes:
                reporter.note(line)
            if options.tensorboard and group.first:
                from .tensorboard import tensorboard_reporter

                scalars = tensorboard_reporter(trainer.run.tensorboard, trainer.progress.history)
                reporter = Reporters(reporter, stack.enter_context(scalars))
            trainer.train(reporter, options.checkpoint_seconds)
    finally:
        group.leave()
    return _result(trainer)


def _notes(trainer: Trainer, config: TrainConfig, *more: str, resumed: bool) -> tuple[str, ...]:
    """What to say before the first step, with `more`; `config` is the configuration before it adapted to the text."""
    if (trainer.progress.epoch, trainer.progress.step) != (0, 0):
        return ()
    again = f"{trainer.run.path} has no checkpoint to go on from: its training begins again"
    return (*((again,) if resumed else trainer.corpus.notes), *_size_notes(trainer, config), *more)


def _size_notes(trainer: Trainer, config: TrainConfig) -> list[str]:
    """The sizes of text and network, and the settings that follow from the text's."""
    now, tokens, vocabulary = trainer.config, len(trainer.corpus.ids["train"]), len(trainer.corpus.vocabulary)
    parameters = count_parameters(now.architecture, vocabulary)
    size = f"{tokens:,} training tokens, {vocabulary:,} in the vocabulary; {parameters:,} parameters, {now.precision}"
    adapted = [f"{name}={value:g}" for name, value in config.adapted(tokens).items()]
    chosen = f"chosen for this number of training tokens: {', '.join(adapted)} (another value: --set NAME=VALUE)"
    return [size, chosen] if adapted else [size]


def _make_trainer(
    options: TrainOptions, group: ProcessGroup, stack: contextlib.ExitStack
) -> tuple[Trainer, tuple[str, ...]]:
    """A trainer of a new or a resumed run, whose lock `stack` holds; and what to say before its first step."""
    torch.set_num_threads(options.threads or max(usable_cores() // group.on_this_machine, 1))
    run, config, data = group.broadcast(_resolve(options))
    if options.resume:
        corpus = load_corpus_with(data, run.vocabulary())
        _lock_run(run, group, stack)
        trainer = Trainer.resume(config, corpus, run, options.device, group)
        return trainer, _notes(trainer, config, resumed=True)
    origin, more = None, []
    if options.init is None:
        corpus = load_corpus(data, config.tokenization, config.min_count, config.vocabulary_size)
        trainer = Trainer(config, corpus, run, options.device, group)
    else:
        source = Run(options.init)
        corpus = load_new_text(data, source)
        trainer = Trainer(config, corpus, run, options.device, group)
        origin, weights = origin_of(source)
        trainer.begin_from(weights)
        if config.learning_rate is not None and "learning_rate" not in options.settings:
            rate = f"learning_rate={config.learning_rate:g}, that of {options.init}"
            more.append(f"{rate}; trained weights often need a lower one: --set learning_rate=VALUE")
    facts = environment(options.device, trainer.config.precision, group)
    _lock_run(run, group, stack, lambda: run.create(trainer.config, corpus, facts, origin))
    return trainer, _notes(trainer, config, *more, resumed=False)


def _lock_run(
    run: Run, group: ProcessGroup, stack: contextlib.ExitStack, create: Callable[[], None] = lambda: None
) -> None:
    """Lock the run folder and call `create`, in the first process; its error is raised in all."""
    failure = None
    if group.first:
        try:
            make_folder(run.path)
            stack.enter_context(run.lock())
            run.remove_leftovers()
            create()
        except LmtoolError as error:
            failure = error
    group.raise_on_all(failure)


def _result(trainer: Trainer) -> TrainResult:
    network, best = trainer.run.trained()
    if None in (best.facts["valid_perplexity"], best.facts["test_perplexity"]):
        raise CheckpointError(f"{trainer.run.best} lacks its perplexities, although the training is finished")
    return TrainResult(
        run=trainer.run.path,
        epoch=best.facts["epoch"],
        valid_perplexity=best.facts["valid_perplexity"],
        test_perplexity=best.facts["test_perplexity"],
        **trainer.corpus.figures("test", best.facts["test_perplexity"])._asdict(),
        unigram_perplexity=trainer.corpus.unigram_perplexity("test"),
        vocabulary_size=len(trainer.corpus.vocabulary),
        epochs=trainer.progress.epoch,
        still_falling=trainer.progress.is_falling,
        risen=trainer.progress.has_risen,
        seconds=trainer.progress.seconds,
        parameters=sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad),
    )


def _resolve(options: TrainOptions) -> tuple[Run, TrainConfig, str]:
    """Run folder, configuration and corpus name that the options select."""
    if options.init is not None:
        config = tuned_config(Run(options.init), options.settings)
        return Run(options.run or _new_folder(f"{config.preset}-tuned")), config, options.data or ""
    if not options.resume:
        preset = DEFAULT_PRESET if options.preset is None else options.preset
        config = preset_named(preset).with_settings(options.settings)
        return Run(options.run or _new_folder(preset)), config, PYDOCS if options.data is None else options.data
    run = chosen_run(options.run)
    base = run.config()
    if options.preset is not None:
        base = preset_named(options.preset)
    data = run.corpus_name() if options.data is None else options.data
    config = base.with_settings(options.settings)
    if config.tokenization == AUTO:
        config = dataclasses.replace(config, tokenization=run.config().tokenization)
    return run, config, data


def _new_folder(preset: str) -> Path:
    """`runs/DATE-TIME-MICROSECONDS-PRESET`; microseconds, so that two trainings never share a folder."""
    return RUNS / f"{datetime.datetime.now():%Y%m%d-%H%M%S-%f}-{preset}"
