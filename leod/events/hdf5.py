"""HDF5 event files as RVT uses them: a group `events` with t, x, y, p and optionally height and width."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 -- registers the filters that the published files are compressed with
import numpy as np

from leod.config.schema import SensorSize
from leod.errors import DataError
from leod.events.chunk import (
    DEFAULT_CHUNK_EVENTS,
    MAXIMUM_GAP_US,
    MAXIMUM_LATENESS_US,
    EventChunk,
    Recording,
    describe_time_jump,
    resolve_sensor_size,
)
from leod.jit import compiled

_COLUMNS = ("t", "x", "y", "p")
_COMPLETE, _BAD_TIME, _BAD_POSITION, _BAD_POLARITY = 0, 1, 2, 3


@compiled
def _check(latest, raw_t, raw_x, raw_y, raw_p, height, width, t, x, y, p):  # noqa: ANN001, ANN202 -- compiled
    """Copy events into the common types and check them; returns (state, index, latest time)."""
    for i in range(len(t)):
        time = np.int64(raw_t[i])
        if latest < 0:
            if time < 0:
                return _BAD_TIME, i, latest
            latest = time
        if time > latest + MAXIMUM_GAP_US or time < latest - MAXIMUM_LATENESS_US:
            return _BAD_TIME, i, latest
        latest = max(latest, time)
        if raw_x[i] < 0 or raw_x[i] >= width or raw_y[i] < 0 or raw_y[i] >= height:
            return _BAD_POSITION, i, latest
        if raw_p[i] < -1 or raw_p[i] > 1:
            return _BAD_POLARITY, i, latest
        t[i] = latest
        x[i] = raw_x[i]
        y[i] = raw_y[i]
        # Some converters write -1 for darker.
        p[i] = max(raw_p[i], 0)
    return _COMPLETE, np.int64(-1), latest


class Hdf5Recording(Recording):
    """An HDF5 event file.

    Args:
        path: The file.
        sensor: Size of the sensor where the file does not tell it.

    Raises:
        DataError: The file is not HDF5, lacks one of events/{t,x,y,p}, their lengths or types do not fit, or the
            sensor size is unknown.
    """

    def __init__(self, path: Path, sensor: SensorSize | None = None) -> None:
        self.path = Path(path)
        try:
            self._file = h5py.File(self.path, "r")
        except OSError as error:
            raise DataError(self.path, f"cannot be opened as HDF5: damaged or cut off ({error}).") from None
        try:
            self._columns = self._find_columns()
            self.num_events = len(self._columns["t"])
            size = (self._size_field("height"), self._size_field("width"))
            self.height, self.width = resolve_sensor_size(self.path, *size, sensor)
        except BaseException:
            self._file.close()
            raise

    def _find_columns(self) -> dict[str, h5py.Dataset]:
        group = self._file.get("events")
        if not isinstance(group, h5py.Group):
            raise DataError(self.path, f"has no group 'events'; it holds {sorted(self._file) or 'nothing'}.")
        columns = {}
        for name in _COLUMNS:
            column = group.get(name)
            if not isinstance(column, h5py.Dataset) or column.ndim != 1 or column.dtype.kind not in "iub":
                raise DataError(self.path, f"'events/{name}' is missing or is not a list of whole numbers.")
            columns[name] = column
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) > 1:
            raise DataError(self.path, f"t, x, y and p differ in length: {lengths}. The file is incomplete.")
        return columns

    def _size_field(self, name: str) -> int | None:
        value = self._file["events"].get(name)
        return int(np.asarray(value[()]).reshape(-1)[0]) if isinstance(value, h5py.Dataset) else None

    def chunks(self, max_events: int = DEFAULT_CHUNK_EVENTS) -> Iterator[EventChunk]:
        """Read all events; see `Recording.chunks`."""
        latest = -1
        for start in range(0, self.num_events, max_events):
            stop = min(start + max_events, self.num_events)
            try:
                raw = [self._columns[name][start:stop] for name in _COLUMNS]
            except OSError as error:
                raise DataError(self.path, f"events {start} to {stop} cannot be read: damaged ({error}).") from None
            raw = [column.view(np.uint8) if column.dtype.kind == "b" else column for column in raw]
            count = stop - start
            chunk = EventChunk(
                t=np.empty(count, np.int64),
                x=np.empty(count, np.uint16),
                y=np.empty(count, np.uint16),
                p=np.empty(count, np.uint8),
            )
            columns = (chunk.t, chunk.x, chunk.y, chunk.p)
            state, index, latest = _check(latest, *raw, self.height, self.width, *columns)
            if state != _COMPLETE:
                raise DataError(self.path, self._describe(state, start, index, latest, raw))
            yield chunk

    def _describe(self, state: int, start: int, index: int, latest: int, raw: list[np.ndarray]) -> str:
        t, x, y, p = (int(column[index]) for column in raw)
        event = start + index
        if state == _BAD_TIME:
            return describe_time_jump(event, int(latest), t)
        if state == _BAD_POSITION:
            return (
                f"event {event} lies at x = {x}, y = {y}, outside the sensor of {self.width} x {self.height} pixels "
                "(width x height). The sensor size is wrong or the file is damaged."
            )
        return f"event {event} has polarity {p}; expected 0 or 1 (or -1 and 1)."

    def close(self) -> None:
        """Close the file."""
        self._file.close()
