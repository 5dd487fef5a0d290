"""Export networks in every precision, and with wrong weights, and count what verification refuses.

    python bench/studies/parity.py --data DIR --out RUNS

`DIR` holds the folders `ptb`, `shakespeare` and `hdfs`, each with a training text. A good export must pass, a wrong
weight must be refused. What is in `RUNS` already is kept, so the command continues where it was stopped.
"""

import argparse
import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from common.parity_networks import TRIALS, train
from common.program import run_program
from lmtool.export.build import BuildOptions, build_model, seal
from lmtool.export.exporter import reference_of
from lmtool.export.parity import ParityReport
from lmtool.export.reference import TorchReference, zero_states
from lmtool.export.verification import verify
from lmtool.model.network import LanguageModel
from lmtool.model.run import Run
from lmtool.runtime.artifact.artifact import PRECISIONS, artifact_metadata
from lmtool.runtime.io.text_table import text_table
from lmtool.runtime.predictor import Predictor
from numpy.typing import NDArray

_SMALL = 1.001
_COUNTED_TOKENS = 500

Fault = tuple[str, Callable[[LanguageModel], None]]
"""What is wrong, and the function that makes it wrong."""


def verify_export(reference: TorchReference, network: LanguageModel, precision: str) -> ParityReport:
    """The report of `network`, exported and compared with `reference`."""
    metadata = artifact_metadata(network.architecture, reference.vocabulary, precision, is_static=precision == "int8")
    return verify(reference, Predictor.load(seal(build_model(network, BuildOptions(precision)), metadata)))


def wrong_weights(reference: TorchReference) -> Iterator[Fault]:
    """In each tensor the weight that matters most, a thousandth off; the forget bias of a counter; swapped gates."""
    for name, index in _find_important_weights(reference).items():
        yield name, lambda network, name=name, index=index: _enlarge(network.weights()[name], index)
    size = reference.architecture.layer_sizes[0]
    if reference.architecture.cell == "lstm":
        row = size + _find_counter(reference)
        yield "forget bias of the counter", lambda network: _enlarge(network.weights()["layers.0.bias_ih_l0"], row)
    if reference.architecture.cell != "rnn":
        yield "two gates swapped", lambda network: _swap_gates(network.layers[0], size)


def _find_important_weights(reference: TorchReference) -> dict[str, int]:
    """Name of a tensor -> the position of the weight whose relative change moves the loss most."""
    network = copy.deepcopy(reference.network)
    ids = torch.from_numpy(_text(reference))
    logits, _ = network(ids[:, :-1], network.initial_state(1))
    torch.nn.functional.cross_entropy(logits[0], ids[0, 1:]).backward()
    return {
        name: int((parameter * parameter.grad).abs().argmax())
        for name, parameter in network.named_parameters()
        if parameter.grad is not None
    }


def _find_counter(reference: TorchReference) -> int:
    """The unit of the first layer whose cell is furthest from zero."""
    _, after = reference.run(_text(reference), zero_states(reference.architecture, 1))
    return int(np.abs(after["cell_0"][0]).argmax())


def _text(reference: TorchReference) -> NDArray[np.int64]:
    assert reference.text is not None
    return reference.text.token_ids[None, :_COUNTED_TOKENS].astype(np.int64)


def _enlarge(weights: torch.Tensor, index: int) -> None:
    weights.view(-1)[index] *= _SMALL


def _swap_gates(layer: torch.nn.Module, size: int) -> None:
    for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0"):
        weights = getattr(layer, name)
        weights[: 2 * size] = torch.cat([weights[size : 2 * size], weights[:size]])


@final
@dataclass(frozen=True)
class Result:
    """What verification said about the exports of one network.

    Attributes:
        name: The network.
        refused: Precision -> the failures of its export; empty if it passed.
        loop: Precision -> the case of the closed loop that is nearest to its bound.
        faults: Wrong weight -> whether it was refused.
    """

    name: str
    refused: dict[str, list[str]]
    loop: dict[str, dict[str, Any]]
    faults: dict[str, bool] = field(default_factory=dict)

    def row(self) -> tuple[str, ...]:
        """The result as a row of the table."""
        case = self.loop["fp32"]
        rounding = f"{case['moved']:.1e}" if case["moved"] else "-"
        figures = (f"{case['absolute']:.1e}", f"{case['scale']:.0f}", rounding)
        verdicts = (self._verdict(precision) for precision in PRECISIONS)
        return (self.name, *figures, *verdicts, f"{sum(self.faults.values())} of {len(self.faults)}")

    def _verdict(self, precision: str) -> str:
        if self.refused[precision]:
            return "refused"
        return "by rounding" if self.loop[precision]["moved"] else "pass"


_HEADER = ("network", "difference", "scale", "rounding", *PRECISIONS, "wrong weights refused")
"""`by rounding`: the plain bound is exceeded in the closed loop, and the original's own rounding error explains it."""


def measure(run: Run) -> Result:
    """Export a network in each precision."""
    reference = reference_of(run)
    reports = {precision: verify_export(reference, reference.network, precision) for precision in PRECISIONS}
    refused = {precision: report.failures for precision, report in reports.items()}
    return Result(run.path.name, refused, {name: asdict(report.cases[-1]) for name, report in reports.items()})


def plant_faults(run: Run) -> dict[str, bool]:
    """Export a network in fp32 with each wrong weight; returns whether it was refused."""
    reference = reference_of(run)
    return {name: not _passes(reference, make_wrong) for name, make_wrong in wrong_weights(reference)}


def _passes(reference: TorchReference, make_wrong: Callable[[LanguageModel], None]) -> bool:
    network = copy.deepcopy(reference.network)
    with torch.no_grad():
        make_wrong(network)
    return verify_export(reference, network, "fp32").passed


def _measured(path: Path, measure: Callable[[], Any]) -> Any:
    """The content of a JSON file; measured and written if it is missing."""
    if not path.exists():
        path.write_text(json.dumps(measure(), indent=1))
    return json.loads(path.read_text())


def main() -> int:
    """Measure every network that has no result yet, and print the table; 1 if a verdict is wrong."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results, out = [], arguments.out
    for trial in TRIALS:
        run = train(trial, arguments.data, out)
        exports = _measured(out / f"{trial.name}.exports.json", lambda run=run: asdict(measure(run)))
        faults = _measured(out / f"{trial.name}.faults.json", lambda run=run: plant_faults(run))
        results.append(Result(**{**exports, "faults": faults}))
        missed = [name for name, refused in faults.items() if not refused]
        print(*results[-1].row(), *missed, flush=True)
    print("\n".join(text_table([_HEADER, *(result.row() for result in results)])))
    return int(any(result.refused["fp32"] or not all(result.faults.values()) for result in results))


if __name__ == "__main__":
    run_program(main)
