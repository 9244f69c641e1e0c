"""The files between inference and tracking: merged detections of every frame, one HDF5 file a shard.

::

    attributes: format, provenance (JSON), frame_height, frame_width
    sequences/<sequence name>/       attribute num_frames
        boxes                        LABEL_DTYPE [n], sorted by frame; t = 0
        frame_indices                int64 [n]

Boxes are in pixels of the *full sensor*, also where the frames are down-sampled: views are merged, tracks are followed
and labels are stored at that resolution (as in the public repository Wuziyi616/LEOD).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
import numpy.typing as npt

from leod.boxes.dtypes import LABEL_DTYPE, clear_padding
from leod.errors import DataError
from leod.files import atomic_file

FORMAT = "leod-predictions-1"


@dataclass(frozen=True)
class SequencePredictions:
    """Merged detections of one sequence.

    Attributes:
        name: Name of the sequence.
        num_frames: Frames of the sequence.
        boxes: `LABEL_DTYPE` [n] in pixels of the full sensor, sorted by frame, t = 0.
        frame_indices: int64 [n], the frame of each box.
    """

    name: str
    num_frames: int
    boxes: np.ndarray
    frame_indices: npt.NDArray[np.int64]

    def check(self, path: Path) -> None:
        """Check that the predictions do not contradict themselves.

        Args:
            path: File to name in errors.

        Raises:
            DataError: Lengths or types disagree, frames are unsorted or out of range, a box holds impossible values.
        """
        boxes, frames = self.boxes, self.frame_indices
        where = f"sequence {self.name!r}"
        again = "The file is damaged; delete it and generate the pseudo-labels again."
        if boxes.dtype != LABEL_DTYPE or boxes.ndim != 1 or frames.dtype != np.int64 or frames.ndim != 1:
            raise DataError(path, f"{where}: expected boxes of {LABEL_DTYPE} [n] and int64 [n] frame indices. {again}")
        if len(boxes) != len(frames):
            raise DataError(path, f"{where}: {len(boxes)} boxes but {len(frames)} frame indices. {again}")
        if len(frames) == 0:
            return
        if frames[0] < 0 or frames[-1] >= self.num_frames or (np.diff(frames) < 0).any():
            raise DataError(
                path, f"{where}: frame indices are not sorted or not within 0..{self.num_frames - 1}. {again}"
            )
        finite = np.ones(len(boxes), bool)
        for name in ("x", "y", "w", "h", "class_confidence", "objectness"):
            finite &= np.isfinite(boxes[name])
        wrong = ~finite | (boxes["w"] <= 0) | (boxes["h"] <= 0) | (boxes["t"] != 0)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise DataError(
                path,
                f"{where}: row {row} of 'boxes' is {boxes[row]}, expected finite numbers, a positive width and height, "
                f"and t = 0. {again}",
            )


def write_predictions(
    path: Path,
    sequences: Iterable[SequencePredictions],
    sensor_size: tuple[int, int],
    provenance: dict[str, Any],
) -> None:
    """Write one shard atomically; one sequence at a time is held in memory.

    Args:
        path: Destination, `<shard>.h5`.
        sequences: Predictions, one entry per sequence.
        sensor_size: (height, width) of the full sensor, the pixels of the boxes.
        provenance: What the predictions were made from, plain JSON data.

    Raises:
        DataError: A sequence contradicts itself.
        ResourceError: The disk is full or not writable; nothing is left behind.
    """
    with atomic_file(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["format"] = FORMAT
        file.attrs["provenance"] = json.dumps(provenance)
        file.attrs["frame_height"], file.attrs["frame_width"] = sensor_size
        root = file.create_group("sequences", track_order=True)
        for sequence in sequences:
            sequence.check(path)
            group = root.create_group(sequence.name)
            group.attrs["num_frames"] = sequence.num_frames
            compression = {"compression": "gzip", "shuffle": True} if len(sequence.boxes) else {}
            group.create_dataset("boxes", data=clear_padding(sequence.boxes, LABEL_DTYPE), **compression)
            group.create_dataset("frame_indices", data=sequence.frame_indices, **compression)


class PredictionsFile:
    """One shard, opened for reading; a context manager.

    Args:
        path: The shard's file.

    Raises:
        DataError: The file is missing, cut off, or not a shard of predictions.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        try:
            self._file = h5py.File(self.path, "r")
        except FileNotFoundError:
            raise DataError(self.path, "the file does not exist. Generate the pseudo-labels first.") from None
        except OSError as error:
            raise DataError(
                self.path,
                f"cannot be read as HDF5 ({error}); it may be cut off. Delete it and generate the pseudo-labels again.",
            ) from error
        found = self._file.attrs.get("format")
        if found != FORMAT or "sequences" not in self._file:
            self._file.close()
            raise DataError(self.path, f"is not a file of predictions: expected format {FORMAT!r}, found {found!r}.")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def names(self) -> list[str]:
        """Names of the sequences in the file, sorted."""
        return sorted(self._file["sequences"])

    @property
    def provenance(self) -> dict[str, Any]:
        """What the predictions were made from."""
        return json.loads(self._file.attrs["provenance"])

    @property
    def sensor_size(self) -> tuple[int, int]:
        """(height, width) of the sensor in pixels, the resolution of the boxes."""
        return int(self._file.attrs["frame_height"]), int(self._file.attrs["frame_width"])

    def __getitem__(self, name: str) -> SequencePredictions:
        """Read one sequence.

        Raises:
            DataError: It is not in the file, or damaged.
        """
        root = self._file["sequences"]
        if name not in root:
            raise DataError(self.path, f"holds no predictions of sequence {name!r}.")
        group = root[name]
        try:
            predictions = SequencePredictions(
                name=name,
                num_frames=int(group.attrs["num_frames"]),
                boxes=group["boxes"][()],
                frame_indices=group["frame_indices"][()],
            )
        except (OSError, KeyError, RuntimeError) as error:
            raise DataError(
                self.path,
                f"sequence {name!r} cannot be read ({error}). Delete the file and generate the pseudo-labels again.",
            ) from error
        predictions.check(self.path)
        return predictions

    def __iter__(self) -> Iterator[SequencePredictions]:
        """All sequences, sorted by name, one at a time."""
        return (self[name] for name in self.names)


