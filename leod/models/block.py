"""A block of MaxViT (Tu et al., ECCV 2022): attention inside windows or over a grid, then an MLP; channels last."""

from __future__ import annotations

from timm.models.maxxvit import (
    MaxxVitTransformerCfg,
    PartitionAttentionCl,
    grid_partition,
    grid_reverse,
    window_partition,
    window_reverse,
)
from torch import Tensor, nn

from leod.models.attention import WindowAttention
from leod.models.feed_forward import FeedForward
from leod.models.residual import add_branch, adds_in_one_pass

NORM_EPSILON = 1e-5
_ONE_CELL = (1, 1)


class AttentionBlock(PartitionAttentionCl):
    """timm's block with the layers of this package: heads laid out as [q|k|v], no positional bias, exact GELU.

    Args:
        dim: Channels.
        dim_head: Channels of one head.
        partition_size: (height, width) of a window, or number of grid cells, in feature cells.
        layer_scale: Initial LayerScale; None leaves it out.
        is_grid: Whether it attends over a grid; otherwise inside windows.
        input_is_normed: Skip the first normalisation because the caller has just normalised.
    """

    def __init__(
        self,
        dim: int,
        dim_head: int,
        partition_size: tuple[int, int],
        layer_scale: float | None,
        is_grid: bool,
        input_is_normed: bool,
    ) -> None:
        settings = MaxxVitTransformerCfg(
            dim_head=dim_head,
            head_first=True,
            expand_ratio=4.0,
            rel_pos_type="",
            window_size=partition_size,
            grid_size=partition_size,
            init_values=layer_scale,
            act_layer="gelu",
            norm_layer_cl="layernorm",
            norm_eps=NORM_EPSILON,
        )
        super().__init__(dim, partition_type="grid" if is_grid else "block", cfg=settings)
        self.attn = WindowAttention(self.attn)
        self.mlp = FeedForward(self.mlp)
        self.is_grid = is_grid
        if input_is_normed:
            self.norm1 = nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        """Map float [N, H, W, C] to the same shape; H and W must be multiples of the partition size."""
        partition, reverse = (grid_partition, grid_reverse) if self.is_grid else (window_partition, window_reverse)
        size = self.partition_size
        windows = partition(self.norm1(maps), size)
        if adds_in_one_pass(maps):
            branch = self.attn(windows, last_bias=False)
            maps = add_branch(maps, branch, self.attn.proj.bias, _gamma(self.ls1), size, self.is_grid)
            branch = self.mlp(self.norm2(maps), last_bias=False)
            return add_branch(maps, branch, self.mlp.fc2.bias, _gamma(self.ls2), _ONE_CELL, False)
        maps = maps + self.ls1(reverse(self.attn(windows), size, maps.shape[1:3]))
        return maps + self.ls2(self.mlp(self.norm2(maps)))


def _gamma(scale: nn.Module) -> Tensor | None:
    return getattr(scale, "gamma", None)
