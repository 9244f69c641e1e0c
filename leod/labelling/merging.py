"""Merging new labels into a box file: a moment is labelled once."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from leod.boxes.dtypes import IGNORED_CLASS_ID, LEFT_OUT_CLASS_ID, RECORDING_BOX_DTYPE
from leod.boxes.operations import is_empty_moment
from leod.errors import DataError
from leod.labelling.returning import LabelledPicture, match, rows_of

OnConflict = Literal["error", "keep", "replace"]

SAME_MOMENT_US = 1_000
"""Label moments this close to each other are one: the clock of some label files is coarser than microseconds."""
_SAME_BOX_PX = 0.5


@dataclass
class MergeCounts:
    """What became of label moments.

    Attributes:
        added: Moments that the file did not have.
        present: Moments that the file had already, with the same boxes.
        replaced: Moments whose boxes were replaced.
        kept: Moments whose boxes in the file were kept against the new ones.
    """

    added: int = 0
    present: int = 0
    replaced: int = 0
    kept: int = 0


def empty_moment(t_us: int) -> np.ndarray:
    """The row that says that nothing is there at a moment, `RECORDING_BOX_DTYPE` [1]."""
    return np.array([(t_us, 0, 0, 0, 0, IGNORED_CLASS_ID, 0, 1.0)], RECORDING_BOX_DTYPE)


def drop_left_out(boxes: np.ndarray) -> np.ndarray:
    """Leave out the boxes that a mapping leaves out; a moment that has no others is one found empty.

    Args:
        boxes: `RECORDING_BOX_DTYPE` [M] in order of time.
    """
    out = boxes["class_id"] == LEFT_OUT_CLASS_ID
    if not out.any():
        return boxes
    kept = boxes[~out]
    emptied = np.setdiff1d(boxes["t"][out], kept["t"])
    together = np.concatenate([kept, *(empty_moment(t_us) for t_us in emptied.tolist())])
    return together[np.argsort(together["t"], kind="stable")]


def merge(
    path: Path, existing: np.ndarray, pictures: SequenceOf[LabelledPicture], on_conflict: OnConflict = "error"
) -> tuple[np.ndarray, MergeCounts]:
    """Merge the labels of some moments into the boxes of a recording.

    Args:
        path: The box file, for messages.
        existing: Its boxes, `RECORDING_BOX_DTYPE` [M] in order of time.
        pictures: What persons have labelled; of one recording, each moment once.
        on_conflict: What to do where the file has other boxes for a moment: refuse, keep its own, or replace them.

    Returns:
        All boxes, in order of time, and what became of each moment. Where nothing changed, ``existing`` itself.

    Raises:
        DataError: A moment has other boxes already, and ``on_conflict`` is 'error'.
    """
    counts = MergeCounts()
    keep = np.ones(len(existing), bool)
    new: list[np.ndarray] = []
    conflicts: list[str] = []
    for entry in pictures:
        t_us = entry.picture.t_us
        near = np.abs(existing["t"] - t_us) <= SAME_MOMENT_US
        rows = entry.boxes if len(entry.boxes) else empty_moment(t_us)
        if not near.any():
            counts.added += 1
            new.append(rows)
            continue
        theirs = existing[near]
        if (theirs["t"] == t_us).all() and match(*map(_boxes_alone, (theirs, entry.boxes)), _SAME_BOX_PX):
            counts.present += 1
        elif on_conflict == "replace":
            counts.replaced += 1
            keep &= ~near
            new.append(rows)
        else:
            counts.kept += 1
            conflicts.append(_describe(entry, theirs))
    if conflicts and on_conflict == "error":
        raise DataError(
            path,
            f"has other boxes for {len(conflicts)} of {len(pictures)} moments: {'; '.join(conflicts[:3])}"
            + ("; …" if len(conflicts) > 3 else "")
            + ". Say which count: --on-conflict keep (those of this file) or --on-conflict replace (the new ones).",
        )
    if not new:
        return existing, counts
    together = np.concatenate([existing[keep], *new])
    return together[np.argsort(together["t"], kind="stable")], counts


def _boxes_alone(boxes: np.ndarray) -> list[tuple[int, tuple[float, ...]]]:
    return rows_of(boxes[~is_empty_moment(boxes)])


def _describe(entry: LabelledPicture, theirs: np.ndarray) -> str:
    t_us = entry.picture.t_us
    count = int((~is_empty_moment(theirs)).sum())
    away = sorted({int(t) - t_us for t in theirs["t"].tolist()} - {0})
    return (
        f"t = {t_us} µs, {count} boxes in the file"
        + (f" ({away[0]:+d} µs away)" if away else "")
        + f", {len(entry.boxes)} new ones from {entry.picture.file}"
    )
