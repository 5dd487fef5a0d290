"""A picture of an ONNX graph: operators from inputs to outputs, with the shapes of their weights."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from ..runtime.errors import ArtifactError
from ..runtime.io.files import read_bytes, write_atomically

_COLORS = {"input": "#d9ead3", "output": "#fce5cd", "weights": "#cfe2f3", "plain": "#eeeeee"}


def draw_graph(source: Path, path: Path) -> int:
    """Draw the graph of an ONNX file as a PNG file; returns the number of nodes.

    Raises:
        OptionError: The picture's name does not end in `.png`.
        ArtifactError: The file is not an ONNX model.
        StorageError: A file cannot be read or written.
    """
    from ..model.figures import Figure, check_png_name, png  # imports matplotlib, which an export does not need

    check_png_name(path)
    try:
        graph = onnx.load_model_from_string(read_bytes(source)).graph
    except Exception as error:  # protobuf's error has no stable name
        raise ArtifactError(f"{source} is no ONNX model: {error}") from error
    if not graph.node:
        raise ArtifactError(f"{source} is no ONNX model: it holds no nodes")
    boxes, arrows = _layout(graph)
    figure = Figure(figsize=(1.9 * (1 + max(x for x, _, _, _ in boxes.values())), 0.62 * (2 + _depth(boxes))))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    for name, (x, y, label, color) in boxes.items():
        style = {"boxstyle": "round,pad=0.3", "facecolor": _COLORS[color], "edgecolor": "#777777"}
        axes.text(x, -y, label, ha="center", va="center", fontsize=7, bbox=style, gid=name)
    for source_box, target_box in arrows:
        (x0, y0, *_), (x1, y1, *_) = boxes[source_box], boxes[target_box]
        arrow = {"arrowstyle": "->", "color": "#999999", "shrinkA": 9, "shrinkB": 9}
        axes.annotate("", (x1, -y1), (x0, -y0), arrowprops=arrow, zorder=0)
    axes.set_xlim(-0.7, max(x for x, _, _, _ in boxes.values()) + 0.7)
    axes.set_ylim(-_depth(boxes) - 0.7, 0.7)
    write_atomically(path, png(figure))
    return len(graph.node)


_Boxes = dict[str, tuple[float, float, str, str]]


def _layout(graph: Any) -> tuple[_Boxes, list[tuple[str, str]]]:
    """Boxes (x, y, label, kind) by name, in rows by distance from the inputs, and the arrows between them."""
    weights = {tensor.name: "x".join(map(str, tensor.dims)) for tensor in graph.initializer if len(tensor.dims) > 0}
    producers: dict[str, str] = {}
    rows: dict[str, int] = {}
    labels: dict[str, tuple[str, str]] = {}
    arrows = []
    for value in graph.input:
        if value.name not in weights:
            producers[value.name], rows[value.name], labels[value.name] = value.name, 0, (value.name, "input")
    for index, node in enumerate(graph.node):
        name = f"node {index}"
        sources = [producers[tensor] for tensor in _reads(node) if tensor in producers]
        rows[name] = 1 + max((rows[source] for source in sources), default=0)
        labels[name] = _label(node, weights)
        arrows += [(source, name) for source in dict.fromkeys(sources)]
        producers |= dict.fromkeys(node.output, name)
    last = max(rows.values()) + 1
    for value in graph.output:
        name = f"output {value.name}"
        rows[name], labels[name] = last, (value.name, "output")
        arrows.append((producers[value.name], name))
    return _placed(rows, labels, arrows), arrows


def _reads(node: Any) -> Iterator[str]:
    """The names of the tensors that a node reads, and the nodes of the graphs within it."""
    yield from node.input
    for attribute in node.attribute:
        for inner in attribute.g.node:
            yield from _reads(inner)


def _placed(
    rows: Mapping[str, int], labels: Mapping[str, tuple[str, str]], arrows: Sequence[tuple[str, str]]
) -> _Boxes:
    """Place each row's boxes below their sources, at least one unit apart."""
    sources: dict[str, list[str]] = {}
    for source, target in arrows:
        sources.setdefault(target, []).append(source)
    x: dict[str, float] = {}
    for row in sorted(set(rows.values())):
        wanted = {
            name: sum(x[source] for source in sources[name]) / len(sources[name]) if name in sources else float(index)
            for index, name in enumerate(name for name in rows if rows[name] == row)
        }
        last = -1.0
        for name in sorted(wanted, key=lambda name: wanted[name]):
            last = x[name] = max(wanted[name], last + 1)
    return {name: (x[name], float(rows[name]), *labels[name]) for name in rows}


def _label(node: Any, weights: Mapping[str, str]) -> tuple[str, str]:
    held = [weights[name] for name in node.input if name in weights and weights[name] != "1"]
    return "\n".join([node.op_type, *held]), "weights" if held else "plain"


def _depth(boxes: _Boxes) -> float:
    return max(y for _, y, _, _ in boxes.values())
