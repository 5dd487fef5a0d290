"""The picture of the word vectors: a t-SNE map on which words that are used alike stand together (scikit-learn)."""

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from sklearn.cluster import KMeans
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from ..runtime.errors import OptionError
from ..runtime.io.files import write_atomically
from .embeddings import Embeddings
from .errors import DataError
from .figures import check_png_name, png

FEWEST_WORDS = 4
_MOST_CLUSTERS = 8
_USUAL_PERPLEXITY = 30.0
_FONT_SIZE = 8


def draw_embedding_map(embeddings: Embeddings, path: Path, words: int = 200, seed: int = 1) -> int:
    """Draw the most frequent words into a PNG file, coloured by clusters of their vectors; returns how many they are.

    Args:
        embeddings: The vectors.
        path: The file.
        words: How many; where the vocabulary has fewer, all of it. Special tokens are left out.
        seed: Of the map and the clusters: the same seed gives the same picture with the same scikit-learn.

    Raises:
        OptionError: `words` or `seed` is outside its range, or the file's name does not end in `.png`.
        DataError: The vocabulary is too small for a map.
        StorageError: The file cannot be written.
    """
    check_png_name(path)
    if words < FEWEST_WORDS:
        raise OptionError(f"words is {words}, expected {FEWEST_WORDS} or more")
    if not 0 <= seed < 2**32:
        raise OptionError(f"seed is {seed}, expected 0 to {2**32 - 1}")
    ids = embeddings.frequent(words)
    if len(ids) < FEWEST_WORDS:
        raise DataError(
            f"the vocabulary holds {len(ids)} {embeddings.vocabulary.tokenization.unit}s beside its special tokens, "
            f"a map needs {FEWEST_WORDS} or more; train on a larger text"
        )
    points, clusters = _arranged(embeddings.directions()[ids], seed)
    write_atomically(path, _picture([_label(embeddings.vocabulary.token(index)) for index in ids], points, clusters))
    return len(ids)


def _arranged(directions: Any, seed: int) -> tuple[Any, Any]:
    """Places float32 [words, 2] by t-SNE and a cluster's number for each word by k-means."""
    count, width = directions.shape
    distinct = len(np.unique(directions, axis=0))
    places = TSNE(
        perplexity=min(_USUAL_PERPLEXITY, (count - 1) / 3),
        init="pca" if min(width, distinct) > 1 else "random",
        random_state=seed,
    )
    clusters = KMeans(min(_MOST_CLUSTERS, count // FEWEST_WORDS, distinct), n_init=10, random_state=seed)
    # Sums over several threads come out in another order each time, and the map with them.
    with threadpool_limits(1):
        return places.fit_transform(directions), clusters.fit_predict(directions)


def _picture(labels: list[str], points: Any, clusters: Any) -> bytes:
    side = min(max(6.0, 0.7 * math.sqrt(len(labels))), 40.0)
    figure = Figure(figsize=(1.3 * side, side))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.margins(0.06)
    colors = colormaps["tab10"](clusters)
    axes.scatter(points[:, 0], points[:, 1], s=5, c=colors)
    axes.autoscale_view()
    spots = axes.transData.transform(points) * 72 / figure.dpi
    for label, point, shift, color in zip(labels, points, _shifts(labels, spots), colors, strict=True):
        place: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "center"}
        axes.annotate(label, point, shift, fontsize=_FONT_SIZE, color=color, parse_math=False, **place)
    title = f"t-SNE of the vectors of the {len(labels):,} most frequent words; colours: k-means clusters"
    axes.text(0.5, 0.99, title, ha="center", va="top", transform=axes.transAxes)
    with warnings.catch_warnings():
        # A character that matplotlib's font lacks is drawn as an empty box.
        warnings.filterwarnings("ignore", "Glyph")
        return png(figure)


def _shifts(labels: list[str], spots: Any) -> list[Any]:
    """From each spot to its label's middle: above, below, right or left, whichever covers least of earlier labels.

    All in typographic points; `spots` is float [labels, 2]. A character is taken to be 0.6 of the font size wide.
    """
    height = 1.1 * _FONT_SIZE
    middles, sizes, shifts = np.zeros((0, 2)), np.zeros((0, 2)), []
    for label, spot in zip(labels, spots, strict=True):
        size = np.array([0.6 * _FONT_SIZE * len(label), height])
        sides = np.array([(0, 1), (0, -1), (1, 0), (-1, 0)]) * (size / 2 + 3)
        shared = (sizes + size) / 2 - np.abs(middles - (spot + sides)[:, None])
        shift = sides[np.argmin(shared.clip(0).prod(axis=2).sum(axis=1))]
        middles, sizes = np.vstack([middles, spot + shift]), np.vstack([sizes, size])
        shifts.append(shift)
    return shifts


def _label(word: str) -> str:
    return word if word.isprintable() and not word.isspace() else repr(word)
