"""Class-wise non-maximum suppression of many frames at once, on the CPU.

The boxes that remain, and their order, are those of ``torchvision.ops.batched_nms`` frame by frame, in every bit: boxes
of different classes are moved apart before they are compared, or, where there are more than a thousand, compared within
their class. There each call costs 0.1 ms, however few boxes there are.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from leod.jit import compiled

_MOST_MOVED_APART = 1000


@compiled
def _suppress(
    corners: npt.NDArray[np.float32],
    classes: npt.NDArray[np.int64],
    frames: npt.NDArray[np.int64],
    iou_threshold: float,
    remains: npt.NDArray[np.bool_],
) -> None:
    """Clear ``remains`` where a box is suppressed; boxes are sorted by frame, best score first."""
    count = len(frames)
    one = np.float32(1.0)
    moved = np.empty((count, 4), np.float32)
    areas = np.empty(count, np.float32)
    start = 0
    while start < count:
        stop = start + 1
        while stop < count and frames[stop] == frames[start]:
            stop += 1
        apart = stop - start <= _MOST_MOVED_APART
        most = corners[start, 0]
        for row in range(start, stop):
            for side in range(4):
                most = max(most, corners[row, side])
        for row in range(start, stop):
            offset = np.float32(classes[row]) * (most + one) if apart else np.float32(0.0)
            for side in range(4):
                moved[row, side] = corners[row, side] + offset
            areas[row] = (moved[row, 2] - moved[row, 0]) * (moved[row, 3] - moved[row, 1])
        for row in range(start, stop):
            if not remains[row]:
                continue
            for other in range(row + 1, stop):
                if not remains[other] or not (apart or classes[other] == classes[row]):
                    continue
                width = min(moved[row, 2], moved[other, 2]) - max(moved[row, 0], moved[other, 0])
                height = min(moved[row, 3], moved[other, 3]) - max(moved[row, 1], moved[other, 1])
                if width > 0 and height > 0:
                    shared = width * height
                    union = areas[row] + areas[other] - shared
                    if union != 0 and shared / union > iou_threshold:
                        remains[other] = False
        start = stop


def suppress(
    corners: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    classes: npt.NDArray[np.int64],
    frames: npt.NDArray[np.int64],
    iou_threshold: float,
) -> npt.NDArray[np.int64]:
    """Leave out boxes that overlap a better one of their frame and class.

    Args:
        corners: float32 [n, 4], x1, y1, x2, y2 in pixels.
        scores: float32 [n].
        classes: int64 [n].
        frames: int64 [n], not falling.
        iou_threshold: IoU above which the weaker of two boxes is left out, 0..1.

    Returns:
        int64 [m], the rows that remain: frame by frame, in each the best first, the earlier of equal ones first.
    """
    order = np.lexsort((-scores, frames))
    remains = np.ones(len(order), bool)
    _suppress(np.ascontiguousarray(corners[order]), classes[order], frames[order], iou_threshold, remains)
    return order[remains]
