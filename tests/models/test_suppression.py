from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.ops import batched_nms

from leod.models.suppression import suppress


def frame_by_frame(corners, scores, classes, frames, threshold):
    rows = []
    for frame in np.unique(frames):
        own = np.flatnonzero(frames == frame)
        arrays = (torch.from_numpy(values[own]) for values in (corners, scores, classes))
        rows.append(own[batched_nms(*arrays, threshold).numpy()])
    return np.concatenate([np.zeros(0, np.int64), *rows])


@pytest.mark.parametrize(
    ("count", "frames", "step"),
    [
        (400, 30, 0.0),
        (400, 30, 8.0),  # equal boxes, equal scores, IoUs on the threshold
        (1500, 1, 0.0),  # so many that each class is on its own
        (1, 1, 0.0),
        (0, 1, 0.0),
    ],
)
@pytest.mark.parametrize("threshold", [0.45, 0.5])
def test_as_torchvision_frame_by_frame(count, frames, step, threshold):
    for seed in range(5):
        random = np.random.default_rng(seed)
        corners = random.uniform(-20, 300, (count, 4)).astype(np.float32)
        corners[:, 2:] = corners[:, :2] + random.uniform(1, 120, (count, 2))
        scores = random.random(count).astype(np.float32)
        if step:
            corners, scores = np.round(corners / step) * np.float32(step), np.round(scores, 1)
        classes = random.integers(0, 3, count)
        of_frame = np.sort(random.integers(0, frames, count))
        found = suppress(corners, scores, classes, of_frame, threshold)
        np.testing.assert_array_equal(found, frame_by_frame(corners, scores, classes, of_frame, threshold))
