"""Geometry and conversion of labels in structured arrays.

Every function takes an array of `LABEL_DTYPE` [N] (pixels, x to the right, y down, (x, y) the top-left corner) and
returns a new one; the input is never changed. ``size`` is (height, width) of the frame in pixels and may be fractional
after scaling. Coordinates are computed in float32, time stamps stay int64.

Source of the operations: the label class of RVT (uzh-rpg/RVT, `data/genx_utils/labels.py`) and its LEOD version.
"""

from __future__ import annotations

import math
from collections.abc import Sequence as SequenceOf

import numpy as np

from leod.boxes.dtypes import IGNORED_CLASS_ID, LABEL_DTYPE

FrameSize = tuple[float, float]

# ------------------------------------------------------------------------------------------------------- masks


def is_pseudo_label(labels: np.ndarray) -> np.ndarray:
    """Tell which labels are pseudo-labels (t == 0).

    Returns:
        bool [N].
    """
    return labels["t"] == 0


def is_ground_truth(labels: np.ndarray) -> np.ndarray:
    """Tell which labels are ground truth (t > 0).

    Returns:
        bool [N].
    """
    return labels["t"] > 0


def is_ignored(labels: np.ndarray) -> np.ndarray:
    """Tell which labels are ignored boxes (class id `IGNORED_CLASS_ID`).

    Returns:
        bool [N].
    """
    return labels["class_id"] == IGNORED_CLASS_ID


def is_empty_moment(labels: np.ndarray) -> np.ndarray:
    """Tell which rows of a box file only say that somebody looked at that moment and found nothing.

    These are ignored boxes of no size: such a box could not hide anything.

    Args:
        labels: `RECORDING_BOX_DTYPE` [N].

    Returns:
        bool [N].
    """
    return is_ignored(labels) & (labels["w"] == 0) & (labels["h"] == 0)


def has_area(labels: np.ndarray) -> np.ndarray:
    """Tell which boxes have a positive width and height.

    Returns:
        bool [N].
    """
    return (labels["w"] > 0) & (labels["h"] > 0)


# -------------------------------------------------------------------------------------------------- operations


