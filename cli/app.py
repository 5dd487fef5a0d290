"""The commands. Each parses, calls one function and prints; rooms are imported inside, so that help is instant."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from .options import (
    Data,
    Json,
    Model,
    Provider,
    RunFolder,
    Settings,
    Texts,
    Threads,
    Unknown,
    cache_options,
    parse_settings,
)
from .output import command, give, require, say, write

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train a small language model, export it to one ONNX file, stream it anywhere, and prove it.",
)
data_app = typer.Typer(no_args_is_help=True, help="Corpora.")
app.add_typer(data_app, name="data")


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Train a small language model, export it to one ONNX file, stream it anywhere, and prove it."""
    if show:
        from importlib.metadata import version as installed

        write(f"lmtool {installed('lmtool')}\n")
        raise typer.Exit


@app.command()
@command
def train(
    preset: Annotated[str | None, typer.Option(help="Recipe (default: quick).")] = None,
    data: Data = None,
    run: Annotated[Path | None, typer.Option(help="Run folder (default: a new one in runs/).")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training text.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with --run, or with the latest run.")] = False,
    settings: Settings = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    seed: Annotated[int | None, typer.Option(help="Seed of weights and dropout.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads (default: one a core).")] = None,
    checkpoint_minutes: Annotated[float, typer.Option(help="Time between checkpoints within an epoch.")] = 3.0,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write TensorBoard scalars into the run folder too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train a network into a run folder: configuration, vocabulary, checkpoints, metrics and learning curves."""
    from ..model.job import TrainOptions, run_training
    from .progress import TrainingProgress

    chosen = parse_settings(settings)
    chosen |= {key: str(value) for key, value in (("epochs", epochs), ("seed", seed)) if value is not None}
    pause = checkpoint_minutes * 60
    options = TrainOptions(preset, data, run, resume, chosen, device, threads, pause, tensorboard)
    with TrainingProgress() as progress:
        result = run_training(options, progress)
    text = (
        f"{result.run}: {result.parameters:,} parameters, perplexity {result.valid_perplexity:.2f} valid, "
        f"{result.test_perplexity:.2f} test (word frequencies alone: {result.unigram_perplexity:.1f}), "
        f"best epoch {result.epoch}, {result.seconds:.0f} s of training"
    )
    give(as_json, text, result.to_json())


@app.command()
@command
def evaluate(
    run: RunFolder = None,
    model: Annotated[Path | None, typer.Option(help="Evaluate this artifact instead of a run's network.")] = None,
    data: Data = None,
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "test",
    provider: Provider = "cpu",
    cache: Annotated[
        int | None, typer.Option(help="Adapt to the text by a continuous cache of so many tokens (an artifact only).")
    ] = None,
    cache_theta: Annotated[float | None, typer.Option(help="Flatness of the cache (default: 0.4).")] = None,
    cache_weight: Annotated[float | None, typer.Option(help="Share of the cache (default: 0.15).")] = None,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Perplexity of a trained network, or of an artifact, on a split of a corpus read as one unbroken stream."""
    from ..model.evaluating import evaluate_artifact, evaluate_run

    if model is not None and run is not None:
        raise typer.BadParameter("name a run or an artifact, not both", param_hint="--model")
    if model is None and provider != "cpu":
        raise typer.BadParameter("a provider runs an artifact; name one: --model", param_hint="--provider")
    options = cache_options(cache, cache_theta, cache_weight)
    if model is None and options is not None:
        raise typer.BadParameter("a cache goes with an artifact; name one: --model", param_hint="--cache")
    if model is not None:
        result = evaluate_artifact(model, data, split, provider, threads, options)
    else:
        result = evaluate_run(run, data, split, threads)
    give(as_json, result.format(), result.to_json())


@app.command()
@command
def export(
    onnx: Annotated[bool, typer.Option("--onnx", help="Write an ONNX artifact.")] = False,
    run: RunFolder = None,
    out: Annotated[Path | None, typer.Option(help="File to write (default: in the run folder).")] = None,
    precision: Annotated[str, typer.Option(help="fp32, fp16 (for GPUs), int8, w8 or w4.")] = "fp32",
    optimize_for: Annotated[str | None, typer.Option(help="For int8: latency or throughput (default).")] = None,
    opset: Annotated[int, typer.Option(help="ONNX operator set, 17 to 21.")] = 17,
    triton: Annotated[Path | None, typer.Option(help="Write a Triton model repository into this folder too.")] = None,
    sherpa: Annotated[bool, typer.Option("--sherpa", help="Write the names of sherpa-onnx's RNN model.")] = False,
    as_json: Json = False,
) -> None:
    """Export a trained run to one ONNX file, verified against the original before it appears."""
    if onnx == sherpa:
        raise typer.BadParameter("say what to export to: --onnx or --sherpa", param_hint="--onnx")
    if sherpa and (precision != "fp32" or optimize_for is not None or triton is not None):
        raise typer.BadParameter("goes with --onnx only", param_hint="--precision, --optimize-for or --triton")
    require("onnx")
    from ..export.building import BuildOptions
    from ..export.exporting import export_run, export_sherpa
    from ..export.triton import write_triton_repository
    from ..model.run import Run, latest_run

    BuildOptions(precision, opset, optimize_for)
    chosen = latest_run() if run is None else Run(run)
    if sherpa:
        path = export_sherpa(chosen, out, opset)
        return give(as_json, str(path), {"path": str(path)})
    say(f"exporting {chosen.path} to {precision} and verifying it")
    done = export_run(chosen, precision, out, opset, optimize_for)
    text = f"{done.path}: {done.size_bytes:,} bytes\n{done.report.format()}"
    value = {"path": str(done.path), "size_bytes": done.size_bytes, "parity": done.report.to_json()}
    if triton is not None:
        repository = write_triton_repository(done.path, triton)
        text += f"\n{repository}: a model for Triton Inference Server"
        value["triton"] = str(repository)
    return give(as_json, text, value)


@app.command()
@command
def verify(
    model: Model = None,
    run: Annotated[
        Path | None, typer.Option(help="Run folder of the original (default: the artifact's folder).")
    ] = None,
    provider: Provider = "cpu",
    as_json: Json = False,
) -> None:
    """Compare an artifact with its PyTorch original; exit 3 when a bound is passed."""
    require("onnx")
    from ..export.exporting import verify_artifact

    report = verify_artifact(model or _latest_artifact(), run, provider)
    give(as_json, report.format(), report.to_json())
    if not report.passed:
        raise typer.Exit(3)


@app.command()
@command
def info(
    model: Model = None,
    run: RunFolder = None,
    graph: Annotated[Path | None, typer.Option(help="Draw the artifact's graph into this PNG file.")] = None,
    as_json: Json = False,
) -> None:
    """Layers, parameters, state, vocabulary, training and parity facts of an artifact, or of a run."""
    from ..runtime.artifact import Artifact
    from ..runtime.summary import summarize

    if model is not None and run is not None:
        raise typer.BadParameter("name a run or an artifact, not both", param_hint="--model")
    if run is not None and graph is not None:
        raise typer.BadParameter("a run has no graph; name an artifact: --model", param_hint="--graph")
    if run is not None:
        from ..model.run import Run

        summary = Run(run).summary()
    else:
        path = model or _latest_artifact()
        summary = summarize(Artifact.read(path), path)
        if graph is not None:
            from ..export.picture import draw_graph

            draw_graph(path, graph)
            say(f"{graph}: the graph of {path}")
    give(as_json, summary.format(), summary.to_json())


@app.command()
@command
def embeddings(
    run: RunFolder = None,
    near: Annotated[
        list[str] | None, typer.Option(metavar="WORD", help="List the words nearest to this one, may be repeated.")
    ] = None,
    count: Annotated[int, typer.Option(help="How many words to list.")] = 10,
    words: Annotated[int, typer.Option(help="How many of the most frequent words to draw.")] = 200,
    out: Annotated[Path | None, typer.Option(help="PNG file (default: embeddings.png in the run folder).")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the map.")] = 1,
    as_json: Json = False,
) -> None:
    """Draw a t-SNE map of the most frequent words' vectors, or list the words nearest to some."""
    if near and out is not None:
        raise typer.BadParameter("with --near words are listed and nothing is drawn", param_hint="--out")
    if not near:
        require("sklearn")
    from ..model.embeddings import Embeddings
    from ..model.run import Run, latest_run

    chosen = latest_run() if run is None else Run(run)
    vectors = Embeddings.of_run(chosen)
    say(f"run: {chosen.path}")
    if near:
        found = {word: vectors.nearest(word, count) for word in near}
        lines = []
        for word, neighbours in found.items():
            lines += [repr(word), *(f"  {similarity:6.3f}  {other!r}" for other, similarity in neighbours)]
        lists = {word: [neighbour._asdict() for neighbour in neighbours] for word, neighbours in found.items()}
        return give(as_json, "\n".join(lines), {"run": str(chosen.path), "near": lists})
    from ..model.embedding_map import draw_embedding_map

    path = out or chosen.embedding_map
    drawn = draw_embedding_map(vectors, path, words, seed)
    value = {"run": str(chosen.path), "path": str(path), "words": drawn}
    return give(as_json, f"{path}: {drawn:,} words", value)


@app.command()
@command
def generate(
    prompt: Texts = None,
    model: Model = None,
    max_tokens: Annotated[int, typer.Option(help="Tokens to write.")] = 50,
    temperature: Annotated[float, typer.Option(help="0: greedy; below 1: bolder choices are rarer.")] = 0.8,
    top_k: Annotated[int | None, typer.Option(help="Draw among the k most probable tokens.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Draw among the tokens that hold this probability.")] = None,
    method: Annotated[str, typer.Option(help="greedy, weighted or weighted-at-boundaries.")] = "weighted",
    repetition_penalty: Annotated[
        float, typer.Option(help="Above 1: words of this text come again less often (1: off; 1.2 is usual).")
    ] = 1.0,
    stop: Annotated[
        list[str] | None, typer.Option(metavar="WORD", help="End before this word, may be repeated.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Makes the text repeatable.")] = None,
    allow_unknown: Unknown = False,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Write on from a prompt, token by token."""
    stream = _predictor(model, threads).stream()
    text = " ".join(prompt) if prompt else _piped_text()
    stream.feed(text)
    pieces = stream.generate(
        max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        method=method,
        seed=seed,
        allow_unknown=allow_unknown,
        repetition_penalty=repetition_penalty,
        stop=stop or (),
    )
    if as_json:
        return give(True, "", {"prompt": text, "text": "".join(pieces)})
    write(text)
    for piece in pieces:
        write(piece)
    return write("\n")


@app.command()
@command
def suggest(
    text: Texts = None,
    model: Model = None,
    k: Annotated[int, typer.Option("-k", "--count", help="Number of suggestions.")] = 5,
    prefix: Annotated[str | None, typer.Option(help="Complete the word that begins with these letters.")] = None,
    allow_unknown: Unknown = False,
    as_json: Json = False,
) -> None:
    """The most probable next words after a text (the arguments, joined) with their probabilities."""
    stream = _predictor(model, 1).stream()
    stream.feed(" ".join(text) if text else _piped_text())
    words = stream.suggest(k, prefix=prefix, allow_unknown=allow_unknown)
    if prefix is not None and not words:
        say(f"no word of the vocabulary begins with {prefix!r}")
    lines = "\n".join(f"{probability:7.2%}  {word!r}" for word, probability in words)
    give(as_json, lines, {"suggestions": [{"token": word, "probability": probability} for word, probability in words]})


@app.command()
@command
def score(
    text: Texts = None,
    model: Model = None,
    end: Annotated[bool, typer.Option("--end", help="Score the end of each sentence too.")] = False,
    per_token: Annotated[bool, typer.Option("--per-token", help="Show every token.")] = False,
    heat: Annotated[
        bool, typer.Option("--heat", help="Colour each token by its surprise, on a terminal only.")
    ] = False,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Log-probability and perplexity of each argument, or of each line of standard input."""
    predictor = _predictor(model, threads)
    lines = text or _piped_lines()
    texts = [f"{line}\n" if end else line for line in lines]
    scores = [predictor.score(scored) for scored in texts]
    colours = _heat(predictor) if heat else None
    shown = []
    for line, scored, found in zip(lines, texts, scores, strict=True):
        perplexity = f"{found.perplexity:10.2f}" if found.tokens else f"{'-':>10}"
        text_shown = colours.coloured(scored, found) if colours else line
        shown.append(f"{found.log_prob:10.3f}  perplexity {perplexity}  unknown {found.unknown}  {text_shown}")
        if per_token:
            pairs = zip(found.tokens, found.token_log_probs, strict=True)
            shown += [f"{log_prob:10.3f}    {token!r}" for token, log_prob in pairs]
    if colours:
        shown.append(colours.legend())
    values = [{"text": line, **found.to_json()} for line, found in zip(lines, scores, strict=True)]
    give(as_json, "\n".join(shown), {"scores": values})


@app.command()
@command
def bench(
    model: Model = None,
    provider: Provider = "cpu",
    batch: Annotated[
        list[int] | None, typer.Option(help="Streams side by side, may be repeated (default: 64).")
    ] = None,
    time: Annotated[list[int] | None, typer.Option(help="Tokens a call, may be repeated (default: 128).")] = None,
    threads: Threads = 1,
    rounds: Annotated[int, typer.Option(help="How often the runtimes take turns.")] = 5,
    save: Annotated[
        Path | None, typer.Option(help="Folder for bench.json and bench.png (default: beside the model).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Verify an artifact, then measure it against the PyTorch original: single-stream, batched and chunked."""
    require("pytest_benchmark")
    from ..bench import BenchOptions, format_table, run_bench, save_results
    from ..runtime.files import make_folder

    if save is not None:
        make_folder(save)
    options = BenchOptions(model, provider, tuple(batch or [64]), tuple(time or [128]), threads, rounds)
    results = run_bench(options, say)
    files = save_results(results, save or results.model.parent)
    text = "\n".join([format_table(results), *(f"{kind}: {path}" for kind, path in files.items())])
    give(as_json, text, results.to_json())


@data_app.command("list")
@command
def list_data(as_json: Json = False) -> None:
    """The corpora that need no files, and the folders that are understood."""
    from ..model.texts import corpora

    found = corpora()
    give(as_json, "\n".join(f"{name:<10} {what}" for name, what in found.items()), {"corpora": found})


@data_app.command("prepare")
@command
def prepare_data(
    name: Annotated[str, typer.Argument(help="pydocs, or a folder of text files.")],
    out: Annotated[Path, typer.Option(help="Folder for train.txt, valid.txt and test.txt.")],
    as_json: Json = False,
) -> None:
    """Write a corpus as train.txt, valid.txt and test.txt."""
    from ..model.texts import read_splits, write_splits

    sizes = write_splits(read_splits(name), out)
    give(as_json, "\n".join(f"{out / split}.txt  {size:,} bytes" for split, size in sizes.items()), {"bytes": sizes})


@app.command()
@command
def demo(as_json: Json = False) -> None:
    """Train, export, verify, measure and write text in the current folder, in a few minutes."""
    require("pytest_benchmark")
    from ..bench import run_demo
    from .progress import TrainingProgress

    with TrainingProgress() as progress:
        found = run_demo(progress, say)
    give(as_json, found.summary(), found.to_json())


def _predictor(model: Path | None, threads: int) -> Any:
    from ..runtime import Predictor

    return Predictor.load(model or _latest_artifact(), threads=threads)


def _heat(predictor: Any) -> Any:
    from .heat import Heat

    return Heat.of_terminal(predictor.vocabulary.tokenization)


def _latest_artifact() -> Path:
    """The youngest export, named on stderr so that nobody is left to guess."""
    from ..runtime import latest_artifact

    path = latest_artifact()
    say(f"model: {path}")
    return path


def _piped_text() -> str:
    """What is piped in, without the last newline; nothing where a person sits at the terminal."""
    from ..runtime.files import decode_text

    if sys.stdin is None or sys.stdin.isatty():
        return ""
    return decode_text(sys.stdin.buffer.read(), "standard input").removesuffix("\n")


def _piped_lines() -> list[str]:
    text = _piped_text()
    return text.split("\n") if text else []
