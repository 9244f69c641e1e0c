"""How good pseudo-labels are, measured against ground truth that was hidden from training.

The measures are those of the public repository Wuziyi616/LEOD (`modules/utils/ssod.py`): per frame and class, the share
of ground-truth boxes that some pseudo-label covers (recall) and the share of pseudo-labels that cover some ground truth
(precision), averaged over the frames that hold the class. Boxes are not matched one to one, and an IoU counts when it
is strictly above the threshold. Frames without ground truth of a class do not count for it, so wrong boxes there are
free; the shares over all boxes that are given beside it do not have this gap.
"""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from leod.boxes.operations import is_ignored
from leod.jit import compiled
from leod.sequences.frame_boxes import FrameBoxes

IOU_THRESHOLDS = (0.25, 0.5, 0.75)
SCORE_BINS = 20
ALL_CLASSES = "all"
SCORES = ("class_confidence", "objectness", "product")


@dataclass(frozen=True)
class Overlaps:
    """Best IoU of every box with the boxes of the other kind in its frame; 0 where there are none.

    Attributes:
        ground_truth: float32 [n], best IoU of a ground-truth box with a pseudo-label of its class.
        pseudo: float32 [m], best IoU of a pseudo-label with ground truth of its class.
        pseudo_any_class: float32 [m], best IoU of a pseudo-label with ground truth of whatever class.
        ground_truth_any_class: float32 [n], best IoU of a ground-truth box with a pseudo-label of whatever class.
        pseudo_object: int64 [m], the ground-truth box with which a pseudo-label has that best IoU; -1 = none.
    """

    ground_truth: npt.NDArray[np.float32]
    pseudo: npt.NDArray[np.float32]
    pseudo_any_class: npt.NDArray[np.float32]
    ground_truth_any_class: npt.NDArray[np.float32]
    pseudo_object: npt.NDArray[np.int64]


@compiled
def _best_ious(
    ground_truth: npt.NDArray[np.float32],
    ground_truth_class: npt.NDArray[np.int64],
    ground_truth_frame: npt.NDArray[np.int64],
    pseudo: npt.NDArray[np.float32],
    pseudo_class: npt.NDArray[np.int64],
    pseudo_frame: npt.NDArray[np.int64],
) -> tuple[
    npt.NDArray[np.float32],
    npt.NDArray[np.float32],
    npt.NDArray[np.float32],
    npt.NDArray[np.float32],
    npt.NDArray[np.int64],
]:
    """Compare corners [n, 4] and [m, 4] frame by frame; both must be sorted by frame."""
    best_ground_truth = np.zeros(len(ground_truth), np.float32)
    best_pseudo = np.zeros(len(pseudo), np.float32)
    best_any = np.zeros(len(pseudo), np.float32)
    best_ground_truth_any = np.zeros(len(ground_truth), np.float32)
    nearest = np.full(len(pseudo), -1, np.int64)
    start = 0
    for i in range(len(ground_truth)):
        while start < len(pseudo) and pseudo_frame[start] < ground_truth_frame[i]:
            start += 1
        j = start
        while j < len(pseudo) and pseudo_frame[j] == ground_truth_frame[i]:
            a, b = ground_truth[i], pseudo[j]
            width = min(a[2], b[2]) - max(a[0], b[0])
            height = min(a[3], b[3]) - max(a[1], b[1])
            if width > 0 and height > 0:
                intersection = width * height
                union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - intersection
                iou = intersection / union
                best_any[j] = max(best_any[j], iou)
                best_ground_truth_any[i] = max(best_ground_truth_any[i], iou)
                if ground_truth_class[i] == pseudo_class[j]:
                    if iou > best_pseudo[j]:
                        nearest[j] = i
                    best_pseudo[j] = max(best_pseudo[j], iou)
                    best_ground_truth[i] = max(best_ground_truth[i], iou)
            j += 1
    return best_ground_truth, best_pseudo, best_any, best_ground_truth_any, nearest


def _corners(boxes: np.ndarray) -> npt.NDArray[np.float32]:
    x, y = boxes["x"], boxes["y"]
    return np.stack([x, y, x + boxes["w"], y + boxes["h"]], axis=1).astype(np.float32)


def overlaps(ground_truth: FrameBoxes, pseudo: FrameBoxes) -> Overlaps:
    """Compare the boxes of every frame, in the same pixels; returns the best IoUs of either."""
    return Overlaps(*_best_ious(*_columns(ground_truth), *_columns(pseudo)))


