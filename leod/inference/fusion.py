"""Weighted box fusion: several boxes of one object become one, instead of one of them suppressing the others.

Source: Solovyev, Wang & Gabruseva, "Weighted boxes fusion: Ensembling boxes from different object detection models",
Image and Vision Computing 2021.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from leod.boxes.dtypes import LABEL_DTYPE
from leod.jit import compiled
from leod.sequences.frame_boxes import FrameBoxes

_LEAST_WEIGHT = 1e-12
"""Boxes of score zero count alike."""


@compiled
def _fuse(
    corners: npt.NDArray[np.float64],
    weights: npt.NDArray[np.float64],
    scores: npt.NDArray[np.float64],
    views: npt.NDArray[np.int64],
    groups: npt.NDArray[np.int64],
    iou_threshold: float,
    fused: npt.NDArray[np.float64],
    fused_scores: npt.NDArray[np.float64],
    first: npt.NDArray[np.int64],
    view_counts: npt.NDArray[np.int64],
) -> int:
    """Fuse boxes that are sorted by group (frame and class) and falling weight; returns the number of clusters.

    ``corners`` [n, 4], ``scores`` [n, 2]. Filled are, for each cluster: ``fused`` [n, 4] and ``fused_scores`` [n, 2],
    the row of its ``first`` box, and how many different views it holds (``view_counts``).
    """
    weight_sums = np.zeros(len(corners))
    corner_sums = np.zeros((len(corners), 4))
    members = np.zeros(len(corners), np.int64)
    seen = np.zeros(len(corners), np.int64)
    count = start = 0
    for row in range(len(corners)):
        if row > 0 and groups[row] != groups[row - 1]:
            start = count
        box = corners[row]
        best = -1
        best_iou = iou_threshold
        for cluster in range(start, count):
            other = fused[cluster]
            width = min(box[2], other[2]) - max(box[0], other[0])
            height = min(box[3], other[3]) - max(box[1], other[1])
            if width > 0 and height > 0:
                shared = width * height
                union = (box[2] - box[0]) * (box[3] - box[1]) + (other[2] - other[0]) * (other[3] - other[1]) - shared
                if shared / union > best_iou:
                    best, best_iou = cluster, shared / union
        if best < 0:
            best = count
            first[best] = row
            count += 1
        weight_sums[best] += weights[row]
        members[best] += 1
        for column in range(4):
            corner_sums[best, column] += weights[row] * box[column]
            fused[best, column] = corner_sums[best, column] / weight_sums[best]
        for column in range(2):
            fused_scores[best, column] += scores[row, column]
        if not (seen[best] >> views[row]) & 1:
            seen[best] |= 1 << views[row]
            view_counts[best] += 1
    for cluster in range(count):
        for column in range(2):
            fused_scores[cluster, column] /= members[cluster]
    return count


def fuse_boxes(
    found: FrameBoxes,
    views: npt.NDArray[np.int64],
    shown_by: npt.NDArray[np.int64] | None,
    confidence_threshold: float,
    iou_threshold: float,
) -> FrameBoxes:
    """Weighted box fusion, class by class, over the boxes of all views of a frame together.

    The boxes of one class and frame are served in the order of objectness × class confidence, highest first. Each joins
    the cluster whose fused box it overlaps most, if that is more than ``iou_threshold``, or starts a cluster. A fused
    box has the mean corners of its members, weighted by that product, and the plain means of either score. Several
    boxes of one view may join one cluster.

    Frames with any ground truth pass unchanged. In the others a box must have objectness × class confidence >=
    ``confidence_threshold`` to take part. The fused boxes of a frame are sorted by the product of their scores,
    highest first.

    Args:
        found: Boxes in pixels.
        views: int64 [n], the number of the view that each box comes from, 0..62.
        shown_by: int64 [n], how many views show the frame of each box: the objectness of a fused box is multiplied by
            the share of them that contribute to it. None: it is not.
        confidence_threshold: 0..1.
        iou_threshold: 0..1.
    """
    boxes, frame_indices = found.boxes, found.frame_indices
    products = boxes["objectness"] * boxes["class_confidence"]
    passes = np.isin(frame_indices, frame_indices[boxes["t"] > 0])
    rows = np.flatnonzero(~passes & (products >= np.float32(confidence_threshold)))
    rows = rows[np.lexsort((-products[rows], boxes["class_id"][rows], frame_indices[rows]))]
    taken = boxes[rows]
    is_new = (np.diff(frame_indices[rows], prepend=-1) != 0) | (
        np.diff(taken["class_id"].astype(np.int64), prepend=-1) != 0
    )
    # In double precision the corners of one box are exact, so that fusing it with itself changes nothing.
    left, top, width, height = (taken[name].astype(np.float64) for name in ("x", "y", "w", "h"))
    corners = np.stack([left, top, left + width, top + height], axis=1)
    scores = np.stack([taken["objectness"], taken["class_confidence"]], axis=1).astype(np.float64)
    fused, fused_scores = np.zeros((len(rows), 4)), np.zeros((len(rows), 2))
    first, view_counts = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
    count = _fuse(
        corners,
        np.maximum(products[rows].astype(np.float64), _LEAST_WEIGHT),
        scores,
        np.ascontiguousarray(views[rows], np.int64),
        np.cumsum(is_new),
        float(iou_threshold),
        fused,
        fused_scores,
        first,
        view_counts,
    )
    fused, fused_scores, origin = fused[:count], fused_scores[:count], rows[first[:count]]
    if shown_by is not None:
        fused_scores[:, 0] *= np.minimum(view_counts[:count] / shown_by[origin], 1.0)
    result = np.zeros(count, LABEL_DTYPE)
    result["x"], result["y"] = fused[:, 0], fused[:, 1]
    result["w"], result["h"] = fused[:, 2] - fused[:, 0], fused[:, 3] - fused[:, 1]
    result["class_id"] = boxes["class_id"][origin]
    result["objectness"], result["class_confidence"] = fused_scores[:, 0], fused_scores[:, 1]
    order = np.lexsort((-fused_scores.prod(axis=1), frame_indices[origin]))
    return found.select(passes).merge(FrameBoxes(result[order], frame_indices[origin][order]))
