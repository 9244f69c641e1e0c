"""Weighted box fusion against a plain reference, and what must not change its result."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leod.boxes.dtypes import LABEL_DTYPE
from leod.boxes.operations import ious
from leod.config.schema import MergingConfig
from leod.inference.fusion import fuse_boxes
from leod.inference.merge import ViewCollector
from leod.inference.views import PLAIN, TIME_REVERSED, View
from leod.sequences.frame_boxes import FrameBoxes

FUSION = MergingConfig(method="weighted_box_fusion")


def rows(*boxes):
    """Boxes from rows (x, y, w, h, objectness[, class confidence[, class[, t]]])."""
    found = np.zeros(len(boxes), LABEL_DTYPE)
    for row, box in zip(found, boxes, strict=True):
        x, y, w, h, objectness, confidence, class_id, t = (*box, *(1.0, 0, 0)[len(box) - 5 :])
        row["x"], row["y"], row["w"], row["h"] = x, y, w, h
        row["objectness"], row["class_confidence"], row["class_id"], row["t"] = objectness, confidence, class_id, t
    return found


def fuse(boxes, views, frames=None, shown_by=None, iou_threshold=0.55, confidence_threshold=0.0):
    frames = np.zeros(len(boxes), np.int64) if frames is None else np.asarray(frames, np.int64)
    shown = None if shown_by is None else np.full(len(boxes), shown_by, np.int64)
    return fuse_boxes(
        FrameBoxes(boxes, frames), np.asarray(views, np.int64), shown, confidence_threshold, iou_threshold
    )


def test_corners_are_weighted_and_scores_are_means():
    boxes = rows((10, 10, 20, 20, 0.8, 0.5), (12, 10, 20, 20, 0.4, 0.25))
    found = fuse(boxes, [0, 1]).boxes
    # Weights 0.4 and 0.1.
    np.testing.assert_allclose([found[name][0] for name in "xywh"], [10.4, 10, 20, 20], rtol=1e-6)
    np.testing.assert_allclose(found["objectness"], [0.6], rtol=1e-6)
    np.testing.assert_allclose(found["class_confidence"], [0.375], rtol=1e-6)
    assert found["t"].tolist() == [0]


def test_agreement_counts_each_view_once():
    boxes = rows((10, 10, 20, 20, 0.8), (11, 10, 20, 20, 0.8), (10, 11, 20, 20, 0.8), (60, 60, 20, 20, 0.8))
    found = fuse(boxes, [0, 0, 1, 3], shown_by=4).boxes
    np.testing.assert_allclose(found["objectness"], [0.8 * 2 / 4, 0.8 / 4], rtol=1e-6)
    np.testing.assert_allclose(found["class_confidence"], [1, 1])


def test_classes_and_frames_are_not_fused():
    boxes = rows((10, 10, 20, 20, 0.5), (10, 10, 20, 20, 0.8, 1.0, 1), (10, 10, 20, 20, 0.4))
    found = fuse(boxes, [0, 1, 2], frames=[0, 0, 1])
    assert found.boxes["class_id"].tolist() == [1, 0, 0]
    assert found.frame_indices.tolist() == [0, 0, 1]


def test_frames_with_ground_truth_pass_unchanged():
    boxes = rows((10, 10, 20, 20, 1.0, 1.0, 0, 99), (10, 10, 20, 20, 0.1), (5, 5, 8, 8, 0.5), (5, 5, 8, 8, 0.5))
    found = fuse(boxes, [0, 1, 0, 1], frames=[3, 3, 4, 4], confidence_threshold=0.3)
    assert found.frame_indices.tolist() == [3, 3, 4]
    np.testing.assert_array_equal(found.boxes[:2], boxes[:2])


def test_weak_boxes_take_no_part():
    found = fuse(rows((10, 10, 20, 20, 0.5), (12, 10, 20, 20, 0.2)), [0, 1], confidence_threshold=0.3).boxes
    np.testing.assert_allclose([found["x"][0], found["objectness"][0]], [10, 0.5])


def test_boxes_without_any_score_have_the_plain_mean():
    found = fuse(rows((10, 10, 20, 20, 0.0), (12, 10, 20, 20, 0.0)), [0, 1]).boxes
    np.testing.assert_allclose(found["x"], [11])


def test_nothing_in_nothing_out():
    assert len(fuse(rows(), [])) == 0


def test_views_are_kept_apart_by_the_collector_and_unseen_frames_do_not_count():
    """Read backwards, the last frame of three cannot be seen: there one of one view is all that can agree."""
    collector = ViewCollector(3, (100, 100), -1)
    at = np.array([0, 2], np.int64)
    collector.add(rows((10, 10, 20, 20, 0.8), (30, 10, 20, 20, 0.8)), at, PLAIN)
    collector.add(rows((69, 10, 20, 20, 0.8)), at[:1], View(mirrored=True))
    collector.add(rows((10, 10, 20, 20, 0.8)), at[:1] + 1, TIME_REVERSED)
    found = collector.merged(0.01, 0.45, FUSION)
    assert found.frame_indices.tolist() == [0, 2]
    np.testing.assert_allclose(found.boxes["x"], [10, 30], rtol=1e-6)
    # Frame 0: three of three views. Frame 2: one of the two that show it.
    np.testing.assert_allclose(found.boxes["objectness"], [0.8, 0.4], rtol=1e-6)
    plain = collector.merged(0.01, 0.45, FUSION.model_copy(update={"agreement": False}))
    np.testing.assert_allclose(plain.boxes["objectness"], [0.8, 0.8], rtol=1e-6)


def test_one_view_alone_is_left_as_it_is():
    collector = ViewCollector(3, (100, 100), -1)
    boxes = rows((10, 10, 20, 20, 0.001), (10, 10, 20, 20, 0.8))
    collector.add(boxes, np.array([1, 1]), PLAIN)
    np.testing.assert_array_equal(collector.merged(0.5, 0.45, FUSION).boxes, boxes)


def reference(boxes, views, shown_by, iou_threshold):
    """One frame, as the paper says it."""
    clusters = []
    scores = boxes["objectness"].astype(float) * boxes["class_confidence"]
    for row in np.argsort(-scores, kind="stable"):
        best, best_iou = None, iou_threshold
        for cluster in clusters:
            iou = ious(mean_box(boxes[cluster], scores[cluster]), boxes[[row]])[0, 0]
            if boxes["class_id"][cluster[0]] == boxes["class_id"][row] and iou > best_iou:
                best, best_iou = cluster, iou
        if best is None:
            clusters.append([row])
        else:
            best.append(row)
    fused = []
    for cluster in clusters:
        box = mean_box(boxes[cluster], scores[cluster])[0]
        share = len(set(views[cluster])) / shown_by
        box["objectness"] = boxes["objectness"][cluster].astype(float).mean() * share
        box["class_confidence"] = boxes["class_confidence"][cluster].astype(float).mean()
        fused.append(box)
    return np.array(fused, DOUBLE)


DOUBLE = np.dtype([(name, "u4" if name == "class_id" else "f8") for name in LABEL_DTYPE.names])


def mean_box(boxes, weights):
    mean = np.zeros(1, DOUBLE)
    mean["class_id"] = boxes["class_id"][0]
    for corner, side in ("xw", "yh"):
        start = np.average(boxes[corner].astype(float), weights=weights)
        end = np.average(boxes[corner].astype(float) + boxes[side], weights=weights)
        mean[corner], mean[side] = start, end - start
    return mean


SCORES = st.floats(0.125, 1.0, width=32)
BOXES = st.lists(
    st.tuples(
        *(st.floats(0, 40, width=32), st.floats(0, 40, width=32)),
        *(st.floats(8, 40, width=32), st.floats(8, 40, width=32)),
        *(SCORES, SCORES, st.integers(0, 1)),
    ),
    max_size=14,
)


def assert_same_boxes(found, expected, rtol=2e-5):
    """The same boxes in whatever order."""
    assert len(found) == len(expected)
    names = ("class_id", "x", "y", "w", "h", "objectness", "class_confidence")
    tables = [np.stack([boxes[name].astype(float) for name in names], axis=1) for boxes in (found, expected)]
    tables = [table[np.lexsort(table.round(3).T)] for table in tables]
    np.testing.assert_allclose(*tables, rtol=rtol, atol=1e-4)


# Such thresholds no IoU of round numbers meets exactly, where rounding would decide.
@given(BOXES, st.randoms(use_true_random=False), st.floats(0.3, 0.8).map(lambda value: value + 3.14159e-4))
@settings(max_examples=80, deadline=None)
def test_equal_to_the_plain_reference(boxes, random, iou_threshold):
    boxes = rows(*boxes)
    views = np.array([random.randrange(4) for _ in boxes], np.int64)
    found = fuse(boxes, views, shown_by=4, iou_threshold=iou_threshold).boxes
    assert_same_boxes(found, reference(boxes, views, 4, iou_threshold))
    products = found["objectness"] * found["class_confidence"]
    assert (np.diff(products) <= 1e-6).all()


@given(BOXES)
@settings(max_examples=40, deadline=None)
def test_four_equal_views_are_as_one(boxes):
    # What one view has left after its own suppression: boxes that are far apart.
    boxes = rows(*((100 * i, *box[1:]) for i, box in enumerate(boxes)))
    one = fuse(boxes, np.zeros(len(boxes), int), shown_by=1)
    four = fuse(np.concatenate([boxes] * 4), np.repeat(np.arange(4), len(boxes)), shown_by=4)
    assert_same_boxes(one.boxes, boxes, rtol=1e-6)
    assert_same_boxes(four.boxes, boxes, rtol=1e-6)


@given(BOXES, st.permutations(range(4)), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_order_of_the_views_does_not_matter(boxes, permutation, random):
    # No two boxes score the same: what stands first among equals is served first.
    boxes = rows(*((*box[:4], 0.25 + i / 32, 1.0, box[6]) for i, box in enumerate(boxes)))
    views = np.array([random.randrange(4) for _ in boxes], np.int64)
    order = np.argsort(np.array(permutation)[views], kind="stable")
    found, other = (fuse(boxes[o], views[o], shown_by=4) for o in (np.argsort(views, kind="stable"), order))
    assert_same_boxes(other.boxes, found.boxes, rtol=1e-6)


@pytest.mark.parametrize("threshold", [0.34, 0.33])
def test_only_an_overlap_above_the_threshold_joins(threshold):
    # Two 10 × 10 boxes 5 apart: IoU = 50 / 150.
    found = fuse(rows((10, 10, 10, 10, 0.9), (15, 10, 10, 10, 0.8)), [0, 1], iou_threshold=threshold)
    assert len(found) == (2 if threshold > 1 / 3 else 1)
