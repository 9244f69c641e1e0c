"""Frames of event counts on their way into the network."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from leod.jit import compiled_arithmetic


def to_network_input(frames: Tensor) -> Tensor:
    """Give frames the type and the memory layout that the first convolution works on.

    Args:
        frames: uint8 or float [N, C, H, W].

    Returns:
        The same values, [N, C, H, W] with channels last in memory; uint8 becomes float32.
    """
    if frames.dtype is not torch.uint8:
        return frames.to(memory_format=torch.channels_last)
    if torch.compiler.is_compiling() or frames.device.type != "cpu":
        return frames.to(torch.float32, memory_format=torch.channels_last)
    count, channels, height, width = frames.shape
    result = torch.empty((count, height, width, channels))
    _channels_last(frames.contiguous().numpy(), result.numpy())
    return result.permute(0, 3, 1, 2)


@compiled_arithmetic
def _channels_last(frames: npt.NDArray[np.uint8], result: npt.NDArray[np.float32]) -> None:
    """result[n, y, x, c] = frames[n, c, y, x], row by row, so that a row's pixels stay in the first-level cache."""
    count, channels, height, width = frames.shape
    grouped = channels - channels % 4
    for n in range(count):
        for y in range(height):
            for c in range(0, grouped, 4):
                for x in range(width):
                    result[n, y, x, c] = frames[n, c, y, x]
                    result[n, y, x, c + 1] = frames[n, c + 1, y, x]
                    result[n, y, x, c + 2] = frames[n, c + 2, y, x]
                    result[n, y, x, c + 3] = frames[n, c + 3, y, x]
            for c in range(grouped, channels):
                for x in range(width):
                    result[n, y, x, c] = frames[n, c, y, x]
