"""Graphs without weights, for what onnxruntime computes faster than numpy.

All but the first read rows of logits, float32 [rows, width], that are filled up with minus infinity to whole blocks,
and to two of them at least: onnxruntime sums one block alone in another order. A row's bits do not depend on the other
rows. Sums of blocks are float32, all others float64.
"""

from ..artifact.artifact import LOGITS
from .small_graph import DOUBLE, FLOAT, INT64, Part, constant, input_tensor, model, node, output_tensor

TARGETS = "targets"
LOG_PROBS = "log_probs"

ROWS = "rows"
FACTOR, NUMBER, SHARE = "factor", "number", "share"
COUNT, LAST = "count", "last"
TOKEN, TOTAL = "token", "total"
PROBABILITIES = "probabilities"
BEST_IDS, BEST_LOGITS = "best_ids", "best_logits"
LARGEST, TOTAL_OF_ALL = "largest", "total_of_all"

BLOCK = 64
"""Tokens whose probabilities are summed first: a draw then reads the sums and one block."""
_LEAST, _MOST = 2.0**-54, 1 - 2.0**-53
"""Bounds of a number from 0 to 1 that may lie on or beyond them by rounding."""


def scoring_graph() -> bytes:
    """Logits float32 [batch, positions, vocabulary] and targets int64 [batch, positions, k] to log-probabilities."""
    axes = ("batch", "positions")
    return model(
        "scoring",
        node("LogSoftmax", LOGITS, "all_log_probs", axis=2),
        node("GatherElements", f"all_log_probs {TARGETS}", LOG_PROBS, axis=2),
        input_tensor(LOGITS, FLOAT, *axes, "vocabulary"),
        input_tensor(TARGETS, INT64, *axes, "k"),
        output_tensor(LOG_PROBS, FLOAT, *axes, "k"),
    )


def drawing_graph() -> bytes:
    """Rows and numbers in (0, 1) to a token of each row, by its probability.

    A draw reads the probabilities in the order of the ids: it finds the block first, then the token in it.
    """
    return model("drawing", node("Softmax", ROWS, PROBABILITIES, axis=1), *_DRAW)


def tempered_drawing_graph() -> bytes:
    """As `drawing_graph`, with factors of the logits."""
    return model("tempered_drawing", *_TEMPERED, *_DRAW)


def best_graph() -> bytes:
    """Rows, factors and numbers to a token of each row among its best.

    `count` int64 [1] of the largest logits are found; of them those up to `last`, int64 [rows, 1], count, and of those
    the fewest whose weights reach `share`, float64 [rows, 1]. A draw reads them in falling order, ties by id.
    """
    return model(
        "best",
        node("TopK", f"{ROWS} {COUNT}", f"best {BEST_IDS}", axis=1),
        node("Gather", "best first", "largest", axis=1),
        node("Sub", "best largest", "lower"),
        node("Mul", f"lower {FACTOR}", "tempered"),
        node("Exp", "tempered", "weights"),
        *_cumulative("weights", "sums"),
        node("GatherElements", f"sums {LAST}", "all", axis=1),
        node("Mul", f"all {SHARE}", "wanted"),
        node("Less", "sums wanted", "is_below"),
        *_counted("is_below", "reaching"),
        node("GatherElements", "sums reaching", "mass", axis=1),
        node("Mul", f"{NUMBER} mass", "target"),
        *_first_above("sums", "target", "place"),
        node("GatherElements", f"{BEST_IDS} place", TOKEN, axis=1),
        constant("first", [0]),
        constant("axis", 1),
        constant("axes", [1]),
        input_tensor(ROWS, FLOAT, "row", "width"),
        input_tensor(FACTOR, FLOAT, "row", 1),
        input_tensor(COUNT, INT64, 1),
        input_tensor(LAST, INT64, "row", 1),
        input_tensor(SHARE, DOUBLE, "row", 1),
        input_tensor(NUMBER, DOUBLE, "row", 1),
        output_tensor(TOKEN, INT64, "row", 1),
    )


def nucleus_graph() -> bytes:
    """As `tempered_drawing_graph`; also the probabilities, float32 [rows, width], and totals, float64 [rows, 1]."""
    return model(
        "nucleus",
        *_TEMPERED,
        *_DRAW,
        output_tensor(PROBABILITIES, FLOAT, "row", "width"),
        output_tensor(TOTAL, DOUBLE, "row", 1),
    )


