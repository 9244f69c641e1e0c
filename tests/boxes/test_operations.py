"""Geometry of labels: numbers worked out by hand, and properties that hold for every box."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_rows import from_label_rows, from_yolox, to_detection_rows, to_label_rows

from leod.boxes import operations as boxes
from leod.boxes.dtypes import IGNORED_CLASS_ID, LABEL_DTYPE, RECORDING_BOX_DTYPE

SIZE = (240, 304)


def label(x, y, w, h, t=250_000, class_id=0, class_confidence=1.0, objectness=1.0):
    return np.array([(t, x, y, w, h, class_id, class_confidence, objectness)], LABEL_DTYPE)


def xywh(labels):
    return np.stack([labels[name] for name in "xywh"], -1)


@st.composite
def label_arrays(draw):
    """Boxes inside the frame, at least a pixel large."""
    rows = [
        (
            draw(st.integers(0, 2**50)),
            x := draw(st.integers(0, 8 * 290)) / 8,
            y := draw(st.integers(0, 8 * 230)) / 8,
            draw(st.floats(1, 303 - x)),
            draw(st.floats(1, 239 - y)),
            draw(st.sampled_from([0, 1, IGNORED_CLASS_ID])),
            draw(st.floats(0, 1, width=32)),
            draw(st.floats(0, 1, width=32)),
        )
        for _ in range(draw(st.integers(0, 6)))
    ]
    return np.array(rows, LABEL_DTYPE)


def test_rows_have_the_published_size():
    assert LABEL_DTYPE.itemsize == RECORDING_BOX_DTYPE.itemsize == 40
    joined = np.concatenate([np.zeros(1, LABEL_DTYPE), np.zeros(2, LABEL_DTYPE)])
    assert joined.dtype == LABEL_DTYPE


@pytest.mark.parametrize(
    ("operation", "box", "expected"),
    [
        (lambda b: boxes.flip_left_right(b, SIZE), (10, 20, 30, 40), (263, 20, 30, 40)),  # 304 - 1 - 10 - 30
        (lambda b: boxes.clamp(b, SIZE), (-5, 230, 10, 20), (0, 230, 5, 9)),  # over the left and bottom border
        (lambda b: boxes.scale(b, SIZE, 2), (10, 20, 30, 40), (20, 40, 60, 80)),  # enlarged
        (
            lambda b: boxes.scale(b, SIZE, 0.5),
            (250, 20, 53, 40),
            (125, 10, 26, 20),
        ),  # right edge cut at 151
        (lambda b: boxes.rotate(b, SIZE, 90), (152, 110, 20, 10), (142, 100, 10, 20)),  # right of the centre goes above
        (lambda b: boxes.rotate(b, SIZE, 0), (10, 20, 30, 40), (10, 20, 30, 40)),  # no rotation
        (lambda b: boxes.zoom_in(b, SIZE, (50, 60), 2), (60, 70, 20, 10), (20, 20, 40, 20)),  # inside the window
        (lambda b: boxes.zoom_in(b, SIZE, (50, 60), 2), (40, 70, 20, 10), (0, 20, 20, 20)),  # cut by the window
        (lambda b: boxes.zoom_out(b, SIZE, (5, 7), 2), (60, 70, 20, 10), (35, 42, 10, 5)),  # halved and moved
    ],
)
def test_operation(operation, box, expected):
    before = label(*box)
    moved = operation(before)
    np.testing.assert_allclose(xywh(moved), [expected], atol=1e-4)
    np.testing.assert_array_equal(xywh(before), [box])  # the input is untouched
    assert moved["t"][0] == 250_000


@pytest.mark.parametrize(
    "operation",
    [
        lambda b: boxes.zoom_in(b, SIZE, (100, 100), 2),  # outside the window
        lambda b: boxes.rotate(b, SIZE, 45),  # turned out of the corner
        lambda b: boxes.remove_flat(boxes.clamp(b, (240, 2))),  # outside the frame
    ],
)
def test_lost_boxes_are_dropped(operation):
    assert len(operation(label(2, 3, 5, 5))) == 0


@settings(deadline=None)
@given(label_arrays())
def test_flipping_twice_changes_nothing(labels):
    twice = boxes.flip_left_right(boxes.flip_left_right(labels, SIZE), SIZE)
    np.testing.assert_allclose(xywh(twice), xywh(labels), atol=1e-3)


@settings(deadline=None)
@given(label_arrays(), st.floats(-60, 60), st.floats(1, 2), st.integers(0, 100))
def test_results_stay_in_the_frame_and_keep_their_time(labels, degrees, factor, corner):
    height, width = SIZE
    for moved in (
        boxes.clamp(labels, SIZE),
        boxes.rotate(labels, SIZE, degrees),
        boxes.zoom_in(labels, SIZE, (corner, corner), factor),
    ):
        assert (moved["x"] >= 0).all()
        assert (moved["y"] >= 0).all()
        assert (moved["x"] + moved["w"] <= width - 1 + 1e-3).all()
        assert (moved["y"] + moved["h"] <= height - 1 + 1e-3).all()
        assert np.isin(moved["t"], labels["t"]).all()


@settings(deadline=None)
@given(label_arrays())
def test_conversions_round_trip(labels):
    for there, back in (
        (boxes.to_yolox, from_yolox),
        (to_detection_rows, boxes.from_detection_rows),
        (to_label_rows, from_label_rows),
    ):
        restored = back(there(labels))
        np.testing.assert_allclose(xywh(restored), xywh(labels), atol=1e-3)
        for name in ("class_id", "class_confidence", "objectness"):
            np.testing.assert_array_equal(restored[name], labels[name])


def test_time_beyond_float32_is_exact():
    labels = label(10, 20, 30, 40, t=59_999_999)
    for moved in (boxes.flip_left_right(labels, SIZE), boxes.rotate(labels, SIZE, 5), boxes.scale(labels, SIZE, 0.5)):
        assert moved["t"][0] == 59_999_999


def test_padding_goes_to_the_end():
    frames = [boxes.to_yolox(label(10, 20, 30, 40, class_id=1)), np.zeros((0, 7), np.float32)]
    padded = boxes.pad_rows(frames, minimum_rows=3)
    assert padded.shape == (2, 3, 7)
    np.testing.assert_allclose(padded[0, 0], [1, 25, 40, 30, 40, 1, 1])
    assert not padded[0, 1:].any()
    assert not padded[1].any()


def test_no_boxes():
    empty = np.zeros(0, LABEL_DTYPE)
    assert len(boxes.rotate(empty, SIZE, 5)) == len(boxes.zoom_in(empty, SIZE, (0, 0), 1.5)) == 0
    assert boxes.to_yolox(empty).shape == (0, 7)
    assert boxes.pad_rows([boxes.to_yolox(empty)]).shape == (1, 0, 7)


def test_masks():
    labels = np.concatenate(
        [label(0, 0, 5, 5), label(0, 0, 5, 5, t=0), label(0, 0, 5, 5, t=0, class_id=IGNORED_CLASS_ID)]
    )
    assert boxes.is_ground_truth(labels).tolist() == [True, False, False]
    assert boxes.is_pseudo_label(labels).tolist() == [False, True, True]
    assert boxes.is_ignored(labels).tolist() == [False, False, True]
