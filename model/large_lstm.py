"""Training of a large LSTM layer in bf16 on the CPU, with matrix products over all time steps at once.

oneDNN's backward pass adds up the gradient of the weights step by step, in a matrix that no cache holds if the layer is
large. Here the gates are computed again from the layer's inputs and outputs, only what depends on the next step goes
through the steps, and the gradients of the weights are one product.
"""

from typing import Any, final

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

_MIN_WEIGHTS = 3_500_000
"""A layer of 650 units over 650 has fewer, one of 800 over 400 more (measured: docs/results.md, "Training: speed")."""

_BF16 = torch.bfloat16


def is_large_lstm(layer: nn.RNNBase) -> bool:
    """Whether `run_large_lstm` trains the layer: 3.5 million weights or more, by oneDNN in bf16 on a CPU."""
    return (
        isinstance(layer, nn.LSTM)
        and layer.weight_hh_l0.device.type == "cpu"
        and 4 * layer.hidden_size * (layer.input_size + layer.hidden_size) >= _MIN_WEIGHTS
        and bool(torch.backends.mkldnn.enabled)
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == _BF16
    )


def run_large_lstm(
    inputs: Tensor, state: tuple[Tensor, Tensor], weights: tuple[Tensor, Tensor, Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Run a layer as `torch.lstm` does under autocast; its backward pass is faster where the layer is large.

    Args:
        inputs: float32 [batch, time, width].
        state: Hidden and cell state, float32 [1, batch, units] each.
        weights: Input and recurrent weights [4 x units, width] and [4 x units, units], and their biases; the second
            bias gets no gradient.

    Returns:
        Outputs float32 [batch, time, units]; the state after the last step.
    """
    outputs, hidden, cell = _LargeLstm.apply(inputs, *state, *weights)  # type: ignore[no-untyped-call]
    return outputs, hidden, cell


@final
class _LargeLstm(torch.autograd.Function):
    """Backpropagation through time; gates are in torch's order: input, forget, candidate, output."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, hidden: Tensor, cell: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        outputs, *after = torch.lstm(inputs, (hidden, cell), weights, True, 1, 0.0, False, False, True)
        ctx.save_for_backward(inputs, hidden, cell, *weights, outputs)
        return outputs.float(), after[0].float(), after[1].float()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        inputs, hidden, cell, weight_ih, weight_hh, bias_ih, bias_hh, outputs = ctx.saved_tensors
        width = inputs.shape[2]
        read = _step_inputs(inputs, hidden[0], outputs)
        weights = torch.cat((weight_ih.to(_BF16), weight_hh.to(_BF16)), 1)
        gates = linear(read, weights, (bias_ih + bias_hh).to(_BF16)).float()
        derivatives = _Derivatives(gates.view(*gates.shape[:2], 4, -1), cell[0])
        of_gates, of_hidden, of_cell = derivatives.run_backward(weights[:, width:], *gradients)
        of_inputs = torch.mm(of_gates, weights[:, :width]).float().view(*read.shape[:2], width).transpose(0, 1)
        of_weights = torch.mm(of_gates.t(), read.flatten(0, 1))
        of_weight_ih, of_weight_hh = of_weights[:, :width].float(), of_weights[:, width:].float()
        return of_inputs, of_hidden[None], of_cell[None], of_weight_ih, of_weight_hh, of_gates.float().sum(0), None


def _step_inputs(inputs: Tensor, hidden: Tensor, outputs: Tensor) -> Tensor:
    """The input and the hidden state before it of each step: bf16 [time, batch, width + units]."""
    batch, time, width = inputs.shape
    read = inputs.new_empty(time, batch, width + hidden.shape[1], dtype=_BF16)
    read[:, :, :width] = inputs.transpose(0, 1)
    read[0, :, width:] = hidden
    read[1:, :, width:] = outputs.transpose(0, 1)[:-1]
    return read


@final
class _Derivatives:
    """Derivatives of the cell state and of the output by the sums of the gates, for all steps."""

    def __init__(self, gates: Tensor, cell: Tensor) -> None:
        """Compute them.

        Args:
            gates: Sums of the gates, float32 [time, batch, 4, units]; overwritten.
            cell: Cell state before the first step, float32 [batch, units].
        """
        gates[:, :, :2].sigmoid_()
        gates[:, :, 2].tanh_()
        gates[:, :, 3].sigmoid_()
        entry, self._forget, candidate, output = gates.unbind(2)
        added = entry * candidate
        cells = _cells(added, self._forget, cell)
        self._cell_by_gates = torch.empty_like(gates[:, :, :3])
        by_entry, by_forget, by_candidate = self._cell_by_gates.unbind(2)
        torch.mul(added, 1 - entry, out=by_entry)
        torch.mul(cells[:-1], self._forget, out=by_forget).mul_(1 - self._forget)
        torch.mul(candidate, added, out=by_candidate).neg_().add_(entry)
        squashed = cells[1:].tanh()
        self._output_by_cell = torch.mul(squashed, squashed).neg_().add_(1).mul_(output)
        self._output_by_gate = squashed.mul_(output).mul_(1 - output)

    def run_backward(
        self, weight_hh: Tensor, of_outputs: Tensor, of_hidden: Tensor, of_cell: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Go through the steps from the last to the first.

        Args:
            weight_hh: bf16 [4 x units, units].
            of_outputs: Gradient of the outputs, float32 [batch, time, units].
            of_hidden: That of the hidden state after the last step, [1, batch, units].
            of_cell: That of the cell state.

        Returns:
            Gradients of the sums of the gates, bf16 [time x batch, 4 x units], and of the state before the first step.
        """
        time, batch, _, units = self._cell_by_gates.shape
        weight_hh, steps = weight_hh.contiguous(), of_outputs.transpose(0, 1).contiguous()
        of_gates = weight_hh.new_empty(time, batch, 4, units)
        hidden, cell = of_hidden[0].clone(), of_cell[0].clone()
        for step in range(time - 1, -1, -1):
            hidden += steps[step]
            cell.addcmul_(hidden, self._output_by_cell[step])
            torch.mul(cell[:, None], self._cell_by_gates[step], out=of_gates[step, :, :3])
            torch.mul(hidden, self._output_by_gate[step], out=of_gates[step, :, 3])
            cell.mul_(self._forget[step])
            hidden.copy_(torch.mm(of_gates[step].flatten(1), weight_hh))
        return of_gates.view(time * batch, 4 * units), hidden, cell


def _cells(added: Tensor, forget: Tensor, cell: Tensor) -> Tensor:
    """The cell state before the first step and after each: float32 [1 + time, batch, units]."""
    cells = added.new_empty(len(added) + 1, *cell.shape)
    cells[0] = cell
    for step, (new, kept) in enumerate(zip(added, forget, strict=True)):
        torch.addcmul(new, kept, cells[step], out=cells[step + 1])
    return cells
