"""Multi-head self-attention inside the windows of a feature map.

PyTorch's kernels are made for long sequences. On the small sensors of a study on a CPU a window has half a dozen cells,
for which they spend most of their time on what surrounds the arithmetic. There this module computes many windows side
by side, one in each lane of the processor's vector instructions.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from timm.models.maxxvit import AttentionCl
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from leod.jit import compiled_arithmetic
from leod.models.kernels import suits_kernel

MOST_CELLS = 12
"""Windows of 16 cells and more are faster with PyTorch's kernel."""
LANES = 64
"""Pairs of window and head that are computed together: their tensors fit the second-level cache."""

_FloatArray = npt.NDArray[np.float32]
_ZERO, _ONE = np.float32(0), np.float32(1)


class WindowAttention(nn.Module):
    """Attention of a timm block, with its layers and parameter names: no bias of positions, no dropout.

    Args:
        attention: The layer whose projections are taken over; heads laid out as [q|k|v] one after another.
    """

    def __init__(self, attention: AttentionCl) -> None:
        super().__init__()
        self.num_heads = attention.num_heads
        self.qkv = attention.qkv
        self.proj = attention.proj

    def forward(self, windows: Tensor, last_bias: bool = True) -> Tensor:
        """Let the cells of each window attend to each other.

        Args:
            windows: float [N, P, Q, C].
            last_bias: Whether the last projection adds its bias; otherwise the caller does.

        Returns:
            The same shape.
        """
        cells = windows.shape[1] * windows.shape[2]
        qkv = self.qkv(windows).view(len(windows), cells, self.num_heads, -1)
        if cells <= MOST_CELLS and suits_kernel(qkv, most_threads=1):
            attended: Tensor = _LaneAttention.apply(qkv)
        else:
            query, key, value = qkv.transpose(1, 2).chunk(3, dim=3)
            attended = nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2)
        bias = self.proj.bias if last_bias else None
        return nn.functional.linear(attended.reshape(windows.shape), self.proj.weight, bias)


class _LaneAttention(torch.autograd.Function):
    """softmax(q k^T / sqrt(D)) v of float32 [N, cells, heads, 3 D] on the CPU: float32 [N, cells, heads, D]."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor) -> Tensor:
        windows, cells, heads, dims = qkv.shape
        attended = qkv.new_empty((windows, cells, heads, dims // 3))
        _attend(qkv.detach().numpy(), attended.numpy())
        ctx.save_for_backward(qkv)
        return attended

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (qkv,) = ctx.saved_tensors
        result = torch.empty_like(qkv)
        _attend_backward(qkv.detach().numpy(), gradient.contiguous().numpy(), result.numpy())
        return result


@compiled_arithmetic
def _to_lanes(rows: _FloatArray, first: int, lanes: int, column: int, result: _FloatArray) -> None:
    """result[cell * D + c, lane] = rows[window, cell, head, column + c] of the lane's window and head."""
    cells, heads = rows.shape[1], rows.shape[2]
    dim = result.shape[0] // cells
    for lane in range(lanes):
        window, head = (first + lane) // heads, (first + lane) % heads
        for cell in range(cells):
            for c in range(dim):
                result[cell * dim + c, lane] = rows[window, cell, head, column + c]


@compiled_arithmetic
def _read(qkv: _FloatArray, first: int, lanes: int, query: _FloatArray, key: _FloatArray, value: _FloatArray) -> None:
    """The three parts of the lanes' windows and heads."""
    dim = qkv.shape[3] // 3
    _to_lanes(qkv, first, lanes, 0, query)
    _to_lanes(qkv, first, lanes, dim, key)
    _to_lanes(qkv, first, lanes, 2 * dim, value)


