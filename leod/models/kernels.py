"""When a layer computes with the compiled loops of this package instead of PyTorch's operators."""

from __future__ import annotations

import torch
from torch import Tensor


def suits_kernel(tensor: Tensor, most_threads: int) -> bool:
    """Whether compiled loops take this tensor: float32 on a CPU, not being compiled or computed in half precision.

    Args:
        tensor: What the layer works on.
        most_threads: With more threads PyTorch's operators, which share their work among them, are faster.
    """
    return (
        not torch.compiler.is_compiling()
        and tensor.device.type == "cpu"
        and tensor.dtype is torch.float32
        and torch.get_num_threads() <= most_threads
        and not torch.is_autocast_enabled("cpu")
    )