def _corners(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    left, top = labels["x"], labels["y"]
    return left, top, left + labels["w"], top + labels["h"]


def ious(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU of every box with every other: [n, m] of the coordinates' type; 0 where neither has an area.

    Args:
        boxes: [n] with top-left corners and sizes.
        others: [m], in the same pixels.
    """
    left, top, right, bottom = _corners(boxes)
    other_left, other_top, other_right, other_bottom = _corners(others)
    width = np.minimum.outer(right, other_right) - np.maximum.outer(left, other_left)
    height = np.minimum.outer(bottom, other_bottom) - np.maximum.outer(top, other_top)
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    union = np.add.outer(boxes["w"] * boxes["h"], others["w"] * others["h"]) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _with_corners(
    labels: np.ndarray, left: np.ndarray, top: np.ndarray, right: np.ndarray, bottom: np.ndarray
) -> np.ndarray:
    moved = labels.copy()
    moved["x"], moved["y"] = left, top
    moved["w"], moved["h"] = right - left, bottom - top
    return moved


def remove_flat(labels: np.ndarray) -> np.ndarray:
    """Drop boxes without area (w <= 0 or h <= 0)."""
    return labels[has_area(labels)]


def clamp(labels: np.ndarray, size: FrameSize) -> np.ndarray:
    """Move all corners into [0, width - 1] x [0, height - 1]. Boxes outside become flat; none is dropped."""
    height, width = size
    left, top, right, bottom = _corners(labels)
    return _with_corners(
        labels,
        np.clip(left, 0, width - 1),
        np.clip(top, 0, height - 1),
        np.clip(right, 0, width - 1),
        np.clip(bottom, 0, height - 1),
    )


def flip_left_right(labels: np.ndarray, size: FrameSize) -> np.ndarray:
    """Mirror at the vertical axis: x' = width - 1 - x - w."""
    flipped = labels.copy()
    flipped["x"] = size[1] - 1 - labels["x"] - labels["w"]
    return flipped


def scale(labels: np.ndarray, size: FrameSize, factor: float) -> np.ndarray:
    """Scale the frame and its boxes, as `scale_all` does, and drop boxes that have lost their area."""
    return labels.copy() if factor == 1 else remove_flat(scale_all(labels, size, factor))


def scale_all(labels: np.ndarray, size: FrameSize, factor: float) -> np.ndarray:
    """Scale the frame and its boxes; every box stays, flat ones too.

    Right and bottom edges are clamped to the new size - 1, left and top are not. The new frame size is
    ``(factor * height, factor * width)``.

    Args:
        labels: Boxes in a frame of ``size``.
        size: (height, width) before scaling.
        factor: Positive.
    """
    height, width = size
    left, top, right, bottom = _corners(labels)
    return _with_corners(
        labels,
        left * factor,
        top * factor,
        np.minimum(right * factor, factor * width - 1),
        np.minimum(bottom * factor, factor * height - 1),
    )


def rotate(labels: np.ndarray, size: FrameSize, degrees: float) -> np.ndarray:
    """Rotate about (width // 2, height // 2) and take the enclosing upright boxes.

    The result is clamped to the frame; boxes that lose their area are dropped.

    Args:
        labels: Boxes in a frame of ``size``.
        size: (height, width).
        degrees: Positive values turn counter-clockwise on the screen.
    """
    height, width = size
    centre_x, centre_y = width // 2, height // 2
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    left, top, right, bottom = _corners(labels)
    x = np.stack([left, right, left, right]) - centre_x
    y = np.stack([top, top, bottom, bottom]) - centre_y
    rotated_x = cosine * x + sine * y + centre_x
    rotated_y = cosine * y - sine * x + centre_y
    enclosing = _with_corners(labels, rotated_x.min(0), rotated_y.min(0), rotated_x.max(0), rotated_y.max(0))
    return remove_flat(clamp(enclosing, size))


def zoom_in(labels: np.ndarray, size: FrameSize, corner: tuple[float, float], factor: float) -> np.ndarray:
    """Cut a window of ``size / factor`` out and scale it up to ``size``.

    Args:
        labels: Boxes in a frame of ``size``.
        size: (height, width), unchanged by the operation.
        corner: (x, y) of the window's top-left corner in the frame.
        factor: At least 1; 1 changes nothing.
    """
    if factor == 1:
        return labels.copy()
    height, width = size
    x0, y0 = corner
    window_height, window_width = height / factor, width / factor
    x1, y1 = min(x0 + window_width, width - 1), min(y0 + window_height, height - 1)
    left, top, right, bottom = _corners(labels)
    window = _with_corners(
        labels,
        np.clip(left, x0, x1 - 1) - x0,
        np.clip(top, y0, y1 - 1) - y0,
        np.clip(right, x0, x1 - 1) - x0,
        np.clip(bottom, y0, y1 - 1) - y0,
    )
    return scale(remove_flat(window), (window_height, window_width), factor)


def zoom_out(labels: np.ndarray, size: FrameSize, corner: tuple[float, float], factor: float) -> np.ndarray:
    """Shrink the frame to ``size / factor`` and place it in an empty frame of ``size``.

    Args:
        labels: Boxes in a frame of ``size``.
        size: (height, width), unchanged by the operation.
        corner: (x, y) of the small frame's top-left corner in the empty one.
        factor: At least 1; 1 changes nothing.
    """
    if factor == 1:
        return labels.copy()
    placed = scale(labels, size, 1 / factor)
    placed["x"] += np.float32(corner[0])
    placed["y"] += np.float32(corner[1])
    return placed


# ------------------------------------------------------------------------------------------------- conversions


def to_yolox(labels: np.ndarray) -> np.ndarray:
    """Convert to yolox rows, the training targets.

    Returns:
        float32 [N, 7]: class_id, centre x, centre y, w, h, objectness, class_confidence.
    """
    rows = np.empty((len(labels), 7), np.float32)
    rows[:, 0] = labels["class_id"]
    rows[:, 1] = labels["x"] + np.float32(0.5) * labels["w"]
    rows[:, 2] = labels["y"] + np.float32(0.5) * labels["h"]
    rows[:, 3] = labels["w"]
    rows[:, 4] = labels["h"]
    rows[:, 5] = labels["objectness"]
    rows[:, 6] = labels["class_confidence"]
    return rows


def from_detection_rows(rows: np.ndarray, t: int = 0) -> np.ndarray:
    """Convert detection rows [N, 7] to `LABEL_DTYPE` [N] with the time stamp ``t`` in microseconds."""
    labels = np.zeros(len(rows), LABEL_DTYPE)
    labels["t"] = t
    labels["x"], labels["y"] = rows[:, 0], rows[:, 1]
    labels["w"], labels["h"] = rows[:, 2] - rows[:, 0], rows[:, 3] - rows[:, 1]
    labels["objectness"] = rows[:, 4]
    labels["class_confidence"] = rows[:, 5]
    labels["class_id"] = rows[:, 6]
    return labels


def pad_rows(rows: SequenceOf[np.ndarray], minimum_rows: int = 0) -> np.ndarray:
    """Stack the rows of several frames, zero rows behind those with fewer.

    Args:
        rows: One float32 [N_i, 7] per frame.
        minimum_rows: Least number of rows of the result.

    Returns:
        float32 [frames, max(N_i, minimum_rows), 7].
    """
    most = max([minimum_rows, *(len(frame) for frame in rows)])
    padded = np.zeros((len(rows), most, 7), np.float32)
    for target, frame in zip(padded, rows, strict=True):
        target[: len(frame)] = frame
    return padded
