"""Boxes of one sequence with the frames that they belong to."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from leod.boxes.dtypes import LABEL_DTYPE
from leod.sequences.layout import check_same_length, read_labelled_frames, read_labels


def _no_frames() -> npt.NDArray[np.int64]:
    return np.zeros(0, np.int64)


@dataclass(frozen=True)
class FrameBoxes:
    """Boxes of one sequence with their frames.

    Attributes:
        boxes: `LABEL_DTYPE` [n] in pixels, sorted by frame.
        frame_indices: int64 [n], the frame of each box, not falling.
        empty_frames: int64 [e], increasing: frames that are labelled although they hold no box, since somebody has
            looked and nothing is to be seen.
    """

    boxes: np.ndarray
    frame_indices: npt.NDArray[np.int64]
    empty_frames: npt.NDArray[np.int64] = field(default_factory=_no_frames)

    @classmethod
    def joined(cls, parts: SequenceOf[FrameBoxes]) -> FrameBoxes:
        """Several together, sorted by frame; inside a frame the boxes of earlier parts come first."""
        frames = np.concatenate([_no_frames(), *(part.frame_indices for part in parts)])
        boxes = np.concatenate([np.zeros(0, LABEL_DTYPE), *(part.boxes for part in parts)])
        empty = np.unique(np.concatenate([_no_frames(), *(part.empty_frames for part in parts)]))
        order = np.argsort(frames, kind="stable")
        return cls(boxes[order], frames[order], empty)

    def __len__(self) -> int:
        """Number of boxes."""
        return len(self.boxes)

    def select(self, mask: npt.NDArray[np.bool_]) -> FrameBoxes:
        """The boxes where ``mask`` (bool [n]) is True; the empty frames stay."""
        return FrameBoxes(self.boxes[mask], self.frame_indices[mask], self.empty_frames)

    @property
    def labelled_frames(self) -> npt.NDArray[np.int64]:
        """int64 [k], increasing: frames with boxes and empty ones."""
        return np.union1d(self.frame_indices, self.empty_frames)

    def in_frames(self, frames: npt.NDArray[np.int64]) -> FrameBoxes:
        """The boxes of the given frames."""
        boxes = self.select(np.isin(self.frame_indices, frames))
        return replace(boxes, empty_frames=self.empty_frames[np.isin(self.empty_frames, frames)])

    def merge(self, other: FrameBoxes) -> FrameBoxes:
        """Both together, sorted by frame; inside a frame this object's boxes come first."""
        return FrameBoxes.joined([self, other])


def read_frame_boxes(
    sequence_dir: Path,
    representation: str,
    labelled_frames: npt.NDArray[np.int64] | None = None,
    class_count: int | None = None,
) -> FrameBoxes:
    """Read the labels of a sequence as they are in the file, with the frame of each row.

    Args:
        sequence_dir: Folder of the sequence.
        representation: Name of the event representation.
        labelled_frames: int64 [k], which labelled frames (counted among the sequence's labelled frames); None = all.
        class_count: Number of classes, to check the ids against.

    Raises:
        DataError: A file is missing or damaged, or they contradict each other.
    """
    labels = read_labels(sequence_dir, class_count)
    frames = read_labelled_frames(sequence_dir, representation)
    check_same_length(sequence_dir, labels, frames)
    row_position = np.repeat(np.arange(len(labels)), labels.counts)
    empty = labels.counts == 0
    if labelled_frames is None:
        return FrameBoxes(labels.labels, frames[row_position], frames[empty])
    wanted = np.zeros(len(labels), bool)
    wanted[labelled_frames] = True
    rows = wanted[row_position]
    return FrameBoxes(labels.labels[rows], frames[row_position[rows]], frames[empty & wanted])
