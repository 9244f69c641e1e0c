"""Opening recordings, whatever their format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from leod.config.schema import RecordingTimesConfig, SensorSize
from leod.errors import DataError
from leod.recordings.aedat4 import Aedat4Recording
from leod.recordings.chunk import TIMES_AS_RECORDED, EventChunk, Recording
from leod.recordings.dat import DatRecording
from leod.recordings.hdf5 import Hdf5Recording
from leod.recordings.raw import RawRecording
from leod.recordings.ros import RosRecording

__all__ = ["RECORDING_SUFFIXES", "EventChunk", "Recording", "open_recording"]

_READERS: dict[str, Callable[[Path, SensorSize | None, RecordingTimesConfig], Recording]] = {
    ".dat": DatRecording,
    ".h5": Hdf5Recording,
    ".hdf5": Hdf5Recording,
    ".raw": RawRecording,
    ".aedat4": Aedat4Recording,
    ".bag": RosRecording,
    ".mcap": RosRecording,
    ".db3": RosRecording,
}

_COLUMNS_TO_HDF5 = "write the columns to HDF5, with h5py: file['events/t'] = …, and x, y and p alike"
# Formats that others write, and what makes one of ours of them.
_CONVERTERS = {
    ".aedat": "AEDAT 2 and 3 become a bag of ROS with iniVation's AedatTools (ExportRosBag)",
    ".es": "Event Stream becomes AEDAT4 with faery (faery input file a.es output file a.aedat4)",
    **dict.fromkeys((".csv", ".txt", ".npy", ".npz"), _COLUMNS_TO_HDF5),
}

RECORDING_SUFFIXES = tuple(_READERS)
"""Suffixes of the files that `open_recording` reads."""


def open_recording(
    path: Path, sensor: SensorSize | None = None, times: RecordingTimesConfig = TIMES_AS_RECORDED
) -> Recording:
    """Open a recording for reading; the suffix tells the format.

    Args:
        path: A DAT v2 file (.dat), an HDF5 event file (.h5, .hdf5), a Prophesee RAW file (.raw), an AEDAT4 file
            (.aedat4), or a recording of ROS (.bag, .mcap, .db3); in capital letters as well.
        sensor: Size of the sensor. Needed where the file does not tell it, compared where it does.
        times: Unit and shift of the recording's clock, and which part is read.

    Returns:
        The open recording; close it or use it in a ``with`` statement.

    Raises:
        DataError: The file does not exist, is of an unknown format or damaged, contradicts ``sensor``, or neither
            tells the sensor size.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(path, "the recording does not exist.")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        advice = _CONVERTERS.get(path.suffix.lower())
        raise DataError(
            path,
            f"unknown format; expected a file that ends in {', '.join(RECORDING_SUFFIXES)}."
            + (f" To convert it: {advice}." if advice else ""),
        )
    return reader(path, sensor, times)