@compiled_arithmetic
def _from_lanes(values: _FloatArray, first: int, lanes: int, column: int, rows: _FloatArray) -> None:
    """The way back of `_to_lanes`."""
    cells, heads = rows.shape[1], rows.shape[2]
    dim = values.shape[0] // cells
    for lane in range(lanes):
        window, head = (first + lane) // heads, (first + lane) % heads
        for cell in range(cells):
            for c in range(dim):
                rows[window, cell, head, column + c] = values[cell * dim + c, lane]


@compiled_arithmetic
def _products(left: _FloatArray, right: _FloatArray, cells: int, dim: int, result: _FloatArray) -> None:
    """result[i, j] = sum over c of left[i, c] * right[j, c], in each lane."""
    for i in range(cells):
        for j in range(cells):
            total = result[i * cells + j]
            total[:] = _ZERO
            a, b = i * dim, j * dim
            # Four at a time, so that the sum is loaded and stored a quarter as often.
            for c in range(0, dim - 3, 4):
                for lane in range(LANES):
                    total[lane] += (
                        left[a + c, lane] * right[b + c, lane]
                        + left[a + c + 1, lane] * right[b + c + 1, lane]
                        + left[a + c + 2, lane] * right[b + c + 2, lane]
                        + left[a + c + 3, lane] * right[b + c + 3, lane]
                    )
            for c in range(dim - dim % 4, dim):
                for lane in range(LANES):
                    total[lane] += left[a + c, lane] * right[b + c, lane]


@compiled_arithmetic
def _weighted_sums(
    weights: _FloatArray, transposed: bool, values: _FloatArray, cells: int, dim: int, result: _FloatArray
) -> None:
    """result[i, c] = sum over j of weights[i, j] * values[j, c], in each lane; transposed: weights[j, i]."""
    across, down = (1, cells) if transposed else (cells, 1)
    for i in range(cells):
        for c in range(dim):
            total = result[i * dim + c]
            total[:] = _ZERO
            # Three at a time, as in `_products`.
            for j in range(0, cells - 2, 3):
                w, v = i * across + j * down, j * dim + c
                for lane in range(LANES):
                    total[lane] += (
                        weights[w, lane] * values[v, lane]
                        + weights[w + down, lane] * values[v + dim, lane]
                        + weights[w + 2 * down, lane] * values[v + 2 * dim, lane]
                    )
            for j in range(cells - cells % 3, cells):
                w, v = i * across + j * down, j * dim + c
                for lane in range(LANES):
                    total[lane] += weights[w, lane] * values[v, lane]


@compiled_arithmetic
def _exponentials(values: _FloatArray, powers: npt.NDArray[np.int32]) -> None:
    """Exponentials of values up to 0, in place: a power of two times a polynomial (that of Cephes' expf).

    Args:
        values: float32 [n].
        powers: int32 [n], overwritten.
    """
    for n in range(len(values)):
        # Below this the power of two would not be a normal number; its exponential is 0 beside the largest, which is 1.
        value = max(values[n], np.float32(-87.0))
        power = np.floor(value * np.float32(1.44269504) + np.float32(0.5))
        rest = value - power * np.float32(0.693359375) + power * np.float32(2.12194440e-4)
        series = np.float32(1.9875691500e-4)
        series = series * rest + np.float32(1.3981999507e-3)
        series = series * rest + np.float32(8.3334519073e-3)
        series = series * rest + np.float32(4.1665795894e-2)
        series = series * rest + np.float32(1.6666665459e-1)
        series = series * rest + np.float32(5.0000001201e-1)
        values[n] = series * rest * rest + rest + _ONE
        powers[n] = (np.int32(power) + np.int32(127)) << np.int32(23)
    as_floats = powers.view(np.float32)
    for n in range(len(values)):
        values[n] *= as_floats[n]


