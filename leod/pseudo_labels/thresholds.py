"""Choosing score thresholds on labelled frames, instead of by hand as in the LEOD paper (Sec. 3.2).

Both scores of a pseudo-label must exceed the threshold of its class, so what is ranked is the lesser of objectness and
class confidence. A box is right when its IoU with ground truth of its class is above a limit; as in
`leod.pseudo_labels.quality`, boxes are not matched one to one, and wrong boxes count in every labelled frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from leod.boxes.operations import ious
from leod.errors import DataError
from leod.files import read_json
from leod.sequences.frame_boxes import FrameBoxes

NO_PSEUDO_LABELS = 1.0
"""A threshold that no score exceeds."""
THRESHOLD_STEP = 0.01
"""Where every threshold has to be tried out, those so far apart are."""
_CURVE_POINTS = 200


@dataclass(frozen=True)
class Matches:
    """Candidate boxes and ground truth of one class over some frames.

    Attributes:
        scores: float32 [m], the lesser score of each candidate.
        is_right: bool [m], whether it covers ground truth.
        found_at: float32 [n], for each ground-truth box the highest lesser score of a candidate that covers it; 0 where
            none does.
    """

    scores: npt.NDArray[np.float32]
    is_right: npt.NDArray[np.bool_]
    found_at: npt.NDArray[np.float32]

    @classmethod
    def joined(cls, parts: SequenceOf[Matches]) -> Matches:
        """Several of them, such as those of all sequences, as one."""
        return cls(
            np.concatenate([np.zeros(0, np.float32), *(part.scores for part in parts)]),
            np.concatenate([np.zeros(0, bool), *(part.is_right for part in parts)]),
            np.concatenate([np.zeros(0, np.float32), *(part.found_at for part in parts)]),
        )


@dataclass(frozen=True)
class ThresholdCurve:
    """Precision and recall of the boxes above each threshold.

    Attributes:
        threshold: float32 [k], rising, the first one the least that is considered.
        boxes: int64 [k], candidates above it, at least 1.
        precision: float64 [k], share of them that is right.
        recall: float64 [k], share of the ground truth that they cover; 0 without ground truth.
    """

    threshold: npt.NDArray[np.float32]
    boxes: npt.NDArray[np.int64]
    precision: npt.NDArray[np.float64]
    recall: npt.NDArray[np.float64]

    def summary(self, keep: int | None) -> dict[str, list[float]]:
        """Plain JSON data of at most about two hundred points, point ``keep`` among them."""
        points = np.unique(np.linspace(0, len(self.threshold) - 1, min(_CURVE_POINTS, len(self.threshold))).astype(int))
        if keep is not None:
            points = np.union1d(points, [keep])
        return {
            "threshold": self.threshold[points].astype(float).tolist(),
            "boxes": self.boxes[points].tolist(),
            "precision": self.precision[points].round(5).tolist(),
            "recall": self.recall[points].round(5).tolist(),
        }


@dataclass(frozen=True)
class ThresholdChoice:
    """The threshold of one class and how it came about.

    Attributes:
        threshold: What both scores must exceed.
        target_precision: What was asked for.
        reached: Whether the boxes above the threshold are that precise.
        ground_truth: Number of ground-truth boxes.
        curve: All thresholds.
        point: Index of the chosen one in the curve; None: there is not a single candidate.
    """

    threshold: float
    target_precision: float
    reached: bool
    ground_truth: int
    curve: ThresholdCurve
    point: int | None

    @property
    def precision(self) -> float | None:
        """Share of right boxes above the threshold."""
        return None if self.point is None else float(self.curve.precision[self.point])

    def summary(self) -> dict[str, Any]:
        """All of it as plain JSON data."""
        chosen = self.point is not None
        return {
            "threshold": self.threshold,
            "target_precision": self.target_precision,
            "reached": self.reached,
            "precision": self.precision,
            "recall": float(self.curve.recall[self.point]) if chosen else None,
            "boxes": int(self.curve.boxes[self.point]) if chosen else 0,
            "ground_truth": self.ground_truth,
            "curve": self.curve.summary(self.point),
        }


def lesser_scores(boxes: np.ndarray) -> npt.NDArray[np.float32]:
    """The lesser of objectness and class confidence of each `LABEL_DTYPE` row, float32 [n]."""
    return np.minimum(boxes["objectness"], boxes["class_confidence"])


def match(
    ground_truth: FrameBoxes, candidates: FrameBoxes, classes: SequenceOf[str], iou_threshold: float
) -> dict[str, Matches]:
    """Compare candidates with the ground truth, frame by frame.

    Args:
        ground_truth: In pixels.
        candidates: With scores, in pixels of the same frames.
        classes: Class names in label-id order.
        iou_threshold: A candidate is right above this IoU.

    Returns:
        Class name → its candidates and ground truth.
    """
    true_boxes, found_boxes = ground_truth.boxes, candidates.boxes
    scores = lesser_scores(found_boxes)
    is_right = np.zeros(len(candidates), bool)
    found_at = np.zeros(len(ground_truth), np.float32)
    frames = np.union1d(ground_truth.frame_indices, candidates.frame_indices)
    true_borders = np.searchsorted(ground_truth.frame_indices, [*frames, np.iinfo(np.int64).max])
    found_borders = np.searchsorted(candidates.frame_indices, [*frames, np.iinfo(np.int64).max])
    for true_range, found_range in zip(pairwise(true_borders), pairwise(found_borders), strict=True):
        true, found = slice(*true_range), slice(*found_range)
        covers = ious(found_boxes[found], true_boxes[true]) > iou_threshold
        covers &= found_boxes["class_id"][found][:, None] == true_boxes["class_id"][true]
        if covers.size:
            is_right[found] = covers.any(axis=1)
            found_at[true] = np.where(covers, scores[found][:, None], 0).max(axis=0)
    return {
        name: Matches(
            scores[found_boxes["class_id"] == class_id],
            is_right[found_boxes["class_id"] == class_id],
            found_at[true_boxes["class_id"] == class_id],
        )
        for class_id, name in enumerate(classes)
    }


def precision_curve(matches: Matches, minimum: float) -> ThresholdCurve:
    """Precision and recall above every threshold that makes a difference, from ``minimum`` up.

    Args:
        matches: Candidates and ground truth of one class.
        minimum: The least threshold; candidates that do not exceed it are left out.
    """
    lowest = np.float32(minimum)
    considered = matches.scores > lowest
    order = np.argsort(-matches.scores[considered], kind="stable")
    scores, is_right = matches.scores[considered][order], matches.is_right[considered][order]
    # Equal scores pass together: a threshold lies at each score that is followed by a lower one.
    last_of_score = np.flatnonzero(np.append(scores[1:] < scores[:-1], True)[: len(scores)])
    boxes = last_of_score + 1
    thresholds = np.append(scores[boxes[:-1]], lowest)[: len(boxes)]
    found_at = np.sort(matches.found_at)
    covered = len(found_at) - np.searchsorted(found_at, thresholds, side="right")
    return ThresholdCurve(
        threshold=thresholds[::-1].astype(np.float32),
        boxes=boxes[::-1].astype(np.int64),
        precision=(np.cumsum(is_right)[last_of_score] / boxes)[::-1],
        recall=(covered / max(len(found_at), 1))[::-1],
    )


def choose_threshold(
    matches: Matches, target_precision: float, minimum: float, minimum_boxes: int = 1
) -> ThresholdChoice:
    """Choose the least threshold above which pseudo-labels are as precise as wanted.

    Precision does not rise evenly with the threshold. As in COCO's precision-recall curves its monotone envelope is
    taken, the highest precision at this threshold or any lower one, so the first threshold that reaches the target
    counts.

    Args:
        matches: Candidates and ground truth of one class.
        target_precision: Share of right boxes that is wanted, 0..1.
        minimum: The least threshold.
        minimum_boxes: Thresholds that leave fewer boxes are left out, because a precision of few boxes is luck. With
            fewer candidates in all, only the minimum remains.

    Returns:
        The choice. If the target is never reached it is the threshold of highest precision; without any candidate it
        is `NO_PSEUDO_LABELS`, because nothing speaks for boxes of this class.
    """
    return choose_point(precision_curve(matches, minimum), len(matches.found_at), target_precision, minimum_boxes)


def choose_point(
    curve: ThresholdCurve, ground_truth: int, target_precision: float, minimum_boxes: int
) -> ThresholdChoice:
    """Choose the threshold on a curve, see `choose_threshold`; ``ground_truth`` is the number of objects."""
    if not len(curve.threshold):
        return ThresholdChoice(NO_PSEUDO_LABELS, target_precision, False, ground_truth, curve, None)
    sufficient = curve.boxes >= min(minimum_boxes, curve.boxes[0])
    good = np.flatnonzero(sufficient & (curve.precision >= target_precision))
    point = int(good[0]) if len(good) else int(np.argmax(np.where(sufficient, curve.precision, -1.0)))
    threshold = float(curve.threshold[point])
    return ThresholdChoice(threshold, target_precision, bool(len(good)), ground_truth, curve, point)


def thresholds_to_try(minimum: float) -> list[float]:
    """The minimum and the multiples of `THRESHOLD_STEP` above it, rising, all below 1."""
    multiples = (round(k * THRESHOLD_STEP, 6) for k in range(1, round(1 / THRESHOLD_STEP)))
    return [minimum, *(value for value in multiples if value > minimum)]


def curve_of_trials(thresholds: SequenceOf[float], trials: SequenceOf[Matches]) -> ThresholdCurve:
    """Precision and recall where each threshold changes the boxes themselves, as it does before they are fused.

    Args:
        thresholds: Rising.
        trials: For each of them what the boxes that it leads to match. Those that lead to none are left out.
    """
    found = [(threshold, trial) for threshold, trial in zip(thresholds, trials, strict=True) if len(trial.scores)]
    return ThresholdCurve(
        threshold=np.array([threshold for threshold, _ in found], np.float32),
        boxes=np.array([len(trial.scores) for _, trial in found], np.int64),
        precision=np.array([trial.is_right.mean() for _, trial in found], np.float64),
        recall=np.array([(trial.found_at > 0).sum() / max(len(trial.found_at), 1) for _, trial in found], np.float64),
    )


def highest_within(
    thresholds: SequenceOf[float], measure: Callable[[float], float], limit: float
) -> tuple[float, bool]:
    """The highest threshold at which a measure is at most ``limit``, found by bisection.

    Args:
        thresholds: Rising. The measure should rise with them; where it does not, the result is one that is within the
            limit and followed by one that is not.
        measure: Called with a threshold.
        limit: What is allowed.

    Returns:
        The threshold, and whether the measure is within the limit there; if it is nowhere, the least one.
    """
    if measure(thresholds[0]) > limit:
        return thresholds[0], False
    within, beyond = 0, len(thresholds)
    while beyond - within > 1:
        middle = (within + beyond) // 2
        if measure(thresholds[middle]) <= limit:
            within = middle
        else:
            beyond = middle
    return thresholds[within], True


def read_thresholds(path: Path, classes: SequenceOf[str]) -> dict[str, float]:
    """Read the thresholds that the stage `choose_thresholds` wrote: class name → what both scores must exceed.

    Raises:
        DataError: The file is missing, damaged, or belongs to other classes.
    """
    return _read(path, "thresholds", classes)


def read_keep_thresholds(path: Path, classes: SequenceOf[str]) -> dict[str, float]:
    """Read below which scores pseudo-labels are weak: class name → what both scores of others exceed.

    Raises:
        DataError: The file is missing, damaged, belongs to other classes, or was written without ``max_background``.
    """
    return _read(path, "keep", classes)


def _read(path: Path, key: str, classes: SequenceOf[str]) -> dict[str, float]:
    content = read_json(path)
    found = content.get(key) if isinstance(content, Mapping) else None
    is_sound = isinstance(found, Mapping) and all(
        isinstance(value, (int, float)) and 0.0 <= value <= 1.0 for value in found.values()
    )
    if not is_sound:
        if key == "keep":
            what = "holds no thresholds of 0..1 for keeping, which max_background asks for."
        else:
            what = "holds no thresholds of 0..1."
        raise DataError(path, f"{what} Delete it and run choose_thresholds again.")
    if set(found) != set(classes):
        raise DataError(
            path,
            f"has thresholds of the classes {', '.join(found)}; the data set has {', '.join(classes)}. Run "
            "choose_thresholds again.",
        )
    return {name: float(found[name]) for name in classes}
