"""Labels as the plain rows that golden files hold, and the inverses of conversions."""

from __future__ import annotations

import numpy as np

from leod.boxes.dtypes import LABEL_DTYPE

LABEL_ROW_FIELDS = ("t", "x", "y", "w", "h", "class_id", "class_confidence", "objectness")
"""Columns of a plain label row."""


def to_label_rows(labels: np.ndarray) -> np.ndarray:
    """Convert to plain label rows (`LABEL_ROW_FIELDS`).

    float32 holds whole microseconds only up to 16.7 s; time stamps beyond are rounded by up to 4 us.

    Returns:
        float32 [N, 8].
    """
    return np.stack([labels[field].astype(np.float32) for field in LABEL_ROW_FIELDS], axis=-1)


def from_label_rows(rows: np.ndarray) -> np.ndarray:
    """Convert plain label rows [N, 8] (`LABEL_ROW_FIELDS`) to `LABEL_DTYPE` [N]."""
    labels = np.zeros(len(rows), LABEL_DTYPE)
    for column, field in enumerate(LABEL_ROW_FIELDS):
        labels[field] = rows[:, column]
    return labels


def from_yolox(rows: np.ndarray, t: int = 0) -> np.ndarray:
    """Convert yolox rows [N, 7] to `LABEL_DTYPE` [N] with the time stamp ``t`` in microseconds."""
    labels = np.zeros(len(rows), LABEL_DTYPE)
    labels["t"] = t
    labels["class_id"] = rows[:, 0]
    labels["x"] = rows[:, 1] - 0.5 * rows[:, 3]
    labels["y"] = rows[:, 2] - 0.5 * rows[:, 4]
    labels["w"] = rows[:, 3]
    labels["h"] = rows[:, 4]
    labels["objectness"] = rows[:, 5]
    labels["class_confidence"] = rows[:, 6]
    return labels


def to_detection_rows(labels: np.ndarray) -> np.ndarray:
    """Convert to detection rows.

    Returns:
        float32 [N, 7]: x1, y1, x2, y2, objectness, class_confidence, class_id.
    """
    rows = np.empty((len(labels), 7), np.float32)
    rows[:, 0], rows[:, 1] = labels["x"], labels["y"]
    rows[:, 2], rows[:, 3] = labels["x"] + labels["w"], labels["y"] + labels["h"]
    rows[:, 4] = labels["objectness"]
    rows[:, 5] = labels["class_confidence"]
    rows[:, 6] = labels["class_id"]
    return rows
