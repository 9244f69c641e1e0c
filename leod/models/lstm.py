"""LSTM over time at every pixel, whose gates are a 1x1 convolution (RVT, section 3.2)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from leod.jit import compiled_arithmetic
from leod.models.kernels import suits_kernel
from leod.models.states import LstmState

MOST_THREADS = 4
"""With more, PyTorch's operators share their passes over the memory; those of this module are one thread's."""

_FloatArray = npt.NDArray[np.float32]
_ONE, _TWO, _FOUR = np.float32(1), np.float32(2), np.float32(4)


class PointwiseLstm(nn.Module):
    """LSTM over time at every pixel: the gates are a 1x1 convolution of input and hidden state.

    Args:
        dim: Channels of input, hidden and cell state.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.gates = nn.Conv2d(2 * dim, 4 * dim, kernel_size=1)
        self._step = _lstm_step

    def forward(self, maps: Tensor, state: LstmState | None) -> tuple[Tensor, LstmState]:
        """Run over time.

        Args:
            maps: float [T, B, H, W, C], channels last.
            state: (hidden, cell), each [B, C, H, W]; None means zeros.

        Returns:
            Hidden states of all steps, [T, B, C, H, W], and the last (hidden, cell).
        """
        if state is None:
            zeros = maps.new_zeros(maps.shape[1:])
            hidden, cell = zeros, zeros
        else:
            hidden, cell = (tensor.permute(0, 2, 3, 1) for tensor in state)
        weight = self.gates.weight.flatten(1)
        if self._step is _lstm_step and suits_kernel(maps, MOST_THREADS):
            outputs, cell = _LstmOnCpu.apply(maps, hidden, cell, weight, self.gates.bias)
            hidden = outputs[-1]
        else:
            outputs, hidden, cell = self._run(maps, hidden, cell, weight)
        return outputs.permute(0, 1, 4, 2, 3), (hidden.permute(0, 3, 1, 2), cell.permute(0, 3, 1, 2))

    def _run(self, maps: Tensor, hidden: Tensor, cell: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        weight_input, weight_hidden = weight.split(self.dim, dim=1)
        # The input's share of the gates needs no history: one large product instead of T small ones.
        from_input = nn.functional.linear(maps, weight_input, self.gates.bias)
        outputs = []
        for step in from_input:
            hidden, cell = self._step(step, hidden, cell, weight_hidden)
            outputs.append(hidden)
        return torch.stack(outputs), hidden, cell

    def compile_step(self, backend: str) -> None:
        """Let torch.compile translate one step."""
        self._step = torch.compile(_lstm_step, backend=backend)


def _lstm_step(from_input: Tensor, hidden: Tensor, cell: Tensor, weight_hidden: Tensor) -> LstmState:
    """One step, everything channels last; the gates are forget, input, output, then the candidate."""
    mixed = from_input + nn.functional.linear(hidden, weight_hidden)
    gates, candidate = mixed.split((3 * cell.shape[-1], cell.shape[-1]), dim=-1)
    forget_gate, input_gate, output_gate = gates.sigmoid().chunk(3, dim=-1)
    cell = forget_gate * cell + input_gate * candidate.tanh()
    return output_gate * cell.tanh(), cell


class _LstmOnCpu(torch.autograd.Function):
    """All steps of the LSTM in float32: what lies between the matrix products is two passes over the memory.

    tanh(x) is computed as 2 sigmoid(2 x) - 1, which is several times as fast.
    """

    @staticmethod
    def forward(
        ctx: Any, maps: Tensor, hidden: Tensor, cell: Tensor, weight: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        steps, dim = len(maps), maps.shape[-1]
        hidden, first_cell = hidden.reshape(-1, dim), cell.reshape(-1, dim)
        mixed = maps.new_empty((steps, len(hidden), 2 * dim))
        mixed[..., :dim] = maps.reshape(steps, -1, dim)
        gates = maps.new_empty((steps, len(hidden), 4 * dim))
        outputs, cells, tanhs = (maps.new_empty((steps, len(hidden), dim)) for _ in range(3))
        for step in range(steps):
            mixed[step, :, dim:] = outputs[step - 1] if step else hidden
            torch.addmm(bias, mixed[step], weight.t(), out=gates[step])[:, 3 * dim :].mul_(2)
            gates[step].sigmoid_()
            before = cells[step - 1] if step else first_cell
            arrays = [tensor.numpy() for tensor in (gates[step], before, cells[step], tanhs[step], outputs[step])]
            _next_cell(*arrays[:4])
            tanhs[step].sigmoid_()
            _next_hidden(arrays[0], *arrays[3:])
        ctx.save_for_backward(mixed, first_cell, weight, gates, cells, tanhs)
        return outputs.view(maps.shape), cells[-1].view(cell.shape).clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_outputs: Tensor, of_cell: Tensor) -> tuple[Tensor | None, ...]:
        mixed, first_cell, weight, gates, cells, tanhs = ctx.saved_tensors
        steps, _, dim = cells.shape
        shape = of_outputs.shape
        of_outputs = of_outputs.reshape(cells.shape).contiguous()
        of_gates, of_mixed = torch.empty_like(gates), torch.empty_like(mixed)
        of_cell = of_cell.reshape(first_cell.shape).clone()
        for step in reversed(range(steps)):
            of_hidden = of_outputs[step]
            if step < steps - 1:
                of_hidden = of_hidden + of_mixed[step + 1, :, dim:]
            before = cells[step - 1] if step else first_cell
            tensors = gates[step], before, tanhs[step], of_hidden, of_cell, of_gates[step]
            _step_backward(*(tensor.numpy() for tensor in tensors))
            torch.mm(of_gates[step], weight, out=of_mixed[step])
        flat = of_gates.view(-1, 4 * dim)
        of_weight = flat.t().mm(mixed.view(-1, 2 * dim))
        of_maps = of_mixed[..., :dim].reshape(shape)
        of_first_hidden = of_mixed[0, :, dim:].reshape(shape[1:])
        return of_maps, of_first_hidden, of_cell.view(shape[1:]), of_weight, flat.sum(0)


@compiled_arithmetic
def _next_cell(gates: _FloatArray, before: _FloatArray, cell: _FloatArray, twice: _FloatArray) -> None:
    """The next cell state from the gates after their sigmoid, and twice its value."""
    dim = cell.shape[1]
    for row in range(len(cell)):
        for c in range(dim):
            candidate = _TWO * gates[row, 3 * dim + c] - _ONE
            value = gates[row, c] * before[row, c] + gates[row, dim + c] * candidate
            cell[row, c] = value
            twice[row, c] = _TWO * value


@compiled_arithmetic
def _next_hidden(gates: _FloatArray, tanhs: _FloatArray, hidden: _FloatArray) -> None:
    """The next hidden state; ``tanhs`` holds sigmoid(2 cell) and becomes tanh(cell)."""
    dim = hidden.shape[1]
    for row in range(len(hidden)):
        for c in range(dim):
            tanh = _TWO * tanhs[row, c] - _ONE
            tanhs[row, c] = tanh
            hidden[row, c] = gates[row, 2 * dim + c] * tanh


@compiled_arithmetic
def _step_backward(
    gates: _FloatArray,
    before: _FloatArray,
    tanhs: _FloatArray,
    of_hidden: _FloatArray,
    of_cell: _FloatArray,
    of_gates: _FloatArray,
) -> None:
    """Gradient of the gates before their sigmoid; that of the cell state becomes that of the one before."""
    dim = before.shape[1]
    for row in range(len(before)):
        for c in range(dim):
            forget, enter, leave = gates[row, c], gates[row, dim + c], gates[row, 2 * dim + c]
            sigmoid, tanh = gates[row, 3 * dim + c], tanhs[row, c]
            of_output = of_hidden[row, c]
            total = of_cell[row, c] + of_output * leave * (_ONE - tanh * tanh)
            of_gates[row, c] = total * before[row, c] * forget * (_ONE - forget)
            of_gates[row, dim + c] = total * (_TWO * sigmoid - _ONE) * enter * (_ONE - enter)
            of_gates[row, 2 * dim + c] = of_output * tanh * leave * (_ONE - leave)
            of_gates[row, 3 * dim + c] = _FOUR * total * enter * sigmoid * (_ONE - sigmoid)
            of_cell[row, c] = total * forget
