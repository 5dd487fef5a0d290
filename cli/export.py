"""Commands on ONNX files: export, verify, doctor and info."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, BadParameter, Exit, Option

from .completion import completes
from .options import (
    Json,
    Model,
    Provider,
    RunFolder,
    latest_model,
    parse_pairs,
    print_if_outdated,
    require_one,
    run_or_latest,
)
from .output import print_result, print_status, require_module, text_width
from .paths import path_option, run_option

if TYPE_CHECKING:
    from ..bench.conformance import ConformanceReport
    from ..export.exporter import Export, SherpaExport


def export(
    onnx: Annotated[bool, Option("--onnx", help="Write an ONNX artifact: the default.")] = False,
    run: RunFolder = None,
    out: Annotated[Path | None, path_option("File to write (default: in the run folder).")] = None,
    precision: Annotated[
        str, Option(help="fp32, fp16 (for GPUs) or int8.", autocompletion=completes("precision"))
    ] = "fp32",
    opset: Annotated[int, Option(help="ONNX operator set, 17 to 21.")] = 17,
    test_vectors: Annotated[
        bool, Option("--test-vectors", help="Write inputs and expected outputs beside it, as ONNX test data.")
    ] = False,
    tokenizer: Annotated[
        bool, Option("--tokenizer", help="Write tokenizer.json beside it, for Hugging Face's tokenizers (rule bpe).")
    ] = False,
    card: Annotated[bool, Option("--card", help="Write a model card beside it: README.md.")] = False,
    hub: Annotated[
        Path | None, path_option("Write a folder for Hugging Face's hub too, with all precisions beside it.")
    ] = None,
    triton: Annotated[Path | None, path_option("Write a Triton model repository into this folder too.")] = None,
    sherpa: Annotated[bool, Option("--sherpa", help="Write a model for sherpa-onnx instead.")] = False,
    tokens: Annotated[Path | None, path_option("With --sherpa: the recognizer's tokens.txt (default: own).")] = None,
    as_json: Json = False,
) -> None:
    """Export a trained run to one ONNX file, verified against the PyTorch network before it is written."""
    if onnx and sherpa:
        raise BadParameter("choose one of --onnx and --sherpa", param_hint="--onnx")
    if sherpa and (precision != "fp32" or any((test_vectors, tokenizer, card, hub, triton))):
        hint = "--precision, --test-vectors, --tokenizer, --card, --hub or --triton"
        raise BadParameter("does not go with --sherpa", param_hint=hint)
    if not sherpa and tokens is not None:
        raise BadParameter("goes with --sherpa only", param_hint="--tokens")
    require_module("onnx")
    from ..export.build import BuildOptions
    from ..export.exporter import export_run, export_sherpa
    from ..model.run import Run

    BuildOptions(precision, opset)
    chosen = Run(run_or_latest(run))
    if sherpa:
        return _print_sherpa(as_json, export_sherpa(chosen, out, opset, tokens))
    _require_room((out or chosen.artifact(precision)).parent if card else None, hub)
    done = export_run(chosen, precision, out, opset, test_vectors, print_status, tokenizer)
    text = f"{done.path}: {done.size_bytes:,} bytes\n{done.report.format()}"
    if done.warning:
        print_status(f"warning: {done.warning}")
    value = {"path": str(done.path), "size_bytes": done.size_bytes, "parity": done.report.to_json()}
    if (same := done.agreement) is not None:
        text += f"\n  tokens              {same.tokens:,} as by {same.other}: {same.text}"
        value["tokens"] = same.to_json()
    for name, written, what in _written_too(done, card, hub, triton):
        text += f"\n{written}: {what}"
        value[name] = str(written)
    return print_result(as_json, text, value)


def _require_room(card_folder: Path | None, hub: Path | None) -> None:
    """Find out before the export whether a card or a folder for the hub would replace the files of others."""
    from ..export.formats.card import require_own_card
    from ..export.formats.hub import require_hub_room

    if card_folder is not None:
        require_own_card(card_folder)
    if hub is not None:
        require_hub_room(hub)


def _written_too(done: "Export", card: bool, hub: Path | None, triton: Path | None) -> Iterator[tuple[str, Path, str]]:
    """What is written besides the artifact: the name in the JSON object, the path, and what it is."""
    from ..export.formats.card import write_card
    from ..export.formats.hub import write_hub_folder
    from ..export.formats.triton import write_triton_repository

    if done.tokenizer is not None:
        yield "tokenizer", done.tokenizer, "the tokenizer for Hugging Face's tokenizers"
    if done.vectors is not None:
        yield "test_vectors", done.vectors, "test vectors for any ONNX runtime"
    if card:
        yield "card", write_card(done.path), "the model card"
    if hub is not None:
        yield "hub", write_hub_folder(done.path, hub), "a model for Hugging Face's hub"
    if triton is not None:
        yield "triton", write_triton_repository(done.path, triton), "a model for Triton Inference Server"


def _print_sherpa(as_json: bool, done: "SherpaExport") -> None:
    text, value = str(done.path), {"path": str(done.path)}
    if done.tokens is not None:
        text += f"\n{done.tokens}: the tokens of its recognizer"
        value["tokens"] = str(done.tokens)
    print_result(as_json, text, value)


def verify(
    model: Model = None,
    run: Annotated[
        Path | None, run_option("Run folder of the PyTorch network (default: the artifact's folder).")
    ] = None,
    provider: Provider = "cpu",
    test_vectors: Annotated[
        bool, Option("--test-vectors", help="Run the test vectors beside it in every installed runtime.")
    ] = False,
    against: Annotated[
        list[str] | None, Option(help="With --test-vectors: a runtime; may be repeated (default: all).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare an artifact with its PyTorch network, or runtimes with its test vectors; exit 3 if a bound is broken."""
    if test_vectors and run is not None:
        raise BadParameter("test vectors bring their expected outputs with them", param_hint="--run")
    if against is not None and not test_vectors:
        raise BadParameter("goes with --test-vectors", param_hint="--against")
    require_module("onnx")
    from ..export.exporter import verify_artifact

    chosen = model or latest_model()
    if test_vectors:
        vectors = _conformance(chosen, against, provider)
        return _end_with(vectors.passed, as_json, vectors.format(text_width()), vectors.to_json())
    report = verify_artifact(chosen, run, provider)
    return _end_with(report.passed, as_json, report.format(), report.to_json())


