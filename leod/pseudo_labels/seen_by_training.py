"""What the next training sees of hidden objects: which are taught as objects, which are left alone, which are denied.

A pseudo-labelled frame is complete for the loss: each anchor is an object, ignored, or background. An object without a
label therefore is not only missed, it is taught as background; a weak label of it that is ignored prevents that. In
frames without any label there is no loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from leod.boxes.operations import is_ignored
from leod.pseudo_labels.quality import ALL_CLASSES, IOU_THRESHOLDS, decided, overlaps
from leod.sequences.frame_boxes import FrameBoxes

COVERED_IOU = 0.4
"""An object that a label overlaps by more than this is not taught as background.

The loss ignores an anchor that lies within 1.5 strides of an ignored box's centre (`leod.models.assignment`), whatever
the box's size, so label and object need not agree as well as for a right label.
"""

_COVERED_IOUS = (0.25, COVERED_IOU, 0.5)
_RIGHT_IOU = np.float32(0.5)


def taken_as_objects(
    boxes: np.ndarray, classes: SequenceOf[str], ignore_thresholds: Mapping[str, float] | None
) -> npt.NDArray[np.bool_]:
    """Tell which labels the loss takes as objects, see `leod.models.loss.DetectionLoss.mark_ignored`.

    Args:
        boxes: `LABEL_DTYPE` [n]; ignored ones have class id 1024.
        classes: Class names in label-id order.
        ignore_thresholds: The loss's: class name → labels with a score below are ignored; None = all count.

    Returns:
        bool [n].
    """
    positive = ~is_ignored(boxes)
    for class_id, name in enumerate(classes):
        threshold = np.float32((ignore_thresholds or {}).get(name, 0.0))
        low = (boxes["objectness"] < threshold) | (boxes["class_confidence"] < threshold)
        positive &= ~(low & (boxes["class_id"] == class_id))
    return positive


@dataclass
class _Tally:
    """Counts of one class."""

    positives: int = 0
    right: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(IOU_THRESHOLDS), np.int64))
    doubled: int = 0
    objects: int = 0
    found: int = 0
    covered: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(_COVERED_IOUS), np.int64))
    taught_as_background: int = 0
    in_unlabelled_frames: int = 0

    def summary(self) -> dict[str, Any]:
        """Counts and shares as plain JSON data; None where there is nothing to divide by."""

        def of_objects(count: int) -> float | None:
            return int(count) / self.objects if self.objects else None

        return {
            "positives": self.positives,
            **{
                f"precision_{iou * 100:.0f}": int(right) / self.positives if self.positives else None
                for iou, right in zip(IOU_THRESHOLDS, self.right, strict=True)
            },
            "doubled": self.doubled,
            "objects": self.objects,
            "found": of_objects(self.found),
            **{
                f"found_or_ignored_{iou * 100:.0f}": of_objects(covered)
                for iou, covered in zip(_COVERED_IOUS, self.covered, strict=True)
            },
            "taught_as_background": of_objects(self.taught_as_background),
            "in_unlabelled_frames": of_objects(self.in_unlabelled_frames),
        }


class TrainingTally:
    """What training sees of hidden objects, gathered sequence by sequence.

    Args:
        classes: Class names in label-id order.
        ignore_thresholds: Those of the loss, see `taken_as_objects`.
    """

    def __init__(self, classes: SequenceOf[str], ignore_thresholds: Mapping[str, float] | None) -> None:
        self._classes = tuple(classes)
        self._ignore_thresholds = ignore_thresholds
        self._tallies = {name: _Tally() for name in (*self._classes, ALL_CLASSES)}

    def add(self, ground_truth: FrameBoxes, labels: FrameBoxes) -> None:
        """Add hidden frames of one sequence.

        Args:
            ground_truth: All ground truth of the frames, in pixels; labels in ignored boxes of it do not count.
            labels: All labels of the pseudo-labelled data set in these frames, ignored and inpainted ones included.
        """
        objects = ground_truth.select(~is_ignored(ground_truth.boxes))
        positives = decided(
            ground_truth, labels.select(taken_as_objects(labels.boxes, self._classes, self._ignore_thresholds))
        )
        best = overlaps(objects, positives)
        covered = overlaps(objects, labels).ground_truth_any_class[:, None] > np.array(_COVERED_IOUS, np.float32)
        found = best.ground_truth > _RIGHT_IOU
        right = best.pseudo[:, None] > np.array(IOU_THRESHOLDS, np.float32)
        first = np.zeros(len(positives), bool)
        is_right = best.pseudo > _RIGHT_IOU
        first[np.flatnonzero(is_right)[np.unique(best.pseudo_object[is_right], return_index=True)[1]]] = True
        in_labelled_frames = np.isin(objects.frame_indices, labels.frame_indices)
        denied = in_labelled_frames & ~covered[:, _COVERED_IOUS.index(COVERED_IOU)]
        for class_id, name in enumerate((*self._classes, ALL_CLASSES)):
            is_object, is_positive = (
                np.ones(len(boxes), bool) if name == ALL_CLASSES else boxes.boxes["class_id"] == class_id
                for boxes in (objects, positives)
            )
            tally = self._tallies[name]
            tally.positives += int(is_positive.sum())
            tally.right += right[is_positive].sum(axis=0)
            tally.doubled += int((is_right & ~first & is_positive).sum())
            tally.objects += int(is_object.sum())
            tally.found += int(found[is_object].sum())
            tally.covered += covered[is_object].sum(axis=0)
            tally.taught_as_background += int(denied[is_object].sum())
            tally.in_unlabelled_frames += int((~in_labelled_frames)[is_object].sum())

    def summary(self) -> dict[str, Any]:
        """Class name (and 'all') → counts and shares.

        ``positives``: labels that the loss takes as objects; ``precision_T``: share of them whose best object of their
        class has an IoU above T percent; ``doubled``: positives right at IoU 0.5 beyond the first on one object;
        ``objects``: hidden objects; ``found``: share of them that a positive of their class overlaps above IoU 0.5;
        ``found_or_ignored_T``: share that any label overlaps above T percent, positive of any class or ignored;
        ``taught_as_background``: share that no label overlaps above `COVERED_IOU`, in frames with labels;
        ``in_unlabelled_frames``: share in frames without any label, which training leaves out.
        """
        return {name: tally.summary() for name, tally in self._tallies.items()}
