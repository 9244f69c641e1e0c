"""A detector small enough for tests, and label rows for it."""

from __future__ import annotations

import torch
from torch import Tensor

from leod.config.schema import ModelConfig, RepresentationConfig, SensorSize, SequenceConfig
from leod.models.detector import Detector, build_detector

SMALL_MODEL = ModelConfig(name="small-test", embed_dim=8, dim_head=8)


def small_sequence(height: int = 60, width: int = 90, classes: tuple[str, ...] = ("car", "pedestrian"), **changes):
    return SequenceConfig(
        sensor=SensorSize(height=height, width=width),
        classes=classes,
        representation=RepresentationConfig(bins=2),
        **changes,
    )


def small_detector(seed: int = 0, sequence: SequenceConfig | None = None) -> Detector:
    torch.manual_seed(seed)
    return build_detector(SMALL_MODEL, sequence or small_sequence())


def random_frames(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.poisson(torch.full(shape, 0.3), generator=generator).to(torch.uint8)


def random_targets(
    images: int, rows: int, size: tuple[int, int], classes: int, generator: torch.Generator, ignored: float = 0.0
) -> Tensor:
    """Yolox rows: the first few of each image are filled, some of them ignored; centres may lie outside the image."""
    targets = torch.zeros(images, rows, 7)
    for image in range(images):
        count = int(torch.randint(0, rows + 1, (1,), generator=generator))
        draw = torch.rand(count, 7, generator=generator)
        filled = targets[image, :count]
        filled[:, 0] = torch.where(draw[:, 5] < ignored, 1024, (draw[:, 0] * classes).floor())
        filled[:, 1] = draw[:, 1] * (size[1] + 40) - 20
        filled[:, 2] = draw[:, 2] * (size[0] + 40) - 20
        filled[:, 3:5] = 5 + draw[:, 3:5] * 50
        filled[:, 5:] = 0.2 + 0.8 * draw[:, 5:]
    return targets
