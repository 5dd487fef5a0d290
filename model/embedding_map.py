"""A t-SNE map of the word vectors as a PNG picture: words that are used alike stand together (scikit-learn)."""

import math
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.cluster import KMeans
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from ..runtime.errors import OptionError
from ..runtime.io.files import write_atomically
from .embeddings import Embeddings
from .errors import DataError
from .figures import Figure, check_png_name, colormaps, png

FEWEST_WORDS = 4
_MOST_CLUSTERS = 8
_USUAL_PERPLEXITY = 30.0
_FONT_SIZE = 8


def draw_embedding_map(embeddings: Embeddings, path: Path, words: int = 200, seed: int = 1) -> int:
    """Draw the most frequent words into a PNG file, coloured by clusters of their vectors; returns their number.

    Args:
        embeddings: The vectors.
        path: The file.
        words: Number of words; all if the vocabulary has fewer. Special tokens are left out.
        seed: Seed of map and clusters: the same seed gives the same picture with the same scikit-learn.

    Raises:
        OptionError: `words` or `seed` is outside its range, or the file's name does not end in `.png`.
        DataError: The vocabulary is too small for a map.
        StorageError: The file cannot be written.

    Warns:
        GlyphWarning: Labels hold characters that no installed font has.
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
    points, clusters = _layout(embeddings.directions()[ids], seed)
    write_atomically(path, _picture([_label(embeddings.vocabulary.text(index)) for index in ids], points, clusters))
    return len(ids)


def _layout(directions: Any, seed: int) -> tuple[Any, Any]:
    """Points of the words by t-SNE, float32 [words, 2], and their cluster numbers by k-means, int [words]."""
    count, width = directions.shape
    distinct = len(np.unique(directions, axis=0))
    tsne = TSNE(
        perplexity=min(_USUAL_PERPLEXITY, (count - 1) / 3),
        init="pca" if min(width, distinct) > 1 else "random",
        random_state=seed,
    )
    kmeans = KMeans(min(_MOST_CLUSTERS, count // FEWEST_WORDS, distinct), n_init=10, random_state=seed)
    # With several threads the order of sums, and so the map, would change from call to call.
    with threadpool_limits(1):
        return tsne.fit_transform(directions), kmeans.fit_predict(directions)


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
    centered: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "center"}
    for label, point, shift, color in zip(labels, points, _label_shifts(labels, spots), colors, strict=True):
        axes.annotate(label, point, shift, fontsize=_FONT_SIZE, color=color, parse_math=False, **centered)
    title = f"t-SNE of the vectors of the {len(labels):,} most frequent words; colours: k-means clusters"
    axes.text(0.5, 0.99, title, ha="center", va="top", transform=axes.transAxes)
    return png(figure)


def _label_shifts(labels: list[str], spots: Any) -> list[Any]:
    """Vector from each spot to the centre of its label: above, below, right or left, with the least overlap so far.

    Units are typographic points; `spots` is float [labels, 2]. The estimated width of a character is 0.6 font sizes.
    """
    height = 1.1 * _FONT_SIZE
    centres, sizes, shifts = np.zeros((0, 2)), np.zeros((0, 2)), []
    for label, spot in zip(labels, spots, strict=True):
        size = np.array([0.6 * _FONT_SIZE * _columns(label), height])
        sides = np.array([(0, 1), (0, -1), (1, 0), (-1, 0)]) * (size / 2 + 3)
        overlaps = (sizes + size) / 2 - np.abs(centres - (spot + sides)[:, None])
        shift = sides[np.argmin(overlaps.clip(0).prod(axis=2).sum(axis=1))]
        centres, sizes = np.vstack([centres, spot + shift]), np.vstack([sizes, size])
        shifts.append(shift)
    return shifts


def _columns(label: str) -> int:
    """Width of a label in characters; Chinese, Japanese and Korean ones and emoji are twice as wide."""
    return sum(1 + (unicodedata.east_asian_width(character) in "WF") for character in label)


def _label(word: str) -> str:
    return word if word.isprintable() and not word.isspace() else repr(word)
