"""Recurrent MaxViT backbone of RVT.

Source: Gehrig & Scaramuzza, "Recurrent Vision Transformers for Object Detection with Event Cameras", CVPR 2023; public
repository uzh-rpg/RVT. Four stages. Each halves the resolution (the first one quarters it), attends inside windows and
over a grid (MaxViT, Tu et al., ECCV 2022) and ends in an LSTM whose gates are a 1x1 convolution. Only the LSTM looks
back in time, so everything before it runs on all frames of a sequence at once.
"""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from leod.models.block import NORM_EPSILON, AttentionBlock
from leod.models.frames import to_network_input
from leod.models.lstm import PointwiseLstm
from leod.models.states import LstmState

STEM_STRIDE = 4
FRAMES_AT_ONCE = 32
"""Where activations need not be kept, this many frames pass a stage together: enough to fill a GPU, little memory."""


class OverlappingDownsample(nn.Module):
    """Strided convolution with overlapping windows, then layer normalisation over the channels.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Factor by which height and width shrink; must divide both.
        kernel_size: Odd size of the convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2, bias=False
        )
        self.norm = nn.LayerNorm(out_channels, eps=NORM_EPSILON)

    def forward(self, maps: Tensor) -> Tensor:
        """Map float [N, C, H, W] to float [N, H/stride, W/stride, C'] (channels last)."""
        return self.norm(self.conv(maps).permute(0, 2, 3, 1))


class AttentionPair(nn.Module):
    """Window attention, then grid attention, each followed by an MLP; channels last.

    Args:
        dim: Channels.
        dim_head: Channels of one head.
        partition_size: (height, width) of a window and number of grid cells, in feature cells.
        layer_scale: Initial LayerScale; None leaves it out.
        input_is_normed: Skip the very first normalisation because the caller has just normalised.
    """

    def __init__(
        self,
        dim: int,
        dim_head: int,
        partition_size: tuple[int, int],
        layer_scale: float | None,
        input_is_normed: bool,
    ) -> None:
        super().__init__()
        self.window = AttentionBlock(dim, dim_head, partition_size, layer_scale, False, input_is_normed)
        self.grid = AttentionBlock(dim, dim_head, partition_size, layer_scale, True, False)

    def forward(self, maps: Tensor) -> Tensor:
        """Map float [N, H, W, C] to the same shape; H and W must be multiples of the partition size."""
        return self.grid(self.window(maps))


class RecurrentStage(nn.Module):
    """One stage: down-sampling, attention blocks, LSTM.

    Args:
        in_channels: Channels of the input.
        dim: Channels of the stage.
        blocks: Number of attention pairs.
        stride: Factor by which height and width shrink.
        kernel_size: Size of the down-sampling convolution.
        dim_head: Channels of one attention head.
        partition_size: Attention window in feature cells.
        layer_scale: Initial LayerScale; None leaves it out.
    """

    def __init__(
        self,
        in_channels: int,
        dim: int,
        blocks: int,
        stride: int,
        kernel_size: int,
        dim_head: int,
        partition_size: tuple[int, int],
        layer_scale: float | None,
    ) -> None:
        super().__init__()
        self.downsample = OverlappingDownsample(in_channels, dim, stride, kernel_size)
        self.blocks = nn.ModuleList(
            AttentionPair(dim, dim_head, partition_size, layer_scale, input_is_normed=index == 0)
            for index in range(blocks)
        )
        self.lstm = PointwiseLstm(dim)
        self.gradient_checkpointing = False

    def _spatial(self, maps: Tensor) -> Tensor:
        # Convolution, attention and LSTM all work on channels-last memory; without this every one would copy.
        maps = self.downsample(to_network_input(maps))
        for block in self.blocks:
            maps = block(maps)
        return maps

    def forward(self, maps: Tensor, state: LstmState | None) -> tuple[Tensor, LstmState]:
        """Run the stage on T consecutive frames of B sequences.

        Args:
            maps: float or uint8 [T, B, C, H, W].
            state: (hidden, cell) after the frame before, each [B, C', H', W']; None means zeros.

        Returns:
            Hidden states [T, B, C', H', W'] and the last (hidden, cell).
        """
        frames = maps.flatten(0, 1)
        parts = frames.split(FRAMES_AT_ONCE)
        if torch.is_grad_enabled() and self.gradient_checkpointing:
            spatial = torch.cat([checkpoint(self._spatial, part, use_reentrant=False) for part in parts])
        elif torch.is_grad_enabled() or len(parts) == 1:
            spatial = self._spatial(frames)
        else:
            spatial = torch.cat([self._spatial(part) for part in parts])
        return self.lstm(spatial.unflatten(0, maps.shape[:2]), state)

    def compile_parts(self, backend: str) -> None:
        """Let torch.compile translate what runs per frame and per step; the loop over time stays Python's."""
        self.downsample.compile(backend=backend)
        for block in self.blocks:
            block.compile(backend=backend)
        self.lstm.compile_step(backend)


class RecurrentMaxVit(nn.Module):
    """The four recurrent stages.

    Args:
        in_channels: Channels of a frame.
        stage_dims: Channels of the stages.
        blocks_per_stage: Attention pairs of the stages.
        dim_head: Channels of one attention head.
        partition_size: Attention window in feature cells, equal in every stage.
        layer_scale: Initial LayerScale; None leaves it out.
    """

    def __init__(
        self,
        in_channels: int,
        stage_dims: SequenceOf[int],
        blocks_per_stage: SequenceOf[int],
        dim_head: int,
        partition_size: tuple[int, int],
        layer_scale: float | None,
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        for index, (dim, blocks) in enumerate(zip(stage_dims, blocks_per_stage, strict=True)):
            self.stages.append(
                RecurrentStage(
                    in_channels=in_channels,
                    dim=dim,
                    blocks=blocks,
                    stride=STEM_STRIDE if index == 0 else 2,
                    kernel_size=7 if index == 0 else 3,
                    dim_head=dim_head,
                    partition_size=partition_size,
                    layer_scale=layer_scale,
                )
            )
            in_channels = dim

    def forward(
        self, frames: Tensor, states: SequenceOf[LstmState] | None = None
    ) -> tuple[tuple[Tensor, ...], list[LstmState]]:
        """Extract features of T consecutive frames of B sequences.

        Args:
            frames: float or uint8 [T, B, C, H, W], H and W multiples of 32 times the partition's.
            states: What the previous call returned; None means zeros.

        Returns:
            The hidden states of every stage (strides 4, 8, 16, 32), [T, B, C_s, H_s, W_s], and the states after the
            last frame.
        """
        features, new_states = [], []
        maps = frames
        for index, stage in enumerate(self.stages):
            maps, state = stage(maps, None if states is None else states[index])
            features.append(maps)
            new_states.append(state)
        return tuple(features), new_states