def _columns(found: FrameBoxes) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Corners [n, 4], classes and frames."""
    frames = np.ascontiguousarray(found.frame_indices, np.int64)
    return _corners(found.boxes), found.boxes["class_id"].astype(np.int64), frames


def decided(ground_truth: FrameBoxes, found: FrameBoxes) -> FrameBoxes:
    """Leave out boxes that are neither right nor wrong: half or more of them is ignored, and they are on no object.

    Args:
        ground_truth: In pixels; boxes of class id 1024 are ignored.
        found: Detections or pseudo-labels in pixels of the same frames.
    """
    counts = np.ones(len(found), bool)
    regions = is_ignored(ground_truth.boxes)
    for frame in np.unique(ground_truth.frame_indices[regions]).tolist():
        rows = np.flatnonzero(found.frame_indices == frame)
        ignored = _corners(ground_truth.boxes[regions & (ground_truth.frame_indices == frame)])
        objects = _corners(ground_truth.boxes[~regions & (ground_truth.frame_indices == frame)])
        for row, box in zip(rows.tolist(), _corners(found.boxes[rows]), strict=True):
            shared = _shared_areas(box, ignored).max(initial=0.0)
            counts[row] = 2 * shared < np.prod(box[2:] - box[:2]) or _shared_areas(box, objects).any()
    return found.select(counts)


def _shared_areas(box: npt.NDArray[np.float32], others: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Areas that corners [4] share with corners [k, 4]."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    return np.prod(np.maximum(sides, 0), axis=1)


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


@dataclass
class _Tally:
    """Sums over frames and boxes of one class, from which all shares follow."""

    frames: int = 0
    frame_recall: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(IOU_THRESHOLDS)))
    frame_precision: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(IOU_THRESHOLDS)))
    pseudo_in_frames: int = 0
    ground_truth: int = 0
    covered: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(IOU_THRESHOLDS)))
    pseudo: int = 0
    correct: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(IOU_THRESHOLDS)))

    def add(
        self,
        ground_truth_iou: npt.NDArray[np.float32],
        ground_truth_frames: npt.NDArray[np.int64],
        pseudo_iou: npt.NDArray[np.float32],
        pseudo_frames: npt.NDArray[np.int64],
    ) -> None:
        """Add the boxes of some frames, each frame as a whole."""
        thresholds = np.array(IOU_THRESHOLDS, np.float32)
        covered = ground_truth_iou[:, None] > thresholds
        correct = pseudo_iou[:, None] > thresholds
        self.ground_truth += len(covered)
        self.covered += covered.sum(axis=0)
        self.pseudo += len(correct)
        self.correct += correct.sum(axis=0)

        frames, row = np.unique(ground_truth_frames, return_inverse=True)
        self.frames += len(frames)
        in_frames = np.isin(pseudo_frames, frames)
        self.pseudo_in_frames += int(in_frames.sum())
        pseudo_row = np.searchsorted(frames, pseudo_frames[in_frames])
        ground_truth_count = np.bincount(row, minlength=len(frames))
        pseudo_count = np.bincount(pseudo_row, minlength=len(frames))
        for index in range(len(thresholds)):
            covered_count = np.bincount(row, covered[:, index], len(frames))
            correct_count = np.bincount(pseudo_row, correct[in_frames, index], len(frames))
            self.frame_recall[index] += (covered_count / ground_truth_count).sum()
            self.frame_precision[index] += (correct_count / np.maximum(pseudo_count, 1)).sum()

    def summary(self) -> dict[str, Any]:
        """The shares as plain JSON data; None where there is nothing to divide by."""
        names = [f"{threshold * 100:.0f}" for threshold in IOU_THRESHOLDS]
        result: dict[str, Any] = {"frames": self.frames}
        for kind, sums, whole in (
            ("recall", self.frame_recall, self.frames),
            ("precision", self.frame_precision, self.frames),
            ("box_recall", self.covered, self.ground_truth),
            ("box_precision", self.correct, self.pseudo),
        ):
            result |= {f"{kind}_{name}": _share(float(value), whole) for name, value in zip(names, sums, strict=True)}
        return result | {
            "ground_truth_boxes": self.ground_truth,
            "pseudo_boxes": self.pseudo,
            "ground_truth_boxes_per_frame": _share(self.ground_truth, self.frames),
            "pseudo_boxes_per_frame": _share(self.pseudo_in_frames, self.frames),
        }


class QualityTally:
    """Precision and recall of pseudo-labels, gathered sequence by sequence.

    Args:
        classes: Class names in label-id order.
    """

    def __init__(self, classes: SequenceOf[str]) -> None:
        self._classes = tuple(classes)
        self._tallies = [_Tally() for _ in self._classes]
        self._all = _Tally()

    def add(self, ground_truth: FrameBoxes, pseudo: FrameBoxes) -> None:
        """Add labelled frames of one sequence.

        Args:
            ground_truth: All ground truth of the frames, in pixels.
            pseudo: All pseudo-labels in labelled frames; without ignored boxes.
        """
        best = overlaps(ground_truth, pseudo)
        self._all.add(best.ground_truth, ground_truth.frame_indices, best.pseudo, pseudo.frame_indices)
        for class_id, tally in enumerate(self._tallies):
            is_true, is_pseudo = ground_truth.boxes["class_id"] == class_id, pseudo.boxes["class_id"] == class_id
            tally.add(
                best.ground_truth[is_true],
                ground_truth.frame_indices[is_true],
                best.pseudo[is_pseudo],
                pseudo.frame_indices[is_pseudo],
            )

    def summary(self) -> dict[str, Any]:
        """Class name (and 'all': boxes of all classes together) → shares and counts.

        ``precision_T`` and ``recall_T`` are means over the frames that hold the class, at an IoU above T percent, as
        in LEOD; ``box_precision_T`` and ``box_recall_T`` are shares of all boxes of the labelled frames.
        """
        named = dict(zip(self._classes, self._tallies, strict=True)) | {ALL_CLASSES: self._all}
        return {name: tally.summary() for name, tally in named.items()}


def scores_and_ious(
    ground_truth: FrameBoxes, pseudo: FrameBoxes, classes: SequenceOf[str]
) -> dict[str, tuple[np.ndarray, npt.NDArray[np.float32]]]:
    """Pseudo-labels beside their best IoU with the ground truth, to see what the scores are worth.

    Args:
        ground_truth: In pixels.
        pseudo: In pixels of the same frames.
        classes: Class names in label-id order.

    Returns:
        Class name → its pseudo-labels `LABEL_DTYPE` [k] in frames that hold ground truth of the class, float32 [k],
        their best IoU with it; 'all' → pseudo-labels in frames with any ground truth, best IoU with any of it.
    """
    best = overlaps(ground_truth, pseudo)
    in_frames = np.isin(pseudo.frame_indices, ground_truth.frame_indices)
    found = {}
    for class_id, name in enumerate(classes):
        frames = ground_truth.frame_indices[ground_truth.boxes["class_id"] == class_id]
        chosen = (pseudo.boxes["class_id"] == class_id) & np.isin(pseudo.frame_indices, frames)
        found[name] = pseudo.boxes[chosen], best.pseudo[chosen]
    found[ALL_CLASSES] = pseudo.boxes[in_frames], best.pseudo_any_class[in_frames]
    return found


class ScoreRelation:
    """The relation between scores and IoU in equal bins of the score, gathered sequence by sequence.

    Args:
        classes: Class names in label-id order.
    """

    def __init__(self, classes: SequenceOf[str]) -> None:
        self._classes = tuple(classes)
        names = (*self._classes, ALL_CLASSES)
        self._sums = {name: {score: np.zeros((3, SCORE_BINS)) for score in SCORES} for name in names}

    def add(self, ground_truth: FrameBoxes, pseudo: FrameBoxes) -> None:
        """Add labelled frames of one sequence; arguments as in `QualityTally.add`."""
        found = scores_and_ious(ground_truth, pseudo, self._classes)
        for name, (boxes, ious) in found.items():
            values = {
                "class_confidence": boxes["class_confidence"],
                "objectness": boxes["objectness"],
                "product": boxes["class_confidence"] * boxes["objectness"],
            }
            for score, scores in values.items():
                row = np.clip((scores * SCORE_BINS).astype(np.int64), 0, SCORE_BINS - 1)
                sums = self._sums[name][score]
                sums[0] += np.bincount(row, minlength=SCORE_BINS)
                sums[1] += np.bincount(row, ious, SCORE_BINS)
                sums[2] += np.bincount(row, ious > 0.5, SCORE_BINS)

    def summary(self) -> dict[str, Any]:
        """Class name (and 'all') → score → per bin: count, mean IoU, share with IoU > 0.5 (None in empty bins)."""
        return {
            name: {
                score: {
                    "count": [int(count) for count in sums[0]],
                    "mean_iou": [_share(float(s), int(c)) for s, c in zip(sums[1], sums[0], strict=True)],
                    "share_above_50": [_share(float(s), int(c)) for s, c in zip(sums[2], sums[0], strict=True)],
                }
                for score, sums in by_score.items()
            }
            for name, by_score in self._sums.items()
        }
