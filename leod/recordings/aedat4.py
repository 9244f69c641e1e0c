"""AEDAT4 recordings (iniVation's cameras), read by faery, which is an optional dependency."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from leod.config.schema import RecordingTimesConfig, SensorSize
from leod.errors import DataError
from leod.recordings.checking import EventChecker
from leod.recordings.chunk import DEFAULT_CHUNK_EVENTS, TIMES_AS_RECORDED, EventChunk, Recording, resolve_sensor_size
from leod.recordings.times import require_microseconds

try:
    import faery
except ImportError:
    faery = None

_MAGIC = b"#!AER-DAT4.0"


class Aedat4Recording(Recording):
    """An AEDAT4 file; of several event streams the first one is read, packet by packet.

    Times are microseconds since 1970, as the file has them: boxes must use the same clock.

    Args:
        path: The file.
        sensor: Size of the sensor, compared with what the file says.
        times: Shift of the clock, and which part is read.

    Raises:
        DataError: The file is damaged or of another kind, contradicts ``sensor``, the unit of ``times`` is another one,
            or faery is not installed.
    """

    def __init__(
        self, path: Path, sensor: SensorSize | None = None, times: RecordingTimesConfig = TIMES_AS_RECORDED
    ) -> None:
        self.path = Path(path)
        self._times = times
        require_microseconds(self.path, times, "AEDAT4")
        with self.path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise DataError(
                    self.path,
                    "is not an AEDAT4 file: empty, damaged or of an older version of AEDAT, which iniVation's "
                    "AedatTools turn into a bag of ROS (ExportRosBag).",
                )
        if faery is None:
            raise DataError(self.path, "reading AEDAT4 needs the package faery: pip install '.[aedat4]' in the clone.")
        width, height = self._open().dimensions()
        self.height, self.width = resolve_sensor_size(self.path, height, width, sensor)

    def _open(self) -> faery.FiniteEventsStream:
        try:
            return faery.events_stream_from_file(self.path)
        except Exception as error:  # the extension raises plain exceptions
            raise DataError(self.path, f"cannot be read as AEDAT4: damaged or cut off ({error}).") from None

    def _packets(self) -> Iterator[np.ndarray]:
        packets = iter(self._open())
        while True:
            try:
                packet = next(packets, None)
            except Exception as error:  # the extension raises plain exceptions
                raise DataError(self.path, f"cannot be read to its end: damaged or cut off ({error}).") from None
            if packet is None:
                return
            yield packet

    def chunks(self, max_events: int = DEFAULT_CHUNK_EVENTS) -> Iterator[EventChunk]:
        """Read all events; see `Recording.chunks`."""
        checker = EventChecker(self.path, self.height, self.width, self._times)
        for packet in self._packets():
            for start in range(0, len(packet), max_events):
                events = packet[start : start + max_events]
                t, x, y, p = (np.ascontiguousarray(events[name]) for name in ("t", "x", "y", "on"))
                chunk = checker.check(t.astype(np.int64), x, y, p)
                if len(chunk):
                    yield chunk
        checker.finish()

    def close(self) -> None:
        """Nothing to do: faery closes the file."""
