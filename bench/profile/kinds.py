"""Kinds of work that the operators of all runtimes belong to."""

import re
from collections.abc import Sequence
from typing import Any

LAYERS = "layers"
PROJECTION = "projection"
ACTIVATIONS = "activations"
ARITHMETIC = "arithmetic"
EMBEDDING = "embedding"
QUANTIZATION = "quantization"
SCORING = "scoring"
MOVEMENT = "movement"
CONTROL = "control"
COMPILED = "compiled"
OTHER = "other"
OUTSIDE = "outside"

KINDS = {
    LAYERS: "recurrent layers, products",
    PROJECTION: "projection",
    ACTIVATIONS: "activation functions",
    ARITHMETIC: "other arithmetic",
    EMBEDDING: "embedding",
    QUANTIZATION: "quantization, casts",
    SCORING: "log-softmax, scores",
    MOVEMENT: "copies, shapes",
    CONTROL: "If, Scan, Loop",
    COMPILED: "compiled code",
    OTHER: "other operators",
    OUTSIDE: "outside operators",
}
"""Kind -> its name in tables, in their order. `LAYERS` holds fused recurrent operators, which compute their activation
functions too, and all products but the projection."""

Shapes = Sequence[Sequence[Any]]

_GATHERS = {"gather", "embedding", "index_select", "embedding_bag"}
_PATTERNS = {
    CONTROL: "if|loop|scan|tensoriterator",
    COMPILED: "compiledfxgraph.*|.*cpp_fused.*|triton.*",
    QUANTIZATION: "(de)?quantize.*|dynamicquantizelinear|fakequantize|cast(like)?|convert|to|_to_copy|type_as",
    LAYERS: r".*(lstm|gru|rnn).*|.*(matmul|gemm|conv|fullyconnected|linear|einsum).*|(ba)?(add)?b?mm|(add)?mv",
    SCORING: ".*softmax.*|gatherelements|.*nll_loss.*|.*cross_entropy.*|.*logsumexp",
    ACTIVATIONS: ".*(sigmoid|tanh|relu|elu|silu|swish|softplus|softsign|mish)_?",
    ARITHMETIC: "(add|sub|mul|div|addcmul|neg|abs|exp|log|sqrt|pow|min|max|sum|mean|clip|clamp|where|floor|round)_?|"
    "equal|greater.*|less.*|not|and|or|reduce.*|.*norm.*|eltwise|math|subgraph|subtract|multiply|divide|negative|power",
    MOVEMENT: ".*(reshape|squeeze|transpose|permute|copy|empty|zeros|ones|slice|split|scatter|reorder|pad|expand).*|"
    ".*view.*|concat|cat|h?stack|unbind|shape(of)?|flatten|identity|tile|constant.*|range|nonzero|broadcast|clone|contiguous|t|"
    "select|narrow|as_strided|chunk|full.*|fill_?|resolve_.*|lift_fresh.*|detach_?|alias|item|resize_|set_|flip|"
    "cudnn_is_acceptable|result|parameter|memcpy.*|gathernd",
}


def kind_of(operator: str, inputs: Shapes, outputs: Shapes, vocabulary_size: int) -> str:
    """The kind of an operator.

    A product over the vocabulary is the projection; a gather in a matrix with a row for each token is the embedding.

    Args:
        operator: Its name, of any runtime: `MatMul`, `aten::addmm`, `FullyConnected`.
        inputs: Shapes of its inputs; empty if they are not known.
        outputs: Shapes of its outputs; empty if they are not known, which leaves the last matrix among the inputs.
        vocabulary_size: Tokens of the language model; 0 for another network.
    """
    name = operator.rpartition("::")[2].strip("# ").removeprefix("Call ").lower()
    if name in _GATHERS:
        rows = [shape[0] for shape in inputs if len(shape) == 2]
        return EMBEDDING if "gather" not in name or (vocabulary_size and vocabulary_size in rows) else MOVEMENT
    kind = next((kind for kind, pattern in _PATTERNS.items() if re.fullmatch(pattern, name)), OTHER)
    is_wide = kind == LAYERS and vocabulary_size and _is_wide(inputs, outputs, vocabulary_size)
    return PROJECTION if is_wide else kind


def _is_wide(inputs: Shapes, outputs: Shapes, vocabulary_size: int) -> bool:
    """Whether a product has a column for each token."""
    if outputs:
        return bool(outputs[0]) and outputs[0][-1] == vocabulary_size
    matrices = [shape for shape in inputs if len(shape) > 1]
    return bool(matrices) and vocabulary_size in matrices[-1]
