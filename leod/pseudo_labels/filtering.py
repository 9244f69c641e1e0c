"""From detections to pseudo-labels: score thresholds and box filter.

The rules are those of the public repository Wuziyi616/LEOD (`modules/utils/ssod.py`): both scores must exceed the
threshold of the box's class, and the box, cut at the frame's border, must be of a plausible size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from leod.boxes.dtypes import LABEL_DTYPE
from leod.config.schema import BoxFilterConfig, ScoreThreshold


@dataclass(frozen=True)
class ScoreThresholds:
    """Per class what both scores must exceed; a class with an infinite threshold gets no pseudo-labels.

    Attributes:
        objectness: float32 [classes].
        class_confidence: float32 [classes].
    """

    objectness: npt.NDArray[np.float32]
    class_confidence: npt.NDArray[np.float32]

    @classmethod
    def from_settings(
        cls, thresholds: Mapping[str, float | ScoreThreshold], classes: SequenceOf[str]
    ) -> ScoreThresholds:
        """Order the thresholds by class id.

        Args:
            thresholds: Class name → one number for both scores, or one for each.
            classes: Class names in label-id order; a class that ``thresholds`` lacks gets no pseudo-labels.
        """
        objectness = np.full(len(classes), np.inf, np.float32)
        class_confidence = np.full(len(classes), np.inf, np.float32)
        for class_id, name in enumerate(classes):
            threshold = thresholds.get(name)
            if isinstance(threshold, ScoreThreshold):
                objectness[class_id] = threshold.objectness
                class_confidence[class_id] = threshold.class_confidence
            elif threshold is not None:
                objectness[class_id] = class_confidence[class_id] = threshold
        return cls(objectness, class_confidence)

    def passed(
        self,
        class_ids: npt.NDArray[np.integer],
        objectness: npt.NDArray[np.float32],
        class_confidence: npt.NDArray[np.float32],
    ) -> npt.NDArray[np.bool_]:
        """Mask bool [n]: both scores strictly above the thresholds of the box's class."""
        known = class_ids < len(self.objectness)
        row = np.where(known, class_ids, 0)
        return known & (objectness > self.objectness[row]) & (class_confidence > self.class_confidence[row])


def plausible_boxes(
    corners: npt.NDArray[np.float32], frame_size: tuple[int, int], box_filter: BoxFilterConfig
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Cut boxes at the frame's border and say which are of a plausible size.

    Args:
        corners: float32 [n, 4], x1, y1, x2, y2 in pixels of the frame.
        frame_size: (height, width) in pixels.
        box_filter: Least side and diagonal, greatest width, in pixels of the frame. The greatest width is rounded
            down to whole pixels.

    Returns:
        The cut corners float32 [n, 4], in 0 … width - 1 and 0 … height - 1, and the mask bool [n] of boxes to keep.
    """
    height, width = frame_size
    limits = np.array([width - 1, height - 1, width - 1, height - 1], np.float32)
    cut = np.clip(corners, np.float32(0.0), limits)
    box_widths, box_heights = cut[:, 2] - cut[:, 0], cut[:, 3] - cut[:, 1]
    keep = (box_widths > 0) & (box_heights > 0)
    keep &= (box_widths >= box_filter.min_side) & (box_heights >= box_filter.min_side)
    keep &= box_widths**2 + box_heights**2 >= box_filter.min_diagonal**2
    if box_filter.max_width_fraction is not None:
        # The small addend keeps 0.9 * 10 from becoming 8.999….
        keep &= box_widths <= math.floor(box_filter.max_width_fraction * width + 1e-6)
    return cut, keep


def select_pseudo_labels(
    detections: npt.NDArray[np.float32],
    frame_size: tuple[int, int],
    thresholds: ScoreThresholds,
    box_filter: BoxFilterConfig | None,
) -> tuple[np.ndarray, npt.NDArray[np.bool_]]:
    """Turn the trustworthy ones among detections into pseudo-labels (LEOD paper, Sec. 3.2).

    Args:
        detections: float32 [n, 7], x1, y1, x2, y2, objectness, class_confidence, class_id, in pixels of the frame.
        frame_size: (height, width) in pixels.
        thresholds: What both scores must exceed.
        box_filter: Which sizes are plausible; None keeps every box as it is.

    Returns:
        The pseudo-labels `LABEL_DTYPE` [m] with t = 0, cut at the frame's border, and the mask bool [n] of the
        detections that they come from, in the same order.
    """
    corners = detections[:, :4]
    class_ids = detections[:, 6].astype(np.int64)
    keep = thresholds.passed(class_ids, detections[:, 4], detections[:, 5])
    if box_filter is not None:
        corners, plausible = plausible_boxes(corners, frame_size, box_filter)
        keep &= plausible
    labels = np.zeros(int(keep.sum()), LABEL_DTYPE)
    labels["x"] = corners[keep, 0]
    labels["y"] = corners[keep, 1]
    labels["w"] = corners[keep, 2] - corners[keep, 0]
    labels["h"] = corners[keep, 3] - corners[keep, 1]
    labels["class_id"] = class_ids[keep]
    labels["objectness"] = detections[keep, 4]
    labels["class_confidence"] = detections[keep, 5]
    return labels, keep
