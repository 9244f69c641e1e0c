"""What training sees of hidden objects, on frames small enough to check by hand."""

import numpy as np
import pytest
import torch

from leod.boxes.dtypes import IGNORED_CLASS_ID, LABEL_DTYPE
from leod.boxes.operations import to_yolox
from leod.config.schema import LossConfig
from leod.models.loss import DetectionLoss
from leod.pseudo_labels.seen_by_training import TrainingTally, taken_as_objects
from leod.sequences.frame_boxes import FrameBoxes

CLASSES = ("car", "pedestrian")


def boxes(*rows):
    """Boxes from rows (frame, x, y, w, h, class[, both scores])."""
    found = np.zeros(len(rows), LABEL_DTYPE)
    for column, name in enumerate(("x", "y", "w", "h", "class_id"), start=1):
        found[name] = [row[column] for row in rows]
    found["class_confidence"] = found["objectness"] = [row[6] if len(row) > 6 else 1.0 for row in rows]
    return FrameBoxes(found, np.array([row[0] for row in rows], np.int64))


TRUTH = boxes(
    (0, 0, 0, 10, 10, 0),
    (0, 50, 50, 10, 10, 0),
    (1, 0, 0, 10, 10, 0),
    (1, 20, 20, 10, 10, 1),
    (1, 60, 60, 10, 10, IGNORED_CLASS_ID),
    (2, 0, 0, 10, 10, 1),
)
LABELS = boxes(
    (0, 0, 0, 10, 10, 0, 0.9),  # right
    (0, 0, 0, 10, 8, 0, 0.8),  # the same object again
    (0, 80, 80, 10, 10, 1, 0.9),  # wrong
    (1, 0, 0, 10, 4.5, 0, 0.3),  # below the loss's threshold; covers its object by 0.45
    (1, 20, 20, 10, 10, IGNORED_CLASS_ID, 0.0),  # inpainted
    (1, 61, 61, 8, 8, 1, 0.9),  # on ignored ground truth: neither right nor wrong
)


def test_objects_are_found_ignored_or_taught_as_background():
    tally = TrainingTally(CLASSES, {"car": 0.5})
    tally.add(TRUTH, LABELS)
    found = tally.summary()
    car, pedestrian = found["car"], found["pedestrian"]
    assert (car["positives"], car["precision_50"], car["precision_75"], car["doubled"]) == (2, 1, 1, 1)
    assert (car["objects"], car["found"]) == (3, pytest.approx(1 / 3))
    assert [car[f"found_or_ignored_{iou}"] for iou in (25, 40, 50)] == pytest.approx([2 / 3, 2 / 3, 1 / 3])
    assert car["taught_as_background"] == pytest.approx(1 / 3)
    assert car["in_unlabelled_frames"] == 0
    # Nothing is labelled in frame 2, so there is no loss that could deny its pedestrian.
    assert (pedestrian["positives"], pedestrian["precision_25"], pedestrian["found"]) == (1, 0, 0)
    assert pedestrian["taught_as_background"] == 0
    assert pedestrian["in_unlabelled_frames"] == pedestrian["found_or_ignored_40"] == 0.5
    assert (found["all"]["positives"], found["all"]["objects"], found["all"]["doubled"]) == (3, 5, 1)
    assert found["all"]["precision_50"] == pytest.approx(2 / 3)


def test_without_thresholds_weak_labels_teach_too():
    tally = TrainingTally(CLASSES, None)
    tally.add(TRUTH, LABELS)
    assert tally.summary()["car"]["positives"] == 3
    assert tally.summary()["car"]["precision_25"] == 1
    assert tally.summary()["car"]["precision_50"] == pytest.approx(2 / 3)


def test_sequences_add_up_and_nothing_is_no_division():
    tally = TrainingTally(CLASSES, {"car": 0.5})
    assert tally.summary()["all"]["found"] is tally.summary()["all"]["precision_50"] is None
    tally.add(TRUTH, LABELS)
    once = tally.summary()["all"]
    tally.add(TRUTH, LABELS)
    twice = tally.summary()["all"]
    assert (twice["positives"], twice["objects"]) == (2 * once["positives"], 2 * once["objects"])
    assert twice["taught_as_background"] == once["taught_as_background"]


def test_the_loss_takes_the_same_labels_as_objects():
    rng = np.random.default_rng(0)
    thresholds = {"car": 0.3, "pedestrian": 0.7}
    labels = np.zeros(500, LABEL_DTYPE)
    labels["w"] = labels["h"] = 10
    labels["class_id"] = rng.choice([0, 1, IGNORED_CLASS_ID], len(labels))
    for name in ("objectness", "class_confidence"):
        # Scores that lie exactly on the thresholds are among them.
        labels[name] = rng.choice([0.1, 0.3, 0.5, 0.7, 0.9], len(labels))
    for config in (None, thresholds):
        loss = DetectionLoss(LossConfig(ignore_thresholds=config), CLASSES)
        marked = loss.mark_ignored(torch.from_numpy(to_yolox(labels))[None])[0, :, 0]
        positive = taken_as_objects(labels, CLASSES, config)
        np.testing.assert_array_equal(positive, marked.numpy() != IGNORED_CLASS_ID)
        assert 0 < positive.sum() < len(labels)
