"""The continuous cache: tokens that followed similar hidden states become more probable, without training.

Grave et al., arXiv 1612.04426. With h_i the last layer's hidden state after token x_i, the text so far x_1 ... x_t and
the latest `size` pairs (h_i, x_i+1) in the cache,

    p_cache(w) is proportional to the sum of exp(theta * h_t . h_i) over the pairs with x_i+1 = w,
    p(w) = (1 - weight) * p_model(w) + weight * p_cache(w).

An artifact returns only the state after the last token of a call, so a stream with a cache runs token by token.
"""

import math
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from .arguments import checked_array, checked_instance, checked_integer, checked_number, freeze_fields
from .arrays import as_read_only
from .errors import OptionError, StateError

_LARGEST_SIZE = 1_000_000
_TINY = np.finfo(np.float64).tiny


@final
@dataclass(frozen=True)
class CacheOptions:
    """Options of a continuous cache. The defaults were tuned for `ptb-200` on Penn Treebank.

    Attributes:
        size: Number of pairs of hidden state and next token; the oldest is replaced.
        theta: Sharpness: 0 weights all pairs equally; larger favours similar ones.
        weight: Share of the cache in the mixture (lambda in the paper), 0 to below 1; 0 switches the cache off.

    Example:
        >>> from lmtool.runtime import CacheOptions, Predictor
        >>> stream = Predictor.load("model.onnx").stream(cache=CacheOptions(size=100))
        >>> len(stream.score("the cat saw the cat").tokens)
        5
    """

    size: int = 500
    theta: float = 0.4
    weight: float = 0.15

    def __post_init__(self) -> None:
        """Raise OptionError for a field outside its range."""
        freeze_fields(
            self,
            size=checked_integer("the cache's size", self.size),
            theta=checked_number("the cache's theta", self.theta),
            weight=checked_number("the cache's weight", self.weight),
        )
        if not 1 <= self.size <= _LARGEST_SIZE:
            raise OptionError(f"the cache's size is {self.size}, expected 1 to {_LARGEST_SIZE:,}")
        if not 0 <= self.theta < math.inf:
            raise OptionError(f"the cache's theta is {self.theta}, expected 0 or a positive number")
        if not 0 <= self.weight < 1:
            raise OptionError(f"the cache's weight is {self.weight}, expected 0 (off) to below 1")


@final
@dataclass(frozen=True, eq=False)
class Cache:
    """The pairs in the cache of one stream, as a value; its arrays are read-only.

    Attributes:
        options: Size, sharpness and weight.
        hidden: float32 [pairs, width], the hidden states; at most `options.size` pairs.
        token_ids: int64 [pairs], the token that followed each.
        oldest: Index of the oldest pair; newer ones follow it, wrapping round the end. 0 unless the cache is full.
    """

    options: CacheOptions
    hidden: NDArray[np.float32]
    token_ids: NDArray[np.int64]
    oldest: int = 0

    def __post_init__(self) -> None:
        """Copy writable arrays; raise StateError for fields that do not fit each other."""
        checked_instance("options", self.options, CacheOptions)
        checked_array("hidden", self.hidden, "f", "an array of float32 [pairs, width]")
        checked_array("token_ids", self.token_ids, "iu", "an array of int64 [pairs]")
        checked_integer("oldest", self.oldest)
        pairs, size = self.token_ids.size, self.options.size
        if self.hidden.ndim != 2 or self.token_ids.shape != (len(self.hidden),) or pairs > size:
            raise StateError(
                f"a cache of size {size} has hidden states {list(self.hidden.shape)} and token ids "
                f"{list(self.token_ids.shape)}, expected [pairs, width] and [pairs], at most {size} pairs"
            )
        if not 0 <= self.oldest < (size if pairs == size else 1):
            raise StateError(f"the oldest of a cache's {pairs} pairs (size {size}) cannot be number {self.oldest}")
        object.__setattr__(self, "hidden", as_read_only(self.hidden))
        object.__setattr__(self, "token_ids", as_read_only(self.token_ids))

    def __len__(self) -> int:
        return len(self.token_ids)

    def resized(self, options: CacheOptions) -> "Cache":
        """The same pairs under other options: the newest that fit."""
        checked_instance("options", options, CacheOptions)
        if options.size == self.options.size:
            return Cache(options, self.hidden, self.token_ids, self.oldest)
        order = np.roll(np.arange(len(self)), -self.oldest)[-options.size :]
        return Cache(options, self.hidden[order], self.token_ids[order])


@final
class CacheMemory:
    """The mutable cache of one stream: a ring of pairs."""

    def __init__(self, cache: Cache) -> None:
        """Start with a copy of the pairs of `cache`."""
        size, width = cache.options.size, cache.hidden.shape[1]
        self._options = cache.options
        self._hidden = np.zeros((size, width), np.float32)
        self._token_ids = np.zeros(size, np.int64)
        self._hidden[: len(cache)] = cache.hidden
        self._token_ids[: len(cache)] = cache.token_ids
        self._count = len(cache)
        self._next = cache.oldest if self._count == size else self._count

    @property
    def cache(self) -> Cache:
        """A snapshot."""
        oldest = self._next if self._count == self._options.size else 0
        count = self._count
        return Cache(self._options, self._hidden[:count].copy(), self._token_ids[:count].copy(), oldest)

    def remember(self, hidden: NDArray[np.float32], token_id: int) -> None:
        """Add a pair: `token_id` followed the state `hidden`, float32 [width]."""
        self._hidden[self._next] = hidden
        self._token_ids[self._next] = token_id
        self._next = (self._next + 1) % self._options.size
        self._count = min(self._count + 1, self._options.size)

    def mixed(self, logits: NDArray[np.float32], hidden: NDArray[np.float32]) -> NDArray[np.float32]:
        """Mix the cache into the logits of the model; an empty cache returns them unchanged.

        Args:
            logits: float32 [vocabulary] of the model.
            hidden: float32 [width], the state from which they were computed.

        Returns:
            float32 [vocabulary]; their softmax is the mixture.
        """
        if self._count == 0:
            return logits
        token_ids, log_shares = self._log_shares(hidden)
        largest = float(logits.max())
        log_sum = largest + math.log(np.exp(logits - largest).sum())
        weight = self._options.weight
        mixed = logits + np.float32(math.log1p(-weight))
        mixed[token_ids] = np.logaddexp(mixed[token_ids], log_shares + (log_sum + math.log(weight)))
        return mixed

    def _log_shares(self, hidden: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The distinct tokens of the cache and the logarithms of their probabilities."""
        # einsum and not a BLAS: one thread, and a row's bits do not depend on its position.
        similarity = np.einsum("ij,j->i", self._hidden[: self._count], hidden).astype(np.float64)
        weights = np.exp(self._options.theta * (similarity - similarity.max()))
        token_ids, indices = np.unique(self._token_ids[: self._count], return_inverse=True)
        shares = np.bincount(indices, weights)
        return token_ids, np.log(np.maximum(shares / shares.sum(), _TINY))
