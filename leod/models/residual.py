"""What follows each attention and each feed-forward layer: bias, LayerScale and the shortcut around both.

PyTorch passes over the memory for each of them, and once more to put windows back into the map. Large maps on a CPU are
passed over once here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from leod.jit import compiled_arithmetic
from leod.models.kernels import suits_kernel

MOST_THREADS = 4
"""With more, PyTorch's operators share their passes over the memory; that of this module is one thread's."""

LEAST_VALUES = 2**18
"""Maps with fewer stay in the processor's caches, where a pass more costs less than what surrounds this one."""

_FloatArray = npt.NDArray[np.float32]


def adds_in_one_pass(maps: Tensor) -> bool:
    """Whether `add_branch` takes these maps."""
    return maps.numel() >= LEAST_VALUES and suits_kernel(maps, MOST_THREADS)


def add_branch(
    maps: Tensor, branch: Tensor, bias: Tensor, gamma: Tensor | None, size: tuple[int, int], is_grid: bool
) -> Tensor:
    """Add a branch to the map that it came from: maps + gamma * (branch + bias), on a CPU.

    Args:
        maps: float32 [N, H, W, C].
        branch: float32 [windows, P, Q, C], cell by cell of windows of ``size``; (1, 1) stands for the maps themselves.
        bias: float32 [C].
        gamma: float32 [C]; None leaves it out.
        size: Height and width of a window in cells.
        is_grid: Whether a window's cells lie apart, as in MaxViT's grid attention, or next to each other.

    Returns:
        float32 [N, H, W, C].
    """
    result: Tensor = _Added.apply(maps, branch, bias, gamma, size, is_grid)
    return result


class _Added(torch.autograd.Function):
    """See `add_branch`."""

    @staticmethod
    def forward(
        ctx: Any,
        maps: Tensor,
        branch: Tensor,
        bias: Tensor,
        gamma: Tensor | None,
        size: tuple[int, int],
        is_grid: bool,
    ) -> Tensor:
        maps = maps.contiguous()
        rows = branch.reshape(-1, branch.shape[-1])
        scaled_bias = (bias if gamma is None else gamma * bias).detach().numpy()
        result = torch.empty_like(maps)
        before, added, after = (tensor.detach().numpy() for tensor in (maps, rows, result))
        if size == (1, 1):
            _add_rows(before.reshape(added.shape), added, _scale(bias, gamma), scaled_bias, after.reshape(added.shape))
        else:
            _add_windows(before, added, _scale(bias, gamma), scaled_bias, after, *size, is_grid)
        ctx.save_for_backward(bias, gamma, None if gamma is None else rows)
        ctx.windows, ctx.shape = (*size, is_grid), branch.shape
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        bias, gamma, rows = ctx.saved_tensors
        gradient = gradient.contiguous()
        if gamma is None and ctx.windows[:2] == (1, 1):
            return gradient, gradient.view(ctx.shape), gradient.flatten(0, 2).sum(0), None, None, None
        of_rows = gradient.new_empty((gradient[..., 0].numel(), len(bias)))
        sums, products = torch.zeros_like(bias), torch.zeros_like(bias)
        branch, of_branch = (of_rows if rows is None else rows).numpy(), of_rows.numpy()
        arrays = gradient.numpy(), branch, _scale(bias, gamma), of_branch, sums.numpy(), products.numpy()
        _add_backward(*arrays, rows is not None, *ctx.windows)
        of_bias, of_gamma = (sums, None) if gamma is None else (gamma * sums, products + bias * sums)
        return gradient, of_rows.view(ctx.shape), of_bias, of_gamma, None, None


def _scale(bias: Tensor, gamma: Tensor | None) -> _FloatArray:
    return np.ones(len(bias), np.float32) if gamma is None else gamma.detach().numpy()


@compiled_arithmetic
def _add_rows(
    maps: _FloatArray, branch: _FloatArray, scale: _FloatArray, scaled_bias: _FloatArray, result: _FloatArray
) -> None:
    """Row by row maps + scale * branch + scaled_bias."""
    rows, channels = maps.shape
    for row in range(rows):
        for c in range(channels):
            result[row, c] = maps[row, c] + (scale[c] * branch[row, c] + scaled_bias[c])


@compiled_arithmetic
def _position(window: int, cell: int, windows: int, cells: int, is_grid: bool) -> int:
    """Row or column of the map in which a window's cell lies."""
    return cell * windows + window if is_grid else window * cells + cell


@compiled_arithmetic
def _add_windows(
    maps: _FloatArray,
    branch: _FloatArray,
    scale: _FloatArray,
    scaled_bias: _FloatArray,
    result: _FloatArray,
    window_height: int,
    window_width: int,
    is_grid: bool,
) -> None:
    """The same where the branch's rows lie window by window."""
    count, height, width, channels = maps.shape
    down, across = height // window_height, width // window_width
    row = 0
    for n in range(count):
        for i in range(down):
            for j in range(across):
                for p in range(window_height):
                    for q in range(window_width):
                        y = _position(i, p, down, window_height, is_grid)
                        x = _position(j, q, across, window_width, is_grid)
                        for c in range(channels):
                            result[n, y, x, c] = maps[n, y, x, c] + (scale[c] * branch[row, c] + scaled_bias[c])
                        row += 1


@compiled_arithmetic
def _add_backward(
    gradient: _FloatArray,
    branch: _FloatArray,
    scale: _FloatArray,
    of_branch: _FloatArray,
    sums: _FloatArray,
    products: _FloatArray,
    with_products: bool,
    window_height: int,
    window_width: int,
    is_grid: bool,
) -> None:
    """Gradient of the branch, sum of the gradient over all rows, and sum of its products with the branch."""
    count, height, width, channels = gradient.shape
    down, across = height // window_height, width // window_width
    row = 0
    for n in range(count):
        # Summed up frame by frame, so that a sum of many rows keeps its last digits.
        of_frame, products_of_frame = np.zeros(channels, np.float32), np.zeros(channels, np.float32)
        for i in range(down):
            for j in range(across):
                for p in range(window_height):
                    for q in range(window_width):
                        y = _position(i, p, down, window_height, is_grid)
                        x = _position(j, q, across, window_width, is_grid)
                        for c in range(channels):
                            value = gradient[n, y, x, c]
                            of_frame[c] += value
                            of_branch[row, c] = scale[c] * value
                        if with_products:
                            for c in range(channels):
                                products_of_frame[c] += gradient[n, y, x, c] * branch[row, c]
                        row += 1
        for c in range(channels):
            sums[c] += of_frame[c]
            products[c] += products_of_frame[c]
