"""Score thresholds and box filter."""

import numpy as np
import pytest

from leod.config.schema import BoxFilterConfig, ScoreThreshold
from leod.pseudo_labels.filtering import ScoreThresholds, plausible_boxes, select_pseudo_labels

SIZE = (100, 200)
BOX_FILTER = BoxFilterConfig(min_side=5.0, max_width_fraction=0.9)


def detections(*rows):
    return np.array(rows, np.float32).reshape(-1, 7)


def test_both_scores_must_exceed_the_threshold_of_their_class():
    thresholds = ScoreThresholds.from_settings(
        {"car": 0.5, "pedestrian": ScoreThreshold(objectness=0.25, class_confidence=0.75)}, ("pedestrian", "car")
    )
    rows = detections(
        (10, 10, 30, 30, 0.5, 0.9, 1),  # objectness only as high as the threshold
        (10, 10, 30, 30, 0.6, 0.9, 1),
        (10, 10, 30, 30, 0.3, 0.8, 0),
        (10, 10, 30, 30, 0.9, 0.75, 0),  # class confidence only as high as the threshold
    )
    labels, kept = select_pseudo_labels(rows, SIZE, thresholds, BOX_FILTER)
    np.testing.assert_array_equal(kept, [False, True, True, False])
    np.testing.assert_array_equal(labels["class_id"], [1, 0])
    np.testing.assert_array_equal(labels["t"], 0)
    np.testing.assert_allclose(labels["objectness"], [0.6, 0.3], rtol=1e-6)
    np.testing.assert_allclose(labels["class_confidence"], [0.9, 0.8], rtol=1e-6)


def test_class_without_a_threshold_gets_no_pseudo_labels():
    thresholds = ScoreThresholds.from_settings({"car": 0.0}, ("car", "bus"))
    rows = detections(*((10, 10, 30, 30, 1, 1, class_id) for class_id in (0, 1, 2)))
    _, kept = select_pseudo_labels(rows, SIZE, thresholds, None)
    np.testing.assert_array_equal(kept, [True, False, False])


@pytest.mark.parametrize(
    ("corners", "cut", "is_kept"),
    [
        ((10, 10, 15, 15), (10, 10, 15, 15), True),  # just large enough
        ((10, 10, 14.9, 30), (10, 10, 14.9, 30), False),  # too narrow
        ((-20, -5, 30, 30), (0, 0, 30, 30), True),  # sticks out at the top left
        ((190, 90, 300, 300), (190, 90, 199, 99), True),  # sticks out at the bottom right
        ((196, 10, 300, 30), (196, 10, 199, 30), False),  # too narrow inside the frame
        ((210, 10, 250, 30), (199, 10, 199, 30), False),  # outside
        ((5, 10, 185, 30), (5, 10, 185, 30), True),  # 0.9 of the width
        ((5, 10, 185.5, 30), (5, 10, 185.5, 30), False),  # wider
    ],
)
def test_boxes_are_cut_at_the_border_and_judged_by_what_remains(corners, cut, is_kept):
    found, keep = plausible_boxes(np.array([corners], np.float32), SIZE, BOX_FILTER)
    np.testing.assert_allclose(found[0], cut, rtol=1e-6)
    assert keep[0] == is_kept


def test_least_diagonal():
    boxes = np.array([(0, 0, 30, 40), (0, 0, 30, 39)], np.float32)
    np.testing.assert_array_equal(plausible_boxes(boxes, SIZE, BoxFilterConfig(min_diagonal=50.0))[1], [True, False])


def test_no_detections():
    labels, kept = select_pseudo_labels(
        detections(), SIZE, ScoreThresholds.from_settings({"car": 0.5}, ("car",)), BOX_FILTER
    )
    assert len(labels) == len(kept) == 0
