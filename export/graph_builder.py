"""The parts that every artifact's graph shares: inputs, outputs, the kept positions, nodes and constants by name."""

from collections.abc import Iterable, Sequence
from typing import Any, final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ..runtime.artifact.architecture import Architecture
from ..runtime.artifact.artifact import LOGITS, LOGITS_TO_KEEP, NEXT, TOKEN_IDS

IR_VERSION = 8


@final
class GraphBuilder:
    """Nodes and initializers of a graph in the making."""

    def __init__(self, architecture: Architecture, vocabulary_size: int) -> None:
        self._architecture = architecture
        self._vocabulary_size = vocabulary_size
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}

    def model(self, opset: int) -> onnx.ModelProto:
        """The model with all that was added, without metadata."""
        initializers = list(self._initializers.values())
        graph = helper.make_graph(self._nodes, "language_model", self._inputs(), self._outputs(), initializers)
        imports = [helper.make_opsetid("", opset)]
        return helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION, producer_name="lmtool")

    def node(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node with one output; returns the output."""
        return self.nodes(operator, inputs, [output], **attributes)[0]

    def nodes(self, operator: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> Sequence[str]:
        """Add a node with several outputs; returns them."""
        self._nodes.append(helper.make_node(operator, inputs, outputs, **attributes))
        return outputs

    def add(self, nodes: Iterable[onnx.NodeProto]) -> None:
        """Add nodes that were made elsewhere."""
        self._nodes.extend(nodes)

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Add an initializer, once; returns its name."""
        if name not in self._initializers:
            self._initializers[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
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

    def _inputs(self) -> list[onnx.ValueInfoProto]:
        states = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])
            for name, width in self._architecture.states.items()
        ]
        return [
            helper.make_tensor_value_info(TOKEN_IDS, TensorProto.INT64, ["batch", "time"]),
            *states,
            helper.make_tensor_value_info(LOGITS_TO_KEEP, TensorProto.INT64, [1]),
        ]

    def _outputs(self) -> list[onnx.ValueInfoProto]:
        shapes: dict[str, Sequence[str | int]] = {LOGITS: ["batch", "kept", self._vocabulary_size]}
        shapes |= {f"{NEXT}{name}": ["batch", width] for name, width in self._architecture.states.items()}
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