def ranking_graph() -> bytes:
    """Rows to the ids of the `count` largest logits, ties by id, and those logits.

    Also the largest probability, and the total of all, float32 [rows, 1].
    """
    return model(
        "ranking",
        node("TopK", f"{ROWS} {COUNT}", f"{BEST_LOGITS} {BEST_IDS}", axis=1),
        node("Softmax", ROWS, PROBABILITIES, axis=1),
        node("ReduceMax", f"{PROBABILITIES} axes", LARGEST, keepdims=1),
        node("Reshape", f"{PROBABILITIES} block_shape", "blocks"),
        node("ReduceSum", "blocks block_axis", "block_sums", keepdims=0),
        node("ReduceSum", "block_sums axes", TOTAL_OF_ALL, keepdims=1),
        constant("axes", [1]),
        constant("block_axis", [2]),
        constant("block_shape", [0, -1, BLOCK]),
        input_tensor(ROWS, FLOAT, "row", "width"),
        input_tensor(COUNT, INT64, 1),
        output_tensor(BEST_IDS, INT64, "row", "best"),
        output_tensor(BEST_LOGITS, FLOAT, "row", "best"),
        output_tensor(LARGEST, FLOAT, "row", 1),
        output_tensor(TOTAL_OF_ALL, FLOAT, "row", 1),
    )


def _cumulative(numbers: str, sums: str) -> list[Part]:
    """The sums of float32 [rows, n] up to each, float64."""
    return [node("Cast", numbers, f"{numbers}_exact", to=DOUBLE), node("CumSum", f"{numbers}_exact axis", sums)]


def _first_above(sums: str, target: str, place: str) -> list[Part]:
    """Index, int64 [rows, 1], of the first of the rising `sums` above `target`, which lies below the last."""
    return [node("LessOrEqual", f"{sums} {target}", f"{place}_below"), *_counted(f"{place}_below", place)]


def _counted(flags: str, number: str) -> list[Part]:
    """How many of bool [rows, n] are true, int64 [rows, 1]."""
    cast = node("Cast", flags, f"{number}_each", to=INT64)
    return [cast, node("ReduceSum", f"{number}_each axes", number, keepdims=1)]


_TEMPERED = (
    node("ReduceMax", f"{ROWS} axes", "highest", keepdims=1),
    node("Sub", f"{ROWS} highest", "lowered"),
    node("Mul", f"lowered {FACTOR}", "tempered"),
    node("Softmax", "tempered", PROBABILITIES, axis=1),
    input_tensor(FACTOR, FLOAT, "row", 1),
)
"""Probabilities of the rows, whose logits are multiplied by the factors."""

_DRAW = (
    node("Reshape", f"{PROBABILITIES} block_shape", "blocks"),
    node("ReduceSum", "blocks block_axis", "sums_of_blocks", keepdims=0),
    node("Cast", "sums_of_blocks", "block_sums", to=DOUBLE),
    node("CumSum", "block_sums axis", "sums"),
    node("Gather", "sums end", TOTAL, axis=1),
    constant("axis", 1),
    constant("axes", [1]),
    constant("end", [-1]),
    constant("block_axis", [2]),
    constant("block_shape", [0, -1, BLOCK]),
    input_tensor(ROWS, FLOAT, "row", "width"),
    node("Mul", f"{NUMBER} {TOTAL}", "target"),
    *_first_above("sums", "target", "place"),
    node("GatherElements", "sums place", "upto", axis=1),
    node("GatherElements", "block_sums place", "at", axis=1),
    node("Sub", "upto at", "before"),
    node("Sub", "target before", "beyond"),
    node("Div", "beyond at", "part"),
    node("Clip", "part least most", "part_inside"),
    node("GatherND", "blocks place", "block", batch_dims=1),
    *_cumulative("block", "inside"),
    node("Gather", "inside end", "of_block", axis=1),
    node("Mul", "part_inside of_block", "target_inside"),
    *_first_above("inside", "target_inside", "offset"),
    node("Mul", "place block_size", "start"),
    node("Add", "start offset", TOKEN),
    constant("least", _LEAST, DOUBLE),
    constant("most", _MOST, DOUBLE),
    constant("block_size", BLOCK),
    input_tensor(NUMBER, DOUBLE, "row", 1),
    output_tensor(TOKEN, INT64, "row", 1),
)
"""Tokens drawn by the probabilities."""
