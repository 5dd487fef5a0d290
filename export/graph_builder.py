"""The parts that every artifact's graph shares: inputs, outputs, the kept positions, nodes and constants by name."""

from collections.abc import Iterable, Sequence
from typing import Any, final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, ValueInfoProto, helper, numpy_helper

from ..runtime.artifact.architecture import Architecture
from ..runtime.artifact.artifact import LOGITS, LOGITS_TO_KEEP, NEXT, TOKEN_IDS

IR_VERSION = 8


@final
class GraphBuilder:
    """Nodes of a graph in the making, and constants, which it shares with the graphs within it."""

    def __init__(self) -> None:
        self._prefix = ""
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def inner(self, prefix: str) -> "GraphBuilder":
        """A graph within this one, as of an If; the names of what its nodes compute begin with `prefix`."""
        inner = GraphBuilder()
        inner._prefix = prefix
        inner._constants = self._constants
        return inner

    def node(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node with one output; returns the output's full name."""
        return self.nodes(operator, inputs, [output], **attributes)[0]

    def nodes(self, operator: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> Sequence[str]:
        """Add a node with several outputs; returns their full names."""
        outputs = [f"{self._prefix}{output}" for output in outputs]
        self._nodes.append(helper.make_node(operator, inputs, outputs, **attributes))
        return outputs

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Add a constant, once; returns its name."""
        if name not in self._constants:
            self._constants[name] = _tensor(name, value)
        return name

    def axis(self, value: int) -> str:
        """Add the constant [value]."""
        return self.constant(f"axis_{value}", np.array([value], np.int64))

    def tokens(self) -> str:
        """Add the token ids in the order of the recurrent operators, [time, batch]."""
        return self.node("Transpose", [TOKEN_IDS], "token_ids_time_major", perm=[1, 0])

    def kept_positions(self, activations: str) -> str:
        """Add the last `logits_to_keep` positions (0: all) of [time, batch, hidden] as [batch, kept, hidden]."""
        keep = self.constant(LOGITS_TO_KEEP, np.zeros(1, np.int64))
        start = self.node("Neg", [keep], "first_kept")
        end = self.constant("slice_end", np.array([np.iinfo(np.int64).max], np.int64))
        kept = self.node("Slice", [activations, start, end, self.axis(0)], "kept_time_major")
        return self.node("Transpose", [kept], "kept", perm=[1, 0, 2])

    def graph(
        self,
        name: str,
        inputs: Iterable[ValueInfoProto],
        outputs: Iterable[ValueInfoProto],
        constants: Iterable[tuple[str, NDArray[Any]]] = (),
    ) -> onnx.GraphProto:
        """The graph within another; it holds `constants` itself."""
        return helper.make_graph(self._nodes, name, [*inputs], [*outputs], [_tensor(*pair) for pair in constants])

    def model(self, architecture: Architecture, vocabulary_size: int, opset: int) -> onnx.ModelProto:
        """The model of the artifact's contract with all that was added, without metadata."""
        inputs, outputs = _inputs(architecture), _outputs(architecture, vocabulary_size)
        graph = helper.make_graph(self._nodes, "language_model", inputs, outputs, list(self._constants.values()))
        imports = [helper.make_opsetid("", opset)]
        return helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION, producer_name="lmtool")


def _inputs(architecture: Architecture) -> list[ValueInfoProto]:
    return [
        helper.make_tensor_value_info(TOKEN_IDS, TensorProto.INT64, ["batch", "time"]),
        *(batch_rows(name, TensorProto.FLOAT, width) for name, width in architecture.states.items()),
        helper.make_tensor_value_info(LOGITS_TO_KEEP, TensorProto.INT64, [1]),
    ]


def _outputs(architecture: Architecture, vocabulary_size: int) -> list[ValueInfoProto]:
    logits = helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, ["batch", "kept", vocabulary_size])
    states = architecture.states.items()
    return [logits, *(batch_rows(f"{NEXT}{name}", TensorProto.FLOAT, width) for name, width in states)]


def batch_rows(name: str, kind: int, width: int) -> ValueInfoProto:
    """The type of [batch, width]."""
    return helper.make_tensor_value_info(name, kind, ["batch", width])


def _tensor(name: str, value: NDArray[Any]) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(value, order="C"), name)