def _end_with(passed: bool, as_json: bool, text: str, value: Any) -> None:
    print_result(as_json, text, value)
    if not passed:
        raise Exit(3)


def _conformance(model: Path, against: list[str] | None, provider: str) -> "ConformanceReport":
    require_module("pytest_benchmark")
    from ..bench.conformance import RUNTIMES, check_conformance

    if unknown := sorted(set(against or []) - set(RUNTIMES)):
        raise BadParameter(
            f"{unknown[0]!r} is no runtime, expected one of {', '.join(RUNTIMES)}", param_hint="--against"
        )
    return check_conformance(model, against or RUNTIMES, provider, print_status)


def doctor(
    file: Annotated[Path, Argument(metavar="FILE", help="A recurrent ONNX file of any exporter.")],
    fix: Annotated[Path | None, path_option("Write a mended copy into this file, once it is proved equal.")] = None,
    state: Annotated[
        list[str] | None, Option(metavar="IN=OUT", help="A state input and the output after it; may be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what goes wrong when a recurrent ONNX file is streamed, and how to mend it; exit 3 if there is a fault."""
    require_module("onnx")
    from ..export.doctor.examination import examine
    from ..export.doctor.mending import mend

    states = parse_pairs(state, "--state", "IN=OUT") or None
    if fix is None:
        found = examine(file, states)
        return _end_with(found.is_sound, as_json, found.format(), found.to_json())
    before, mended = examine(file, states), mend(file, fix, states)
    text = f"{before.format()}\n{mended.format()}"
    sound = (mended.after or before).is_sound
    return _end_with(sound, as_json, text, {**before.to_json(), "mended": mended.to_json()})


def info(
    model: Model = None,
    run: RunFolder = None,
    graph: Annotated[Path | None, path_option("Draw the artifact's graph into this PNG file.")] = None,
    as_json: Json = False,
) -> None:
    """Show layers, parameters, state, vocabulary, training and parity of an artifact or a run."""
    from ..runtime.artifact.artifact import Artifact
    from ..runtime.artifact.summary import summarize

    require_one(model, run)
    if run is not None and graph is not None:
        raise BadParameter("a run has no graph; name an artifact: --model", param_hint="--graph")
    if run is not None:
        from ..model.run import Run

        summary = Run(run).summary()
    else:
        path = model or latest_model()
        artifact = Artifact.read(path)
        print_if_outdated(path, artifact)
        summary = summarize(artifact, path)
        if graph is not None:
            from ..export.graph_picture import draw_graph

            draw_graph(path, graph)
            print_status(f"{graph}: the graph of {path}")
    print_result(as_json, summary.format(text_width()), summary.to_json())
