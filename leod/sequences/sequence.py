"""Preprocessed sequences on disk: event representations and labels of one recording."""

from __future__ import annotations

import hashlib
import logging
import os
from functools import cached_property
from pathlib import Path

import numpy as np

from leod.config.schema import SequenceConfig
from leod.errors import DataError
from leod.progress import progress
from leod.sequences.handles import close_hdf5, open_dataset
from leod.sequences.layout import (
    SequenceLabels,
    check_same_length,
    label_file,
    list_sequences,
    read_labelled_frames,
    read_labels,
    read_timestamps,
    representations_dir,
    timestamps_file,
)
from leod.sequences.links import frames_behind
from leod.sequences.representations import representation_file_name, representation_name

logger = logging.getLogger(__name__)

_DIGEST_SAMPLE = 4096
_FRAME_DTYPES = {"stacked_histogram": np.dtype(np.uint8), "mixed_density": np.dtype(np.int8)}


class Sequence:
    """One preprocessed sequence. Labels are in memory, frames stay on disk until they are read.

    Objects are cheap to copy to other processes: each process opens the frames on its own.

    Args:
        path: Folder of the sequence in RVT's layout; it and what it contains may be links.
        config: What the data set's frames and classes look like.
        originals: The data set that this one was made from: where the link to the frames leads nowhere, they are taken
            from there.

    Attributes:
        path: As given.
        name: Name of the folder.
        frames_path: The file of the frames.
        num_frames: Frames of the sequence.
        labelled_frames: int64 [K], strictly increasing: frame of each labelled frame.

    Raises:
        DataError: A file is missing or damaged, or two of them contradict each other or ``config``.
    """

    def __init__(self, path: Path, config: SequenceConfig, originals: Path | None = None) -> None:
        self.path = Path(path)
        self.name = self.path.name
        self._representation = representation_name(config.representation, config.window_us)
        folder = representations_dir(self.path) / self._representation
        if not folder.is_dir():
            existing = sorted(entry.name for entry in representations_dir(self.path).glob("*") if entry.is_dir())
            raise DataError(
                folder,
                "this event representation does not exist; the sequence has "
                f"{', '.join(existing) or 'none'}. Preprocess with the same representation and window length.",
            )
        self.frames_path = frames_behind(folder / representation_file_name(config.downsample_by_2), originals)
        self._frame_shape = (config.representation.channels, *config.frame_size)
        self._frame_dtype = _FRAME_DTYPES[config.representation.kind]
        self.num_frames = self._check_frames()
        full_size_labels = read_labels(self.path, class_count=len(config.classes))
        self.labelled_frames = read_labelled_frames(self.path, self._representation, frame_count=self.num_frames)
        check_same_length(self.path, full_size_labels, self.labelled_frames)
        self._labels = full_size_labels.to_frame_pixels(label_file(self.path), config.sensor, config.downsample_by_2)

    def __repr__(self) -> str:
        return f"Sequence({self.name!r}, {self.num_frames} frames, {len(self.labelled_frames)} labelled)"

    def _check_frames(self) -> int:
        data = open_dataset(self.frames_path, "data")
        shape, dtype = data.shape, data.dtype
        # Only the frames that are read later on shall stay open.
        close_hdf5(self.frames_path)
        expected = ", ".join(str(number) for number in self._frame_shape)
        if len(shape) != 4 or shape[1:] != self._frame_shape or dtype != self._frame_dtype:
            raise DataError(
                self.frames_path,
                f"dataset 'data' is {dtype} [{', '.join(str(number) for number in shape)}], expected "
                f"{self._frame_dtype} [frames, {expected}] (channels, height, width). Check sensor size, "
                "representation and downsample_by_2 of the data set, or preprocess again.",
            )
        if shape[0] == 0:
            raise DataError(self.frames_path, "holds no frames. Remove the sequence or preprocess again.")
        return int(shape[0])

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a frame."""
        return self._frame_shape

    @property
    def frame_dtype(self) -> np.dtype:
        """Type of a frame's values: uint8 for histograms, int8 for mixed-density stacks."""
        return self._frame_dtype

    @property
    def labels(self) -> np.ndarray:
        """All labels, `LABEL_DTYPE` [M], clamped to the sensor, in pixels of the (halved) frame."""
        return self._labels.labels

    @property
    def sequence_labels(self) -> SequenceLabels:
        """All labels grouped by labelled frame, in pixels of the (halved) frame."""
        return self._labels

    def frame_labels(self, k: int) -> np.ndarray:
        """Labels of labelled frame ``k`` (frame ``labelled_frames[k]``), `LABEL_DTYPE` rows in frame pixels."""
        return self._labels.frame(k)

    @property
    def has_timestamps(self) -> bool:
        """Whether the set has time stamps; pseudo-labelled ones of the published code have none."""
        return timestamps_file(self.path, self._representation).is_file()

    @cached_property
    def timestamps_us(self) -> np.ndarray:
        """End of each frame's window in microseconds, int64 [num_frames].

        Raises:
            DataError: The file is missing or belongs to another number of frames.
        """
        timestamps = read_timestamps(self.path, self._representation)
        if len(timestamps) != self.num_frames:
            raise DataError(
                timestamps_file(self.path, self._representation),
                f"has {len(timestamps)} time stamps, but there are {self.num_frames} frames. Preprocess again.",
            )
        return timestamps

    def frames_digest(self) -> bytes:
        """Tell frames of one content from those of another without reading them all.

        Compressed frames that differ nearly always differ in size; a few of their bytes make up for the rest.

        Raises:
            DataError: The file cannot be read.
        """
        try:
            with self.frames_path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                digest = hashlib.sha256(str(size).encode())
                for eighth in (1, 3, 5, 7):
                    file.seek(size * eighth // 8)
                    digest.update(file.read(_DIGEST_SAMPLE))
                return digest.digest()
        except OSError as error:
            raise DataError(self.frames_path, f"cannot be read ({error}).") from error

    def read_frames(self, start: int, stop: int) -> np.ndarray:
        """Read and decompress frames ``start`` to ``stop`` (exclusive).

        Returns:
            [stop - start, C, H, W] of `frame_dtype`.

        Raises:
            IndexError: The frames do not all exist.
            DataError: The file is damaged.
        """
        if not 0 <= start <= stop <= self.num_frames:
            raise IndexError(f"frames {start}..{stop} of {self.name}, which has {self.num_frames}")
        data = open_dataset(self.frames_path, "data")
        try:
            frames = data[start:stop]
        except OSError as error:
            raise DataError(
                self.frames_path,
                f"frames {start}..{stop} cannot be read ({error}); the file is damaged or cut off. Delete the "
                "sequence and preprocess again.",
            ) from error
        if len(frames) != stop - start:
            raise DataError(
                self.frames_path,
                f"has fewer frames than when it was opened ({self.num_frames}); it was replaced meanwhile. Run again.",
            )
        return frames


def open_split(root: Path, split: str, config: SequenceConfig, originals: Path | None = None) -> list[Sequence]:
    """Open all sequences of one split.

    Args:
        root: Folder of the data set, with one folder per split.
        split: 'train', 'val' or 'test'.
        config: What the data set's frames and classes look like.
        originals: See `Sequence`.

    Returns:
        Sequences sorted by name.

    Raises:
        DataError: The split is missing or empty, or one of its sequences is damaged.
    """
    paths = list_sequences(root, split)
    sequences = [
        Sequence(path, config, originals) for path in progress(paths, f"opening {split} sequences", unit="sequence")
    ]
    logger.info("%s: %d sequences in split %s", root, len(sequences), split)
    moved = sum(not sequence.frames_path.is_relative_to(sequence.path) for sequence in sequences)
    if moved:
        logger.info("the links of %d of them lead nowhere: their frames are taken from %s", moved, originals)
    return sequences
