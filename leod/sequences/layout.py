"""Label and index files of preprocessed sequences, in the layout that RVT introduced and LEOD kept.

::

    <root>/{train,val,test}/<sequence>/
        labels_v2/labels.npz                     'labels' (structured), 'objframe_idx_2_label_idx' int64 [K]
        labels_v2/timestamps_us.npy              int64 [K], time of each labelled frame (only in preprocessed sets)
        event_representations_v2/<representation>/
            objframe_idx_2_repr_idx.npy          int64 [K], labelled frame -> frame
            timestamps_us.npy                    int64 [frames], end of each frame's window
        preprocess.json                          what it was made from and what was counted (only in sets of ours)

Coordinates in these files are pixels of the full sensor, also where the frames are down-sampled.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from leod.boxes import operations as boxes
from leod.boxes.conversion import convert_rows, load_arrays
from leod.boxes.dtypes import IGNORED_CLASS_ID, LABEL_DTYPE, RECORDING_BOX_DTYPE, clear_padding
from leod.config.schema import SensorSize
from leod.errors import DataError
from leod.files import atomic_file

Split = Literal["train", "val", "test"]
STAMP_NAME = "preprocess.json"
SPLITS: tuple[Split, ...] = ("train", "val", "test")


# ------------------------------------------------------------------------------------------------------- paths


def label_file(sequence_dir: Path) -> Path:
    """Path of a sequence's labels."""
    return Path(sequence_dir) / "labels_v2" / "labels.npz"


def representations_dir(sequence_dir: Path) -> Path:
    """Folder that holds one folder per event representation of a sequence."""
    return Path(sequence_dir) / "event_representations_v2"


def labelled_frames_file(sequence_dir: Path, representation: str) -> Path:
    """Path of the index labelled frame -> frame, for the representation of that name."""
    return representations_dir(sequence_dir) / representation / "objframe_idx_2_repr_idx.npy"


def timestamps_file(sequence_dir: Path, representation: str) -> Path:
    """Path of the frames' time stamps, for the representation of that name."""
    return representations_dir(sequence_dir) / representation / "timestamps_us.npy"


def list_sequences(root: Path, split: str) -> list[Path]:
    """List the sequence folders of one split, sorted by name.

    Links to folders count; hidden and temporary folders do not.

    Raises:
        DataError: The split's folder is missing or holds no sequence.
    """
    folder = Path(root) / split
    if not folder.is_dir():
        raise DataError(folder, f"the folder does not exist; expected the sequences of the {split} split in it.")
    sequences = sorted(
        (entry for entry in folder.iterdir() if not entry.name.startswith(".") and entry.is_dir()),
        key=lambda entry: entry.name,
    )
    if not sequences:
        raise DataError(folder, f"holds no sequences; expected one folder for each sequence of the {split} split.")
    return sequences


# ------------------------------------------------------------------------------------------------ label arrays


@dataclass(frozen=True)
class SequenceLabels:
    """All labels of one sequence, grouped by labelled frame.

    Attributes:
        labels: `LABEL_DTYPE` [M], the boxes of the first labelled frame first.
        first_label_index: int64 [K], row of each labelled frame's first box; a frame ends where the next one starts.
    """

    labels: np.ndarray
    first_label_index: np.ndarray

    def __len__(self) -> int:
        """Number of labelled frames."""
        return len(self.first_label_index)

    @property
    def counts(self) -> np.ndarray:
        """Number of boxes of each labelled frame, int64 [K]."""
        return np.diff(self.first_label_index, append=len(self.labels))

    def frame(self, k: int) -> np.ndarray:
        """Boxes of labelled frame ``k``, `LABEL_DTYPE` rows (a view).

        Raises:
            IndexError: There is no labelled frame ``k``.
        """
        if not 0 <= k < len(self):
            raise IndexError(f"labelled frame {k} of {len(self)}")
        stop = self.first_label_index[k + 1] if k + 1 < len(self) else len(self.labels)
        return self.labels[self.first_label_index[k] : stop]

    def to_frame_pixels(self, path: Path, sensor: SensorSize, downsample_by_2: bool) -> SequenceLabels:
        """Clamp the boxes to the sensor and halve them where the frames are down-sampled.

        Halving may drop a box of less than a pixel at the right or bottom border; its labelled frame stays.

        Args:
            path: File to name in errors.
            sensor: Size of the sensor, the pixels of this object's boxes.
            downsample_by_2: Whether the frames are halved.

        Raises:
            DataError: A box lies outside the sensor.
        """
        size = (sensor.height, sensor.width)
        clamped = boxes.clamp(self.labels, size)
        flat = np.flatnonzero(~boxes.has_area(clamped))
        if len(flat):
            row = self.labels[flat[0]]
            raise DataError(
                path,
                f"{len(flat)} of {len(clamped)} boxes have no area inside the sensor of {sensor.height} x "
                f"{sensor.width} pixels (height x width); the first is row {flat[0]} with x={row['x']:g}, "
                f"y={row['y']:g}, w={row['w']:g}, h={row['h']:g}. Check the data set's sensor size, or preprocess the "
                "recording again.",
            )
        if not downsample_by_2:
            return SequenceLabels(clamped, self.first_label_index)
        halved = boxes.scale_all(clamped, size, 0.5)
        kept = boxes.has_area(halved)
        kept_before = np.concatenate([[0], np.cumsum(kept)])
        return SequenceLabels(halved[kept], kept_before[self.first_label_index])


