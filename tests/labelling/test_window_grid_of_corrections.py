"""A label at the end of a window leaves the windows where they are, so that a correction lands in its frame."""

from __future__ import annotations

import numpy as np
import pytest

from leod.boxes.dtypes import RECORDING_BOX_DTYPE
from leod.config.schema import LabelTimesConfig
from leod.sequences.label_times import LabelledFrames, select_frames
from leod.sequences.window_grid import WindowGrid

WINDOW_US = 50_000
FIRST_EVENT_US, LAST_EVENT_US = 1_790_000_000_123_457, 1_790_000_004_456_789


def windows(label_times_us: list[int]) -> tuple[np.ndarray, list[int]]:
    """Ends of the windows, and which are labelled frames, as `preprocess` has them."""
    boxes = np.zeros(len(label_times_us), RECORDING_BOX_DTYPE)
    boxes["t"] = sorted(label_times_us)
    frames = select_frames(boxes, LabelTimesConfig(), WINDOW_US, FIRST_EVENT_US) or LabelledFrames.none()
    grid = WindowGrid(frames, WINDOW_US, FIRST_EVENT_US)
    return grid.finish(LAST_EVENT_US), grid.labelled_frames


@pytest.mark.parametrize("seed", range(8))
def test_every_window_can_be_labelled_without_moving_the_others(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labelled = (FIRST_EVENT_US + rng.choice(np.arange(100_000, 4_300_000), seed, replace=False)).tolist()
    ends, before = windows(labelled)
    assert len(before) == len(labelled)
    late_enough = np.flatnonzero(ends >= FIRST_EVENT_US + LabelTimesConfig().first_us)
    for frame in np.setdiff1d(late_enough, before).tolist():
        if ends[frame] > LAST_EVENT_US:
            continue
        moved, now = windows([*labelled, int(ends[frame])])
        assert now == sorted([*before, frame])
        assert moved[frame] == ends[frame]
        assert len(moved) == len(ends)
        # Between two labels the ends of windows are rounded to microseconds.
        assert np.abs(moved - ends).max() <= 1
