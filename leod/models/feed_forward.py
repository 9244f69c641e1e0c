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

    def forward(self, maps: Tensor) -> Tensor:
        """Map float [..., C] to the same shape, each cell for itself."""
        if torch.compiler.is_compiling() or torch.is_grad_enabled() or maps.device.type != "cpu":
            return self._run(maps)
        rows_at_once = max(1, HIDDEN_AT_ONCE // self.fc1.out_features)
        rows = maps.reshape(-1, maps.shape[-1])
        return torch.cat([self._run(part) for part in rows.split(rows_at_once)]).view(maps.shape)

    def _run(self, maps: Tensor) -> Tensor:
        hidden: Tensor = self.act(self.fc1(maps))
        return self.fc2(hidden)
