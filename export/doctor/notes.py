"""What is worth knowing about a file and is no fault."""

from collections.abc import Iterator

from ...runtime.errors import counted
from ...runtime.session.providers import available_providers
from .axes import BATCH, TIME
from .checkers.weights import computed_weights
from .runtimes import RefusedError, open_onnxruntime
from .streams import compare_runtimes, stream
from .subject import Subject, has_weights_outside
from .trials import Trials, declared_sizes, opened

_LAST_OPSET = 21
"""Of the LSTM and RNN kernels for CUDA in onnxruntime 1.25 and 1.26; GRU's and those of 1.27 go further."""


def notes(subject: Subject, trials: Trials) -> Iterator[str]:
    """One sentence each."""
    yield from _about_graph(subject)
    yield from _about_axes(subject)
    yield from _about_runs(subject, trials)


def _about_graph(subject: Subject) -> Iterator[str]:
    operators = [layer for layer in subject.layers if layer.is_operator]
    if subject.opset > _LAST_OPSET and any(layer.node.op_type in ("LSTM", "RNN") for layer in operators):
        yield (
            f"opset {subject.opset}: onnxruntime before 1.27 has no CUDA kernel of LSTM and RNN from opset 22 on, and "
            "runs them on the CPU; update it, or export opset 17 to 21, for CUDA"
        )
    if operators and subject.computes_in_half:
        yield "half precision: onnxruntime's recurrent kernels on the CPU are float32 only; the file is for GPUs"
    if integers := [name for name, kind in subject.inputs.items() if kind.dtype == "int64"]:
        yield f"int64 inputs ({', '.join(integers)}): pass int64 arrays, in JavaScript BigInt64Array"
    if inner := [layer for layer in operators if not layer.is_main and computed_weights(subject, layer)]:
        yield (
            f"{counted(len(inner), 'layer')} in branches compute their weights from constants: quantization does not "
            "reach them, and a StatefulSession computes them at every call unless it has fold_constants=True"
        )


def _about_axes(subject: Subject) -> Iterator[str]:
    if not subject.pairs:
        return
    times = declared_sizes(subject, TIME)
    if not times and (found := next(_timed(subject), None)):
        yield f"{found} is a time: step by step the outputs are those of the whole sequence"
    elif not times:
        yield "no input has a time that layers read step by step: a call is one step, or a window of fixed length"
    elif set(times.values()) == {1}:
        yield "the time is 1: one step a call; longer chunks, which cost less a step, need a dynamic time"
    if not subject.axes.has(BATCH, subject.data_inputs):
        yield "no input has a batch: a call serves one stream"


def _timed(subject: Subject) -> Iterator[str]:
    """Free axes that prove to be a time when they are tried, as behind other layers."""
    for name in subject.data_inputs:
        for place, axis in enumerate(subject.inputs[name].shape or ()):
            if isinstance(axis, str) and not subject.axes.inputs[name][place]:
                twin = subject.with_time(name, place)
                differences = stream(twin, Trials(twin))
                if differences and not any(difference.is_fault for difference in differences):
                    yield f"axis {place} of {name!r}"


def _about_runs(subject: Subject, trials: Trials) -> Iterator[str]:
    for name, message in trials.refusals.items():
        yield f"{name} refuses the file: {message}"
    for provider in available_providers() if not has_weights_outside(subject.model) else ():
        if provider != "cpu":
            try:
                open_onnxruntime(opened(subject), provider)
            except RefusedError as error:
                yield f"onnxruntime's provider {provider} refuses the file: {error}"
    if trials.base is None:
        if trials.runs:
            yield f"it ran at no size that was tried; at {trials.first}: {trials.error(trials.first)}"
        return
    yield from compare_runtimes(trials)
    differences = stream(subject, trials)
    if differences and not any(difference.is_fault for difference in differences):
        largest = max(difference.largest for difference in differences)
        yield f"step by step the outputs are those of the whole sequence (largest difference {largest:.1g})"
