"""The two layers with a GELU between them that follow each attention (MaxViT's MLP)."""

from __future__ import annotations

import torch
from timm.layers import Mlp
from torch import Tensor, nn

HIDDEN_AT_ONCE = 2**18
"""Hidden activations that a CPU computes at a time where none are kept: 1 MB, which its second-level cache holds."""


class FeedForward(nn.Module):
    """MLP of a timm block, with its layers and parameter names: no dropout, no normalisation.

    Args:
        mlp: The layer whose parts are taken over.
    """

    def __init__(self, mlp: Mlp) -> None:
        super().__init__()
        self.fc1 = mlp.fc1
        self.act = mlp.act
        self.fc2 = mlp.fc2

    def forward(self, maps: Tensor, last_bias: bool = True) -> Tensor:
        """Map float [..., C] to the same shape, each cell for itself.

        Args:
            maps: The cells.
            last_bias: Whether the last layer adds its bias; otherwise the caller does.
        """
        bias = self.fc2.bias if last_bias else None
        rows_at_once = max(1, HIDDEN_AT_ONCE // self.fc1.out_features)
        if (
            torch.compiler.is_compiling()
            or torch.is_grad_enabled()
            or maps.device.type != "cpu"
            or maps[..., 0].numel() <= rows_at_once
        ):
            return nn.functional.linear(self.act(self.fc1(maps)), self.fc2.weight, bias)
        parts = maps.reshape(-1, maps.shape[-1]).split(rows_at_once)
        outcomes = [nn.functional.linear(self.act(self.fc1(part)), self.fc2.weight, bias) for part in parts]
        return torch.cat(outcomes).view(maps.shape)
