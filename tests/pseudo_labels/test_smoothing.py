"""Boxes on straight lines through their tracks, against numpy's fit."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from leod.boxes.dtypes import LABEL_DTYPE
from leod.pseudo_labels.smoothing import smoothed

SIZE = (240, 304)


def boxes_of(rows):
    """Boxes from rows (x, y, w, h, score, t)."""
    boxes = np.zeros(len(rows), LABEL_DTYPE)
    for name, column in zip(("x", "y", "w", "h", "objectness", "t"), zip(*rows, strict=True), strict=True):
        boxes[name] = column
    boxes["class_confidence"] = 1
    return boxes


TRACKS = st.lists(
    st.tuples(
        *(st.integers(0, 2), st.integers(0, 12)),
        *(st.integers(100, 140), st.integers(80, 120), st.integers(20, 40), st.integers(20, 40)),
        *(st.sampled_from([0.25, 0.5, 1.0]), st.sampled_from([0, 0, 0, 99])),
    ),
    min_size=1,
    max_size=25,
    unique_by=lambda row: row[:2],
)


@given(TRACKS, st.integers(1, 6))
@settings(max_examples=80, deadline=None)
def test_each_box_lies_on_the_line_through_its_neighbours(rows, half_width):
    rows = sorted(rows, key=lambda row: row[1])
    boxes = boxes_of([row[2:] for row in rows])
    tracks, frames = (np.array([row[column] for row in rows], np.int64) for column in (0, 1))
    tracks[tracks == 2] = -1
    found = smoothed(boxes, frames, tracks, half_width, SIZE)
    for row, box in enumerate(boxes):
        near = (tracks == tracks[row]) & (np.abs(frames - frames[row]) <= half_width)
        moves = tracks[row] >= 0 and box["t"] == 0 and near.sum() > 1
        weights = np.where(boxes["t"][near] > 0, 1.0, boxes["objectness"][near])
        for column, name in enumerate("xywh"):
            expected = box[name]
            if moves:
                line = np.polyfit(frames[near] - frames[row], boxes[name][near].astype(float), 1, w=np.sqrt(weights))
                expected = line[1]
            np.testing.assert_allclose(found[row, column], expected, rtol=1e-4, atol=1e-3)


def test_boxes_that_leave_the_sensor_are_cut_and_none_loses_its_area():
    rows = [(285 + 3 * frame, 100, 15 - 2 * frame, 20, 0.5, 0) for frame in range(5)]
    rows.append((302.5, 100, 0.5, 20, 0.5, 0))
    boxes = boxes_of(rows)
    found = smoothed(boxes, np.arange(6), np.zeros(6, np.int64), 2, SIZE)
    assert (found[:, 2:] > 0).all()
    assert (found[:, 0] + found[:, 2] <= 303 + 1e-4).all()


def test_boxes_without_scores_have_a_line_too():
    boxes = boxes_of([(10 + frame % 2, 10, 20, 20, 0.0, 0) for frame in range(4)])
    found = smoothed(boxes, np.arange(4), np.zeros(4, np.int64), 3, SIZE)
    np.testing.assert_allclose(found[:, 0], [10.2, 10.4, 10.6, 10.8], rtol=1e-6)