def _first_row(wrong: np.ndarray) -> int:
    return int(np.flatnonzero(wrong)[0])


def convert_labels(path: Path, labels: np.ndarray, class_count: int | None = None) -> np.ndarray:
    """Convert a published label array to `LABEL_DTYPE` and check it.

    Both spellings of the time ('t', 'ts') and any numeric types are taken, `track_id` is left out, and a missing
    objectness is copied from the class confidence, as LEOD does.

    Args:
        path: File to name in errors.
        labels: Structured array [M].
        class_count: Number of classes; ids from there on are refused, except the ignored class.

    Returns:
        `LABEL_DTYPE` [M].

    Raises:
        DataError: Fields are missing or not numbers, or a row holds impossible values.
    """
    converted = convert_rows(path, labels, LABEL_DTYPE, {"objectness": "class_confidence"})
    if class_count is not None:
        check_class_ids(path, converted["class_id"], class_count)
    return converted


def check_class_ids(path: Path, class_id: np.ndarray, class_count: int) -> None:
    """Check that class ids are below ``class_count`` or mark ignored boxes.

    Raises:
        DataError: Another id occurs.
    """
    wrong = (class_id >= class_count) & (class_id != IGNORED_CLASS_ID)
    if wrong.any():
        found = np.unique(class_id[wrong]).tolist()
        raise DataError(
            path,
            f"row {_first_row(wrong)}: class id {int(class_id[wrong][0])}, but the data set has {class_count} classes "
            f"(ids 0..{class_count - 1}, {IGNORED_CLASS_ID} = ignored); unknown ids in this file: {found}. Correct the "
            "data set's list of classes, or leave the ids out with drop_class_ids when preprocessing.",
        )


# ----------------------------------------------------------------------------------------------------- reading


def _as_index(path: Path, name: str, values: np.ndarray, strictly: bool, limit: int | None = None) -> np.ndarray:
    """Check an index array: whole numbers, sorted, from 0 to below ``limit``; returns int64."""
    if values.ndim != 1 or values.dtype.kind not in "iu":
        # np.save writes an empty list as floats.
        if values.shape == (0,):
            return np.zeros(0, np.int64)
        raise DataError(
            path, f"{name} must be a one-dimensional array of integers; it is {values.dtype} {values.shape}."
        )
    index = values.astype(np.int64)
    steps = np.diff(index)
    unsorted = steps <= 0 if strictly else steps < 0
    if unsorted.any():
        position = _first_row(unsorted)
        raise DataError(
            path,
            f"{name} is not sorted: entry {position + 1} ({index[position + 1]}) follows {index[position]}. "
            "The file is damaged; preprocess the sequence again.",
        )
    if len(index) and (index[0] < 0 or (limit is not None and index[-1] >= limit)):
        raise DataError(
            path,
            f"{name} is out of range: its entries run from {index[0]} to {index[-1]}, "
            + (f"expected 0..{limit - 1}." if limit is not None else "expected no negative ones.")
            + " It does not belong to this sequence; preprocess it again.",
        )
    return index


