"""Commands on networks and corpora: train, import, evaluate, embeddings, data list and data prepare."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, BadParameter, Exit, Option

from .completion import completes
from .options import (
    Data,
    Json,
    Provider,
    RunFolder,
    Settings,
    Threads,
    as_utf8,
    cache_options,
    export_of,
    parse_pairs,
    require_one,
    run_or_latest,
)
from .output import print_result, print_status, require_module, text_width
from .paths import artifact_option, path_option, run_option

if TYPE_CHECKING:
    from ..model import Evaluation, TypingEvaluation


def train(
    preset: Annotated[
        str | None,
        Option(help="Recipe (default: quick); lmtool presets lists them.", autocompletion=completes("preset")),
    ] = None,
    data: Data = None,
    run: Annotated[Path | None, run_option("Run folder (default: a new one in runs/).")] = None,
    epochs: Annotated[int | None, Option(help="Passes over the training text.")] = None,
    resume: Annotated[bool, Option("--resume", help="Continue --run, or the latest run.")] = False,
    init: Annotated[
        Path | None,
        run_option("Run to start from: its best weights, vocabulary and settings (fine-tuning on --data).", "--init"),
    ] = None,
    settings: Settings = None,
    device: Annotated[str, Option(help="cpu or cuda.", autocompletion=completes("device"))] = "cpu",
    seed: Annotated[int | None, Option(help="Seed of weights and dropout.")] = None,
    threads: Annotated[int | None, Option(help="Threads (default: one per usable core).")] = None,
    checkpoint_minutes: Annotated[float, Option(help="Time between checkpoints within an epoch.")] = 3.0,
    tensorboard: Annotated[
        bool, Option("--tensorboard", help="Write TensorBoard scalars into the run folder too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train a network into a run folder: configuration, vocabulary, checkpoints, metrics and learning curves."""
    from ..model.training.train import TrainOptions, run_training
    from ..runtime.artifact.original import outdated_exports
    from ..runtime.score import format_perplexity
    from .progress import ProgressBar

    chosen = parse_pairs(settings)
    chosen |= {key: str(value) for key, value in (("epochs", epochs), ("seed", seed)) if value is not None}
    pause = checkpoint_minutes * 60
    if resume:
        run = run_or_latest(run)
    options = TrainOptions(preset, data, run, resume, chosen, device, threads, pause, tensorboard, init)
    with ProgressBar() as progress:
        result = run_training(options, progress)
    text = (
        f"{result.run}: {result.parameters:,} parameters, perplexity "
        f"{format_perplexity(result.valid_perplexity)} valid, {format_perplexity(result.test_perplexity)} test, "
        f"{result.bits_per_byte:.3f} bits per byte "
        f"(word frequencies alone: {format_perplexity(result.unigram_perplexity, 1)}), "
        f"best epoch {result.epoch}, {result.seconds:.0f} s of training"
    )
    print_result(as_json, text, result.to_json())
    if result.still_falling:
        more = f"lmtool train --resume --run {shlex.quote(str(result.run))} --epochs {2 * result.epochs}"
        print_status(f"the perplexity on valid is still falling: go on with {more}")
    if result.risen:
        rise = f"the perplexity on valid rose after epoch {result.epoch}, whose weights are kept"
        print_status(f"{rise}; where that of train fell, a lower learning_rate or more dropout may help")
    if result.warning:
        print_status(f"warning: {result.warning}")
    for line in outdated_exports(result.run):
        print_status(line)
    if result.has_failed:
        print_status(
            f"error: the training went wrong: guessing evenly among its {result.vocabulary_size:,} tokens is better"
        )
        raise Exit(3)


