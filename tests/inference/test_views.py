from __future__ import annotations

import numpy as np
import pytest

from leod.boxes.dtypes import LABEL_DTYPE
from leod.config.schema import ViewsConfig
from leod.inference.views import View, frames_to_read, scale_boxes, true_frames, views_of


def box(x, y, w, h):
    return np.array([(0, x, y, w, h, 0, 0.9, 0.8)], dtype=LABEL_DTYPE)


@pytest.mark.parametrize(
    ("mirror", "time_reversal", "names"),
    [
        (False, False, ["plain"]),
        (True, False, ["plain", "mirrored"]),
        (False, True, ["plain", "reversed"]),
        (True, True, ["plain", "mirrored", "reversed", "mirrored-reversed"]),
    ],
)
def test_views_of_a_configuration(mirror, time_reversal, names):
    views = views_of(ViewsConfig(mirror=mirror, time_reversal=time_reversal))
    assert [view.name for view in views] == names


def test_reversed_frames_shift_by_the_offset_and_back():
    frames = np.arange(4)
    view = View(time_reversed=True)
    assert true_frames(frames, view, -2).tolist() == [-2, -1, 0, 1]
    np.testing.assert_array_equal(frames_to_read(true_frames(frames, view, -2), view, -2), frames)
    np.testing.assert_array_equal(true_frames(frames, View(mirrored=True), -2), frames)


@pytest.mark.parametrize(
    ("original", "expected"),
    [
        ((10, 10, 5, 5), (20, 20, 10, 10)),  # inside
        ((-3, -4, 10, 10), (-6, -8, 20, 20)),  # left and top edges are not clamped
        ((45, 35, 10, 10), (90, 70, 9, 9)),  # right and bottom edges are: 99 - 90, 79 - 70
        ((60, 10, 5, 5), None),  # wholly outside on the right: no area left
    ],
)
def test_scaling_clamps_right_and_bottom_only(original, expected):
    scaled, kept = scale_boxes(box(*original), 2, (80, 100))
    assert kept.tolist() == [expected is not None]
    assert [tuple(float(row[name]) for name in "xywh") for row in scaled] == ([expected] if expected else [])
