"""The structured box arrays that everything else exchanges.

Pixels, x to the right, y down; (x, y) is the top-left corner; t in microseconds. ``t == 0`` marks a pseudo-label,
``t > 0`` ground truth; class id `IGNORED_CLASS_ID` marks a box that is neither object nor background.
"""

from __future__ import annotations

import numpy as np

IGNORED_CLASS_ID = 1024
LEFT_OUT_CLASS_ID = 2**32 - 1
"""Boxes that a data set's `class_map` leaves out; they are counted, then dropped."""

LABEL_DTYPE = np.dtype(
    [
        ("t", "<i8"),
        ("x", "<f4"),
        ("y", "<f4"),
        ("w", "<f4"),
        ("h", "<f4"),
        ("class_id", "<u4"),
        ("class_confidence", "<f4"),
        ("objectness", "<f4"),
    ],
    # Four bytes of padding make the published 40. Unlike explicit offsets, alignment survives np.concatenate.
    align=True,
)
"""One label or detection: 40 bytes, the row of `labels_v2/labels.npz` in RVT's and LEOD's data sets."""

RECORDING_BOX_DTYPE = np.dtype(
    [
        ("t", "<i8"),
        ("x", "<f4"),
        ("y", "<f4"),
        ("w", "<f4"),
        ("h", "<f4"),
        ("class_id", "<u4"),
        ("track_id", "<u4"),
        ("class_confidence", "<f4"),
    ],
    align=True,
)
"""One box of a recording's `_bbox.npy`: 40 bytes."""


def clear_padding(rows: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Copy rows field by field, so that no chance bytes lie between the fields and equal rows make equal files.

    Args:
        rows: Structured [n] with at least the fields of ``dtype``.
        dtype: Type of the copy, for example `LABEL_DTYPE`.

    Returns:
        Structured [n] of ``dtype`` whose padding is zero.
    """
    clean = np.zeros(len(rows), dtype)
    for name in dtype.names:
        clean[name] = rows[name]
    return clean
