"""Decoupled detection head of YOLOX (Ge et al., 2021) and the decoding of its outputs."""

from __future__ import annotations

import math
from collections.abc import Sequence as SequenceOf
from typing import NamedTuple

import torch
from torch import Tensor, nn

from leod.models.neck import ConvNormAct

STRIDES = (8, 16, 32)
PRIOR_PROBABILITY = 0.01
"""Objectness and class probability of every anchor at initialisation (focal loss paper, Lin et al., ICCV 2017)."""


class Anchors(NamedTuple):
    """The N places that make one prediction each: stride 8, 16, 32, row by row."""

    grid: Tensor
    """float [N, 2], (column, row) of the cell."""

    strides: Tensor
    """float [N], pixels per cell."""

    @property
    def centres(self) -> Tensor:
        """Centres of the cells: float [N, 2], (x, y) in pixels."""
        return (self.grid + 0.5) * self.strides[:, None]


def make_anchors(sizes: SequenceOf[tuple[int, int]], strides: SequenceOf[int], device: torch.device | str) -> Anchors:
    """Lay out the anchors of feature maps of the given sizes.

    Args:
        sizes: (height, width) of each level in cells.
        strides: Pixels per cell of each level.
        device: Where the tensors shall live.
    """
    grids, widths = [], []
    for (height, width), stride in zip(sizes, strides, strict=True):
        rows = torch.arange(height, device=device, dtype=torch.float32)
        columns = torch.arange(width, device=device, dtype=torch.float32)
        row, column = torch.meshgrid(rows, columns, indexing="ij")
        grids.append(torch.stack((column, row), dim=-1).view(-1, 2))
        widths.append(torch.full((height * width,), float(stride), device=device))
    return Anchors(torch.cat(grids), torch.cat(widths))


def decode_boxes(raw_boxes: Tensor, anchors: Anchors) -> Tensor:
    """Turn raw regression outputs into boxes.

    Args:
        raw_boxes: float [..., N, 4], offset from the cell in cells, logarithm of the size in cells.
        anchors: The N anchors.

    Returns:
        float [..., N, 4], cx, cy, w, h in pixels.
    """
    strides = anchors.strides[:, None]
    return torch.cat(((raw_boxes[..., :2] + anchors.grid) * strides, raw_boxes[..., 2:4].exp() * strides), dim=-1)


def decode_predictions(raw: Tensor, anchors: Anchors) -> Tensor:
    """Turn raw head outputs into prediction rows.

    Args:
        raw: float [B, N, 5+C], offset and log size in cells, objectness logit, class logits.
        anchors: The N anchors.

    Returns:
        float [B, N, 5+C], cx, cy, w, h in pixels, objectness, class probabilities.
    """
    return torch.cat((decode_boxes(raw[..., :4], anchors), raw[..., 4:].sigmoid()), dim=-1)


class DecoupledHead(nn.Module):
    """Separate branches for classes and boxes at every level.

    Args:
        in_channels: Channels at the strides 8, 16, 32.
        num_classes: Number of classes.
    """

    def __init__(self, in_channels: SequenceOf[int], num_classes: int) -> None:
        super().__init__()
        hidden = int(256 * in_channels[-1] / 1024)

        def branch() -> nn.Sequential:
            return nn.Sequential(ConvNormAct(hidden, hidden, 3), ConvNormAct(hidden, hidden, 3))

        def projection(channels: int) -> nn.Conv2d:
            return nn.Conv2d(hidden, channels, kernel_size=1)

        levels = range(len(in_channels))
        self.class_branches = nn.ModuleList(branch() for _ in levels)
        self.box_branches = nn.ModuleList(branch() for _ in levels)
        self.class_outputs = nn.ModuleList(projection(num_classes) for _ in levels)
        self.box_outputs = nn.ModuleList(projection(4) for _ in levels)
        self.objectness_outputs = nn.ModuleList(projection(1) for _ in levels)
        self.stems = nn.ModuleList(ConvNormAct(channels, hidden, 1) for channels in in_channels)
        prior_bias = -math.log((1 - PRIOR_PROBABILITY) / PRIOR_PROBABILITY)
        for output in (*self.class_outputs, *self.objectness_outputs):
            nn.init.constant_(output.bias, prior_bias)

    def forward(self, features: SequenceOf[Tensor]) -> tuple[Tensor, Anchors]:
        """Predict at every anchor.

        Args:
            features: float [B, C_s, H_s, W_s] at strides 8, 16, 32.

        Returns:
            Raw outputs float32 [B, N, 5+C] (offset and log size in cells, objectness logit, class logits) and the
            anchors.
        """
        raw = []
        for level, maps in enumerate(features):
            maps = self.stems[level](maps)
            for_classes = self.class_branches[level](maps)
            for_boxes = self.box_branches[level](maps)
            outputs = (
                self.box_outputs[level](for_boxes),
                self.objectness_outputs[level](for_boxes),
                self.class_outputs[level](for_classes),
            )
            raw.append(torch.cat(outputs, dim=1).flatten(2))
        sizes = [(maps.shape[-2], maps.shape[-1]) for maps in features]
        # Sizes are exponentials and positions reach a thousand pixels: half precision ends here.
        return torch.cat(raw, dim=2).transpose(1, 2).float(), make_anchors(sizes, STRIDES, features[0].device)
