"""Muon, an optimizer for matrices."""

from typing import Any, final

import torch
from torch import Tensor, nn

_ITERATIONS, _EPSILON = (2, 2, 1), 1e-7
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_MEAN = "momentum_buffer"
_ADAM_STEP = 0.2
"""Root mean square of a number's change by AdamW, in learning rates (arXiv 2502.16982)."""


@final
class Muon(torch.optim.Optimizer):
    """Momentum whose singular values are set to about 1, with decoupled weight decay (arXiv 2502.16982).

    The step has the size of AdamW's, so that both take the same learning rate. torch's own Muon multiplies in bf16
    only, which processors without such products do slowly.
    """

    STATE = (_MEAN,)
    """Names of a matrix's state."""

    def __init__(
        self,
        matrices: list[nn.Parameter],
        learning_rate: float,
        *,
        weight_decay: float,
        dtype: torch.dtype,
        momentum: float = 0.95,
    ) -> None:
        """Make the optimizer.

        Args:
            matrices: float32 [rows, columns] each.
            learning_rate: Learning rate, until a parameter group's `lr` is set.
            weight_decay: Factor of the decoupled weight decay.
            dtype: Type of the products: float32 or bfloat16.
            momentum: Decay of the mean gradient, of Nesterov's form.
        """
        super().__init__(matrices, {"lr": learning_rate})
        self._weight_decay, self._dtype, self._momentum = weight_decay, dtype, momentum

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update every matrix that has a gradient; there is no `closure`."""
        assert closure is None
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is not None:
                    self._update(matrix, group["lr"])

    def _update(self, matrix: nn.Parameter, learning_rate: float) -> None:
        gradient, state = matrix.grad, self.state[matrix]
        assert gradient is not None
        if _MEAN not in state:
            state[_MEAN] = torch.zeros_like(gradient)
        mean = state[_MEAN].lerp_(gradient, 1 - self._momentum)
        direction = orthogonalized(gradient.lerp(mean, self._momentum), self._dtype)
        matrix.mul_(1 - learning_rate * self._weight_decay)
        matrix.add_(direction, alpha=-learning_rate * _ADAM_STEP * max(matrix.shape) ** 0.5)


def orthogonalized(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """A matrix with the same singular vectors and singular values of 0.68 to 1.21 (Newton-Schulz iteration).

    Each iteration multiplies by a polynomial of the Gram matrix, and the next Gram matrix follows from it. So the
    matrix itself, which is longer, is multiplied after two iterations only. After three, errors of bf16 in the Gram
    matrix would keep a network from learning.

    Args:
        matrix: float32 [rows, columns]; singular values below 0.0015 of its norm stay smaller.
        dtype: Type of the products.

    Returns:
        float32 [rows, columns].
    """
    rows, columns = matrix.shape
    result: Tensor = matrix.to(dtype)
    result = result / (result.norm() + _EPSILON)
    for iterations in _ITERATIONS:
        if rows > columns:
            result = result @ _iterated(result.t() @ result, iterations)
        else:
            result = _iterated(result @ result.t(), iterations) @ result
    return result.float()


def _iterated(gram: Tensor, iterations: int) -> Tensor:
    """The product of the polynomials of some iterations, from the Gram matrix before them."""
    product = factor = _polynomial(gram)
    for _ in range(iterations - 1):
        gram = factor @ gram @ factor
        factor = _polynomial(gram)
        product = factor @ product
    return product


def _polynomial(gram: Tensor) -> Tensor:
    a, b, c = _COEFFICIENTS
    factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
    factor.diagonal().add_(a)
    return factor
