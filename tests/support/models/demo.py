"""A demonstration made by hand."""

from pathlib import Path

from lmtool.bench import Demo, Results
from lmtool.export.exporter import Export
from lmtool.export.parity import ParityReport
from lmtool.model.training.train import TrainResult

from support.models.reports import make_parity_report


def make_demo(results: Results) -> Demo:
    """A demonstration with these results."""
    training = TrainResult(
        run=Path("runs/demo"),
        epoch=6,
        valid_perplexity=66.0,
        test_perplexity=65.6,
        bits_per_byte=2.3,
        word_perplexity=9_600.0,
        unigram_perplexity=268.2,
        vocabulary_size=4_000,
        epochs=6,
        still_falling=False,
        risen=False,
        seconds=90.0,
        parameters=1_000_000,
    )
    exports = {
        "int8": Export(Path("model.int8.onnx"), 2_100_000, _report("int8", 65.7)),
        "fp32": Export(Path("model.onnx"), 4_700_000, _report("fp32", 65.61)),
    }
    files = {"model": Path("model.onnx"), "report": Path("bench.html"), "chart": Path("bench.png")}
    return Demo(training, exports, results, "return the", " object.\nit is a class.\nand more.\n", files)


def _report(precision: str, perplexity: float) -> ParityReport:
    return make_parity_report(
        1.9e-6,
        precision=precision,
        variant=precision,
        original="PyTorch run demo",
        loop_steps=1000,
        text="the test split of pydocs",
        original_perplexity=65.6,
        artifact_perplexity=perplexity,
        batch_invariant=precision == "fp32",
    )
