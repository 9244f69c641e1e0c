"""The backbone's own ways on a CPU beside PyTorch's operators: `python tests/benchmarks/bench_layers.py`.

Both ways alternately in one process with one thread, medians of CPU time. Sizes are those of a batch of the default
study (rvt-nano, 96 x 64 pixels), and of RVT-S with 5 x 2 frames of 304 x 240 pixels.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import torch
from timm.layers import Mlp

import leod.models.attention
import leod.models.feed_forward
import leod.models.lstm
import leod.models.residual
from leod.inference.devices import prepare_cpu
from leod.models.block import AttentionBlock
from leod.models.feed_forward import FeedForward
from leod.models.frames import to_network_input
from leod.models.lstm import PointwiseLstm
from leod.tables import aligned

REPETITIONS = 15


def alternately(ways: list[Callable[[], object]]) -> list[float]:
    """Median CPU time of a call of each way, in milliseconds."""
    times: list[list[float]] = [[] for _ in ways]
    for repetition in range(REPETITIONS + 2):
        for way, found in zip(ways, times, strict=True):
            start = time.process_time()
            way()
            if repetition >= 2:
                found.append(1000 * (time.process_time() - start))
    return [statistics.median(found) for found in times]


def attention(windows: int, cells: int, heads: int, dim: int, backward: bool) -> list[float]:
    """PyTorch's attention, and that in lanes."""
    qkv = torch.randn(windows, cells, heads, 3 * dim, requires_grad=backward)
    upstream = torch.randn(windows, cells, heads, dim)

    def run(attend: Callable[[torch.Tensor], torch.Tensor]) -> None:
        found = attend(qkv)
        if backward:
            torch.autograd.grad(found, qkv, upstream)

    def operators(tensor: torch.Tensor) -> torch.Tensor:
        query, key, value = tensor.transpose(1, 2).chunk(3, dim=3)
        return torch.nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).contiguous()

    return alternately([lambda: run(operators), lambda: run(leod.models.attention._LaneAttention.apply)])


def lstm(steps: int, batch: int, height: int, width: int, dim: int, backward: bool) -> list[float]:
    """PyTorch's operators, and two passes a step."""
    layer = PointwiseLstm(dim)
    maps = torch.randn(steps, batch, height, width, dim, requires_grad=backward)
    upstream = torch.randn(steps, batch, height, width, dim)

    def run(most_threads: int) -> None:
        leod.models.lstm.MOST_THREADS = most_threads
        with torch.set_grad_enabled(backward):
            hidden, _ = layer(maps, None)
        if backward:
            torch.autograd.grad(hidden.permute(0, 1, 3, 4, 2), [maps, *layer.parameters()], upstream)

    as_it_is = leod.models.lstm.MOST_THREADS
    return alternately([lambda: run(0), lambda: run(as_it_is)])


@torch.no_grad()
def feed_forward(frames: int, height: int, width: int, dim: int) -> list[float]:
    """All rows at once, and in parts."""
    layer = FeedForward(Mlp(dim, 4 * dim))
    maps = torch.randn(frames, height, width, dim)

    def run(hidden_at_once: int) -> None:
        leod.models.feed_forward.HIDDEN_AT_ONCE = hidden_at_once
        layer(maps)

    in_parts = leod.models.feed_forward.HIDDEN_AT_ONCE
    return alternately([lambda: run(2**40), lambda: run(in_parts)])


def block(count: int, height: int, width: int, dim: int, backward: bool) -> list[float]:
    """A block of RVT-S with every addition by itself, and each branch added in one pass."""
    layer = AttentionBlock(dim, 24, (height // 8, width // 8), 1e-5, is_grid=True, input_is_normed=False)
    maps = torch.randn(count, height, width, dim, requires_grad=backward)
    upstream = torch.randn(count, height, width, dim)

    def run(least_values: int) -> None:
        leod.models.residual.LEAST_VALUES = least_values
        with torch.set_grad_enabled(backward):
            found = layer(maps)
        if backward:
            torch.autograd.grad(found, [maps, *layer.parameters()], upstream)

    as_it_is = leod.models.residual.LEAST_VALUES
    return alternately([lambda: run(2**60), lambda: run(as_it_is)])


def frames(count: int, height: int, width: int) -> list[float]:
    """Counts to floats with channels last: PyTorch's copy, and row by row."""
    counts = torch.poisson(torch.full((count, 20, height, width), 0.1)).to(torch.uint8)
    return alternately(
        [
            lambda: counts.to(torch.float32, memory_format=torch.channels_last),
            lambda: to_network_input(counts),
        ]
    )


def main() -> None:
    """Print one row for each layer and size."""
    prepare_cpu(1)
    torch.manual_seed(0)
    measured = {}
    for backward in (False, True):
        both = " and backward" if backward else ""
        measured |= {
            f"attention, 2560 windows of 6 cells, forward{both}": attention(2560, 6, 1, 16, backward),
            f"LSTM, rvt-nano, first stage, 5 steps, forward{both}": lstm(5, 8, 16, 24, 16, backward),
            f"LSTM, RVT-S, first stage, 5 steps, forward{both}": lstm(5, 2, 64, 80, 48, backward),
            f"LSTM, RVT-S, last stage, 5 steps, forward{both}": lstm(5, 2, 8, 10, 384, backward),
            f"block, RVT-S, first stage, 5 x 2 frames, forward{both}": block(10, 64, 80, 48, backward),
        }
    measured["feed-forward, RVT-S, first stage, without gradients"] = feed_forward(10, 64, 80, 48)
    measured["frames, 40 of 96 x 64"] = frames(40, 64, 96)
    measured["frames, 10 of 320 x 256"] = frames(10, 256, 320)
    rows = [["", "operators ms", "here ms", "ratio"]]
    rows += [[name, f"{old:.2f}", f"{new:.2f}", f"{old / new:.2f}"] for name, (old, new) in measured.items()]
    sys.stdout.write("\n".join(aligned(rows, numbers=True)) + "\n")


if __name__ == "__main__":
    main()