@compiled_arithmetic
def _attention_weights(
    query: _FloatArray, key: _FloatArray, cells: int, dim: int, weights: _FloatArray, powers: npt.NDArray[np.int32]
) -> None:
    """weights[i, j] = softmax over j of query[i] . key[j] / sqrt(dim), in each lane."""
    _products(query, key, cells, dim, weights)
    scale = np.float32(1 / math.sqrt(dim))
    most = np.empty(LANES, np.float32)
    for i in range(cells):
        row = weights[i * cells : (i + 1) * cells]
        most[:] = row[0]
        for j in range(1, cells):
            for lane in range(LANES):
                most[lane] = max(most[lane], row[j, lane])
        for j in range(cells):
            for lane in range(LANES):
                row[j, lane] = (row[j, lane] - most[lane]) * scale
    _exponentials(weights.reshape(-1), powers)
    total = np.empty(LANES, np.float32)
    for i in range(cells):
        row = weights[i * cells : (i + 1) * cells]
        total[:] = row[0]
        for j in range(1, cells):
            for lane in range(LANES):
                total[lane] += row[j, lane]
        for lane in range(LANES):
            total[lane] = _ONE / total[lane]
        for j in range(cells):
            for lane in range(LANES):
                row[j, lane] *= total[lane]


@compiled_arithmetic
def _softmax_backward(weights: _FloatArray, gradient: _FloatArray, cells: int, dim: int) -> None:
    """Turn the gradient of the weights into that of query . key, in place."""
    scale = np.float32(1 / math.sqrt(dim))
    mean = np.empty(LANES, np.float32)
    for i in range(0, cells * cells, cells):
        mean[:] = _ZERO
        for j in range(cells):
            for lane in range(LANES):
                mean[lane] += weights[i + j, lane] * gradient[i + j, lane]
        for j in range(cells):
            for lane in range(LANES):
                gradient[i + j, lane] = weights[i + j, lane] * (gradient[i + j, lane] - mean[lane]) * scale


@compiled_arithmetic
def _attend(qkv: _FloatArray, attended: _FloatArray) -> None:
    windows, cells, heads, dim = attended.shape
    query = np.zeros((cells * dim, LANES), np.float32)
    key = np.zeros((cells * dim, LANES), np.float32)
    value = np.zeros((cells * dim, LANES), np.float32)
    weights = np.empty((cells * cells, LANES), np.float32)
    powers = np.empty(cells * cells * LANES, np.int32)
    for first in range(0, windows * heads, LANES):
        lanes = min(LANES, windows * heads - first)
        _read(qkv, first, lanes, query, key, value)
        _attention_weights(query, key, cells, dim, weights, powers)
        _weighted_sums(weights, False, value, cells, dim, query)
        _from_lanes(query, first, lanes, 0, attended)


@compiled_arithmetic
def _attend_backward(qkv: _FloatArray, gradient: _FloatArray, result: _FloatArray) -> None:
    windows, cells, heads, dim = gradient.shape
    query = np.zeros((cells * dim, LANES), np.float32)
    key = np.zeros((cells * dim, LANES), np.float32)
    value = np.zeros((cells * dim, LANES), np.float32)
    outer = np.zeros((cells * dim, LANES), np.float32)
    sums = np.empty((cells * dim, LANES), np.float32)
    weights = np.empty((cells * cells, LANES), np.float32)
    inner = np.empty((cells * cells, LANES), np.float32)
    powers = np.empty(cells * cells * LANES, np.int32)
    for first in range(0, windows * heads, LANES):
        lanes = min(LANES, windows * heads - first)
        _read(qkv, first, lanes, query, key, value)
        _to_lanes(gradient, first, lanes, 0, outer)
        _attention_weights(query, key, cells, dim, weights, powers)
        _weighted_sums(weights, True, outer, cells, dim, sums)
        _from_lanes(sums, first, lanes, 2 * dim, result)
        _products(outer, value, cells, dim, inner)
        _softmax_backward(weights, inner, cells, dim)
        _weighted_sums(inner, False, key, cells, dim, sums)
        _from_lanes(sums, first, lanes, 0, result)
        _weighted_sums(inner, True, query, cells, dim, sums)
        _from_lanes(sums, first, lanes, dim, result)