class PredictionShards:
    """All shards of one round; a context manager that keeps every shard's file open.

    Args:
        paths: The shards' files.

    Raises:
        DataError: A file is damaged, a sequence is in two shards, or sensors differ.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._files: list[PredictionsFile] = []
        self._file_of: dict[str, PredictionsFile] = {}
        try:
            for path in paths:
                self._open(Path(path))
        except BaseException:
            self.close()
            raise

    def _open(self, path: Path) -> None:
        file = PredictionsFile(path)
        self._files.append(file)
        if file.sensor_size != self._files[0].sensor_size:
            raise DataError(
                path,
                f"was made for a sensor of {file.sensor_size} pixels (height, width), but {self._files[0].path} for "
                f"{self._files[0].sensor_size}. Generate all shards with the same settings.",
            )
        for name in file.names:
            if name in self._file_of:
                raise DataError(
                    path,
                    f"holds sequence {name!r}, which {self._file_of[name].path} holds too. The shards come from "
                    "different divisions; delete them and generate the pseudo-labels again.",
                )
            self._file_of[name] = file

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all files."""
        for file in self._files:
            file.__exit__(None, None, None)

    @property
    def names(self) -> list[str]:
        """Names of all sequences, sorted."""
        return sorted(self._file_of)

    @property
    def sensor_size(self) -> tuple[int, int]:
        """(height, width) of the sensor in pixels, the resolution of the boxes."""
        return self._files[0].sensor_size

    def path_of(self, name: str) -> Path:
        """The file that holds a sequence."""
        return self._file_of[name].path

    def __getitem__(self, name: str) -> SequencePredictions:
        """Read one sequence.

        Raises:
            DataError: No shard holds it, or it is damaged.
        """
        if name not in self._file_of:
            raise DataError(
                self._files[0].path.parent if self._files else Path(),
                f"no shard holds predictions of sequence {name!r}. Generate the pseudo-labels of all shards.",
            )
        return self._file_of[name][name]
