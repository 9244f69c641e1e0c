"""Writing and checking a pseudo-labelled data set: events are links, labels are files, in the layout of RVT and LEOD.

::

    <dataset>/train/<sequence>/
        event_representations_v2/<representation>/
            event_representations[_ds2_nearest].h5      link to the original
            timestamps_us.npy                           link to the original, where there is one
            objframe_idx_2_repr_idx.npy                 int64 [K], every frame that holds a box or is known to be empty
        labels_v2/labels.npz                            ground truth t > 0, pseudo-labels t = 0, ignored class 1024
    <dataset>/val, <dataset>/test                       links to the original splits

Kept ground truth is copied from the original row by row. Links are relative, so that a project folder can be moved as
a whole; for LEOD's own programs, which cannot follow them, `export_dataset` makes absolute ones. Source of
the layout: `EventSeqData.save` in the public repository Wuziyi616/LEOD.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from leod.boxes.conversion import load_arrays
from leod.boxes.dtypes import IGNORED_CLASS_ID, LABEL_DTYPE
from leod.boxes.operations import is_ground_truth, is_ignored
from leod.errors import DataError
from leod.sequences.frame_boxes import FrameBoxes
from leod.sequences.layout import (
    check_same_length,
    label_file,
    read_labelled_frames,
    read_labels,
    representations_dir,
    timestamps_file,
    write_labelled_frames,
    write_labels,
)
from leod.sequences.links import missing_file


def link(target: Path, place: Path) -> None:
    """Make ``place`` a link to ``target``; relative unless they have nothing but the root folder in common."""
    target = target.resolve()
    folder = place.parent.resolve()
    if Path(os.path.commonpath([target, folder])) == Path(target.anchor):
        place.symlink_to(target)
    else:
        place.symlink_to(os.path.relpath(target, folder))


def link_split(sequences: Path, dataset: Path, split: str) -> None:
    """Link a whole split of the original data set into ``dataset``.

    Raises:
        DataError: The original split does not exist.
    """
    original = Path(sequences) / split
    if not original.is_dir():
        raise DataError(original, f"the folder does not exist; expected the sequences of the {split} split in it.")
    link(original, dataset / split)


def write_pseudo_labelled(
    source: Path, destination: Path, representation: str, frames_file: str, labels: FrameBoxes
) -> None:
    """Write one pseudo-labelled sequence.

    Args:
        source: Folder of the original sequence, whose events are linked.
        destination: Folder to make.
        representation: Name of the event representation.
        frames_file: Name of the file with the frames.
        labels: All boxes, `LABEL_DTYPE` in pixels of the full sensor.

    Raises:
        DataError: The original has no frames.
        ResourceError: The disk is full or not writable.
    """
    folder = representations_dir(destination) / representation
    folder.mkdir(parents=True)
    original_frames = representations_dir(source) / representation / frames_file
    if not original_frames.is_file():
        raise DataError(original_frames, missing_file(original_frames))
    link(original_frames, folder / frames_file)
    if timestamps_file(source, representation).is_file():
        link(timestamps_file(source, representation), timestamps_file(destination, representation))
    frames = labels.labelled_frames
    first_rows = np.searchsorted(labels.frame_indices, frames, side="left")
    label_file(destination).parent.mkdir()
    write_labels(destination, labels.boxes, first_rows)
    write_labelled_frames(destination, representation, frames)


def check_sequence(
    destination: Path,
    representation: str,
    frames_file: str,
    num_frames: int,
    kept: FrameBoxes,
    pseudo_count: int,
    class_count: int,
) -> None:
    """Read a pseudo-labelled sequence back and check it against what it must hold.

    Args:
        destination: Folder of the sequence.
        representation: Name of the event representation.
        frames_file: Name of the file with the frames.
        num_frames: Frames of the sequence.
        kept: The original's kept ground truth, with the frames that it knows to be empty.
        pseudo_count: Number of pseudo-labels, ignored and inpainted ones included.
        class_count: Number of classes.

    Raises:
        DataError: Kept ground truth differs from the original in a single byte, frames are unsorted, other frames are
            without boxes, counts disagree, or the events cannot be reached.
    """
    path = label_file(destination)
    rows, first_rows = load_arrays(path, "labels", "objframe_idx_2_label_idx")
    if rows.dtype != LABEL_DTYPE or first_rows.dtype != np.int64:
        raise DataError(
            path,
            f"holds arrays of {rows.dtype} and {first_rows.dtype}, expected {LABEL_DTYPE} and int64. Make it again.",
        )
    frames = read_labelled_frames(destination, representation, frame_count=num_frames)
    labels = read_labels(destination, class_count)
    check_same_length(destination, labels, frames)
    if not np.array_equal(frames[labels.counts == 0], kept.empty_frames):
        raise DataError(
            path,
            f"frames {frames[labels.counts == 0].tolist()} are labelled without boxes, but the ground truth knows "
            f"{kept.empty_frames.tolist()} to be empty. Make the data set again.",
        )
    found = FrameBoxes(rows, np.repeat(frames, labels.counts))
    ground_truth = found.select(is_ground_truth(rows))
    same = len(ground_truth) == len(kept) and np.array_equal(ground_truth.frame_indices, kept.frame_indices)
    same = same and all(ground_truth.boxes[name].tobytes() == kept.boxes[name].tobytes() for name in LABEL_DTYPE.names)
    if not same:
        raise DataError(
            path,
            f"its ground truth ({len(ground_truth)} boxes) is not the kept ground truth of the original "
            f"({len(kept)} boxes). Make the data set again; if it happens again, the original changed meanwhile.",
        )
    if len(rows) - len(kept) != pseudo_count:
        raise DataError(
            path, f"holds {len(rows) - len(kept)} pseudo-labels, expected {pseudo_count}. Make the data set again."
        )
    frames_path = representations_dir(destination) / representation / frames_file
    if not frames_path.is_file():
        raise DataError(frames_path, "the link to the original events is broken.")


def count_boxes(boxes: np.ndarray, class_count: int) -> npt.NDArray[np.int64]:
    """Count the boxes of each class, int64 [class_count]; ignored boxes are left out."""
    class_ids = boxes["class_id"][~is_ignored(boxes)]
    return np.bincount(class_ids.astype(np.int64), minlength=class_count)[:class_count]


def is_inpainted(boxes: np.ndarray) -> npt.NDArray[np.bool_]:
    """Tell which boxes were inpainted: ignored pseudo-labels without any score.

    Returns:
        bool [n].
    """
    return (
        (boxes["t"] == 0)
        & (boxes["class_id"] == IGNORED_CLASS_ID)
        & (boxes["objectness"] == 0)
        & (boxes["class_confidence"] == 0)
    )