def import_(
    weights: Annotated[
        Path, Argument(metavar="WEIGHTS", help="safetensors, a state_dict of torch.save, or a model of Keras.")
    ],
    run: Annotated[Path, run_option("Run folder to make.")],
    vocabulary: Annotated[
        Path | None,
        path_option("Tokens, one a line, or .json, or a tokenizer.json (default: tokenizer.json beside WEIGHTS)."),
    ] = None,
    layout: Annotated[
        str | None,
        Option(help="Names of the tensors (default: recognised).", autocompletion=completes("layout")),
    ] = None,
    module: Annotated[
        list[str] | None,
        Option(metavar="PART=NAME", help="Module of embedding, layers or projection; may be repeated."),
    ] = None,
    unknown: Annotated[
        str | None, Option(metavar="TOKEN", help="Token for unknown words (default: recognised).", callback=as_utf8)
    ] = None,
    end_of_sentence: Annotated[
        str | None, Option(metavar="TOKEN", help="Token of a newline (default: recognised).", callback=as_utf8)
    ] = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Make a run folder of a network that another program trained: PyTorch, fast.ai, icefall or Keras."""
    require_module("torch")
    from ..model.foreign.importer import ImportOptions, import_weights

    modules, chosen = parse_pairs(module, "--module"), parse_pairs(settings)
    done = import_weights(ImportOptions(weights, run, vocabulary, layout, modules, unknown, end_of_sentence, chosen))
    for line in done.notes:
        print_status(line)
    print_result(as_json, done.format(), done.to_json())


def evaluate(
    run: RunFolder = None,
    model: Annotated[Path | None, artifact_option("Evaluate this artifact instead of a run's network.")] = None,
    data: Data = None,
    split: Annotated[
        str | None,
        Option(
            help="train, valid, test, or all (default: test; all of a single file).", autocompletion=completes("split")
        ),
    ] = None,
    provider: Provider = "cpu",
    cache: Annotated[
        int | None, Option(help="Adapt to the text with a continuous cache of this many tokens (artifacts only).")
    ] = None,
    cache_theta: Annotated[
        float | None, Option(help="Sharpness of the cache (inverse temperature; default: 0.4).")
    ] = None,
    cache_weight: Annotated[float | None, Option(help="Weight of the cache in the mixture (default: 0.15).")] = None,
    typing: Annotated[
        bool,
        Option(
            "--typing",
            help="Type the text against an artifact's suggestions instead: words suggested, keystrokes saved.",
        ),
    ] = False,
    lines: Annotated[int | None, Option(help="With --typing: type only so many lines, the first ones.")] = None,
    ignore_case: Annotated[
        bool, Option("--ignore-case", help="With --typing: a suggestion is right in any letter case.")
    ] = False,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Compute the perplexity of a network or an artifact on a text; with --typing, what its suggestions save."""
    from ..runtime.session.session import check_threads

    require_one(model, run)
    if model is None and provider != "cpu" and not typing:
        raise BadParameter("a provider runs an artifact; name one: --model", param_hint="--provider")
    check_threads(threads)
    options = cache_options(cache, cache_theta, cache_weight)
    if options is not None and typing:
        raise BadParameter("suggestions are typed against without a cache; leave it out", param_hint="--cache")
    if model is None and options is not None:
        raise BadParameter("a cache goes with an artifact; name one: --model", param_hint="--cache")
    if not typing and (ignore_case or lines is not None):
        raise BadParameter("goes with --typing", param_hint="--ignore-case" if ignore_case else "--lines")
    result: Evaluation | TypingEvaluation
    if typing:
        result = _typed(model or export_of(run), data, split, provider, threads, lines, ignore_case)
    else:
        from ..model.evaluation import evaluate_artifact, evaluate_run

        if model is not None:
            result = evaluate_artifact(model, data, split, provider, threads, options)
        else:
            result = evaluate_run(run_or_latest(run), data, split, threads)
    for line in result.notes:
        print_status(line)
    if result.warning:
        print_status(f"warning: {result.warning}")
    print_result(as_json, result.format(), result.to_json())


def _typed(
    model: Path,
    data: str | None,
    split: str | None,
    provider: str,
    threads: int,
    lines: int | None,
    ignore_case: bool,
) -> "TypingEvaluation":
    from ..model.keyboard.evaluation import evaluate_typing
    from .progress import typing_progress

    with typing_progress() as progress:
        return evaluate_typing(
            model, data, split, provider, threads, lines=lines, ignore_case=ignore_case, progress=progress
        )


def embeddings(
    run: RunFolder = None,
    near: Annotated[
        list[str] | None,
        Option(metavar="WORD", help="List the words nearest to this one; may be repeated.", callback=as_utf8),
    ] = None,
    count: Annotated[int, Option(help="Number of words to list.")] = 10,
    words: Annotated[int, Option(help="Number of words to draw, the most frequent first.")] = 200,
    out: Annotated[Path | None, path_option("PNG file (default: embeddings.png in the run folder).")] = None,
    seed: Annotated[int, Option(help="Seed of the map.")] = 1,
    as_json: Json = False,
) -> None:
    """Draw a t-SNE map of the embeddings of the most frequent words, or list the nearest words."""
    if near and out is not None:
        raise BadParameter("with --near words are listed and nothing is drawn", param_hint="--out")
    if not near:
        require_module("sklearn")
    from ..model.embeddings import Embeddings
    from ..model.run import Run

    chosen = Run(run_or_latest(run))
    vectors = Embeddings.of_run(chosen)
    if near:
        nearest = {word: vectors.nearest(word, count) for word in near}
        lines = []
        for word, neighbours in nearest.items():
            lines += [repr(word), *(f"  {similarity:6.3f}  {other!r}" for other, similarity in neighbours)]
        lists = {word: [neighbour._asdict() for neighbour in neighbours] for word, neighbours in nearest.items()}
        return print_result(as_json, "\n".join(lines), {"run": str(chosen.path), "near": lists})
    from ..model.embedding_map import draw_embedding_map

    path = out or chosen.embedding_map
    drawn = draw_embedding_map(vectors, path, words, seed)
    value = {"run": str(chosen.path), "path": str(path), "words": drawn}
    return print_result(as_json, f"{path}: {drawn:,} words", value)


def list_data(as_json: Json = False) -> None:
    """List the built-in corpora, and the files and folders that can be read."""
    from ..model.data.texts import corpora
    from ..runtime.io.text_table import prose_table

    descriptions = corpora()
    lines = prose_table(None, list(descriptions.items()), width=text_width())
    print_result(as_json, "\n".join(lines), {"corpora": descriptions})


def prepare_data(
    name: Annotated[str, Argument(help="pydocs, a text file, or a folder of text files.")],
    out: Annotated[Path, path_option("Folder for train.txt, valid.txt and test.txt.")],
    as_json: Json = False,
) -> None:
    """Write a corpus as train.txt, valid.txt and test.txt."""
    from ..model.data.texts import find_texts
    from ..model.data.write import write_splits

    texts = find_texts(name)
    for line in texts.notes():
        print_status(line)
    sizes = write_splits(texts.splits(), out, name)
    print_result(
        as_json, "\n".join(f"{out / split}.txt  {size:,} bytes" for split, size in sizes.items()), {"bytes": sizes}
    )