def read_labels(sequence_dir: Path, class_count: int | None = None) -> SequenceLabels:
    """Read all labels of a sequence, in pixels of the full sensor.

    Args:
        sequence_dir: Folder of the sequence.
        class_count: Number of classes; None accepts any class id.

    Raises:
        DataError: `labels_v2/labels.npz` is missing, damaged or contradicts itself.
    """
    path = label_file(sequence_dir)
    rows, index = load_arrays(path, "labels", "objframe_idx_2_label_idx")
    labels = convert_labels(path, rows, class_count)
    name = "objframe_idx_2_label_idx"
    # A frame may be without boxes, the last ones too, hence one more than the last row.
    first_label_index = _as_index(path, name, index, strictly=False, limit=len(labels) + 1)
    unassigned = int(first_label_index[0]) if len(first_label_index) else len(labels)
    if unassigned:
        raise DataError(path, f"the first {unassigned} rows of 'labels' belong to no labelled frame of {name}.")
    return SequenceLabels(labels, first_label_index)


def read_labelled_frames(sequence_dir: Path, representation: str, frame_count: int | None = None) -> np.ndarray:
    """Read which frames of a sequence are labelled.

    Args:
        sequence_dir: Folder of the sequence.
        representation: Name of the event representation.
        frame_count: Number of frames, if known, to check the indices against.

    Returns:
        int64 [K], strictly increasing frame indices.

    Raises:
        DataError: The file is missing, damaged, unsorted or out of range.
    """
    path = labelled_frames_file(sequence_dir, representation)
    (index,) = load_arrays(path)
    return _as_index(path, "objframe_idx_2_repr_idx", index, strictly=True, limit=frame_count)


def read_timestamps(sequence_dir: Path, representation: str) -> np.ndarray:
    """Read the end of each frame's window in microseconds, int64 [frames].

    Raises:
        DataError: The file is missing or damaged, or time does not increase.
    """
    path = timestamps_file(sequence_dir, representation)
    (timestamps,) = load_arrays(path)
    return _as_index(path, "timestamps_us", timestamps, strictly=True)


def check_same_length(sequence_dir: Path, labels: SequenceLabels, labelled_frames: np.ndarray) -> None:
    """Check that a sequence's labels and its index of labelled frames belong together.

    Raises:
        DataError: They count different numbers of labelled frames.
    """
    if len(labels) != len(labelled_frames):
        raise DataError(
            sequence_dir,
            f"{label_file(sequence_dir).relative_to(sequence_dir)} describes {len(labels)} labelled frames, but "
            f"objframe_idx_2_repr_idx.npy {len(labelled_frames)}. They come from different runs; preprocess the "
            "sequence again.",
        )


# ----------------------------------------------------------------------------------------------------- writing


def _save_array(path: Path, array: np.ndarray) -> None:
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def write_labels(
    sequence_dir: Path,
    labels: np.ndarray,
    first_label_index: np.ndarray,
    frame_timestamps_us: np.ndarray | None = None,
) -> None:
    """Write `labels_v2/` of a sequence, each file atomically.

    Args:
        sequence_dir: Folder of the sequence.
        labels: [M] of `LABEL_DTYPE` (pseudo-labelled sets) or `RECORDING_BOX_DTYPE` (preprocessed sets, as RVT's).
        first_label_index: [K], row of each labelled frame's first box.
        frame_timestamps_us: [K], time of each labelled frame; None leaves that file out, as LEOD does.

    Raises:
        ResourceError: The disk is full or not writable.
    """
    dtype = RECORDING_BOX_DTYPE if "track_id" in labels.dtype.names else LABEL_DTYPE
    arrays = {
        "labels": clear_padding(labels, dtype),
        "objframe_idx_2_label_idx": np.asarray(first_label_index, np.int64),
    }
    path = label_file(sequence_dir)
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)
    if frame_timestamps_us is not None:
        _save_array(path.parent / "timestamps_us.npy", np.asarray(frame_timestamps_us, np.int64))


def write_labelled_frames(sequence_dir: Path, representation: str, labelled_frames: np.ndarray) -> None:
    """Write the index labelled frame -> frame, int64 [K], atomically."""
    _save_array(labelled_frames_file(sequence_dir, representation), np.asarray(labelled_frames, np.int64))


def write_timestamps(sequence_dir: Path, representation: str, timestamps_us: np.ndarray) -> None:
    """Write the end of each frame's window in microseconds, int64 [frames], atomically."""
    _save_array(timestamps_file(sequence_dir, representation), np.asarray(timestamps_us, np.int64))
