"""Path-aggregation feature pyramid of YOLOX (Ge et al., 2021) without its dark-net backbone."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class ConvNormAct(nn.Sequential):
    """Convolution without bias, batch normalisation (PyTorch's default eps and momentum), SiLU.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Odd size of the convolution; the input is padded so that stride 1 keeps its size.
        stride: Stride of the convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2, bias=False
        )
        self.norm = nn.BatchNorm2d(out_channels)
        self.activation = nn.SiLU()


def fold_batch_norms(network: nn.Module) -> None:
    """Let convolutions normalise, too: in inference that is a factor and a summand for each channel.

    Args:
        network: In evaluation mode; changed in place, and neither trained nor saved afterwards.
    """
    for module in network.modules():
        if isinstance(module, ConvNormAct) and isinstance(module.norm, nn.BatchNorm2d):
            module.conv = fuse_conv_bn_eval(module.conv, module.norm)
            module.norm = nn.Identity()


class CrossStagePartial(nn.Module):
    """CSP layer: half of the channels pass through bottlenecks without shortcut, the other half goes around.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        bottlenecks: Number of bottlenecks (1x1, then 3x3 convolution).
    """

    def __init__(self, in_channels: int, out_channels: int, bottlenecks: int) -> None:
        super().__init__()
        hidden = out_channels // 2
        self.main = ConvNormAct(in_channels, hidden, 1)
        self.bypass = ConvNormAct(in_channels, hidden, 1)
        self.merge = ConvNormAct(2 * hidden, out_channels, 1)
        self.bottlenecks = nn.Sequential(
            *(nn.Sequential(ConvNormAct(hidden, hidden, 1), ConvNormAct(hidden, hidden, 3)) for _ in range(bottlenecks))
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Map float [N, C, H, W] to float [N, C', H, W]."""
        return self.merge(torch.cat((self.bottlenecks(self.main(maps)), self.bypass(maps)), dim=1))


class PathAggregationPyramid(nn.Module):
    """Features flow from coarse to fine and back again.

    Args:
        channels: Channels at the strides 8, 16 and 32, of input and output.
        depth: Depth factor; a CSP layer has round(3 * depth) bottlenecks.
    """

    def __init__(self, channels: SequenceOf[int], depth: float) -> None:
        super().__init__()
        fine, middle, coarse = channels
        bottlenecks = round(3 * depth)
        self.reduce_32 = ConvNormAct(coarse, middle, 1)
        self.top_down_16 = CrossStagePartial(2 * middle, middle, bottlenecks)
        self.reduce_16 = ConvNormAct(middle, fine, 1)
        self.top_down_8 = CrossStagePartial(2 * fine, fine, bottlenecks)
        self.downsample_8 = ConvNormAct(fine, fine, 3, stride=2)
        self.bottom_up_16 = CrossStagePartial(2 * fine, middle, bottlenecks)
        self.downsample_16 = ConvNormAct(middle, middle, 3, stride=2)
        self.bottom_up_32 = CrossStagePartial(2 * middle, coarse, bottlenecks)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, features: SequenceOf[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Fuse the backbone's features.

        Args:
            features: float [N, C_s, H_s, W_s] at strides 8, 16, 32.

        Returns:
            Maps of the same shapes.
        """
        fine, middle, coarse = features
        reduced_32 = self.reduce_32(coarse)
        middle = self.top_down_16(torch.cat((self.upsample(reduced_32), middle), dim=1))
        reduced_16 = self.reduce_16(middle)
        out_8 = self.top_down_8(torch.cat((self.upsample(reduced_16), fine), dim=1))
        out_16 = self.bottom_up_16(torch.cat((self.downsample_8(out_8), reduced_16), dim=1))
        out_32 = self.bottom_up_32(torch.cat((self.downsample_16(out_16), reduced_32), dim=1))
        return out_8, out_16, out_32
