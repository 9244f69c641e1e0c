"""Batch normalisation over the batches of all processes together."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _SumOverProcesses(torch.autograd.Function):
    """A sum over all processes through which gradients pass; each process's share gets the sum of all gradients."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        del ctx
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        del ctx
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation with the statistics of the batches of all processes together, on any device.

    `torch.nn.SyncBatchNorm` does the same, on GPUs only. A process may have an empty batch.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise float [B, C, H, W], where B may be 0."""
        if not self.training:
            return super().forward(input)
        values = input.float()
        count = values.new_full((1,), float(values.shape[0] * values.shape[2] * values.shape[3]))
        sums = _SumOverProcesses.apply(torch.cat((values.sum(dim=(0, 2, 3)), count)))
        count = sums[-1].detach()
        mean = sums[:-1] / count.clamp(min=1.0)
        centred = values - mean[:, None, None]
        variance = _SumOverProcesses.apply(centred.square().sum(dim=(0, 2, 3))) / count.clamp(min=1.0)
        self._update_running_statistics(mean.detach(), variance.detach(), count)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)

    @torch.no_grad()
    def _update_running_statistics(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        momentum = self.momentum * (count > 0)
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * count / (count - 1.0).clamp(min=1.0), momentum)
        self.num_batches_tracked.add_(count > 0)


def use_global_batch_norm(module: nn.Module) -> None:
    """Let every batch normalisation in ``module`` work on the batches of all processes; names and values stay."""
    for part in module.modules():
        if type(part) is nn.BatchNorm2d:
            part.__class__ = GlobalBatchNorm2d
