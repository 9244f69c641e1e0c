"""HDF5 event files: as RVT uses them, and as Prophesee's Metavision writes them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 -- registers the filters that the published files are compressed with
import numpy as np

from leod.config.schema import SensorSize
from leod.errors import DataError
from leod.events.checking import EventChecker
from leod.events.chunk import DEFAULT_CHUNK_EVENTS, EventChunk, Recording, resolve_sensor_size

_COLUMNS = ("t", "x", "y", "p")
_ECF_FILTER = 0x8ECF


class Hdf5Recording(Recording):
    """An HDF5 event file in one of two layouts.

    RVT's has a group `events` with t, x, y, p and optionally height and width. Metavision's has a table `CD/events`
    with these fields and the size in the attribute `geometry` of the file; it is usually compressed with Prophesee's
    ECF codec, which needs Prophesee's HDF5 plugin.

    Args:
        path: The file.
        sensor: Size of the sensor where the file does not tell it.

    Raises:
        DataError: The file is not HDF5, has neither layout, the columns' lengths or types do not fit, the codec is not
            installed, or the sensor size is unknown.
    """

    def __init__(self, path: Path, sensor: SensorSize | None = None) -> None:
        self.path = Path(path)
        try:
            self._file = h5py.File(self.path, "r")
        except OSError as error:
            raise DataError(self.path, f"cannot be opened as HDF5: damaged or cut off ({error}).") from None
        try:
            self._table = self._find_table()
            self._columns = {} if self._table is not None else self._find_columns()
            self.num_events = len(self._columns["t"] if self._table is None else self._table)
            self._events_read = 0
            self.height, self.width = resolve_sensor_size(self.path, *self._find_size(), sensor)
        except BaseException:
            self._file.close()
            raise

    @property
    def fraction_read(self) -> float:
        """Share of the file that the latest `chunks` has gone through, 0..1."""
        return self._events_read / max(self.num_events, 1)

    def _find_table(self) -> h5py.Dataset | None:
        """Metavision's table, if the file has that layout."""
        if "events" in self._file or not isinstance(self._file.get("CD/events"), h5py.Dataset):
            return None
        table = self._file["CD/events"]
        names = table.dtype.names or ()
        if table.ndim != 1 or any(name not in names or table.dtype[name].kind not in "iub" for name in _COLUMNS):
            raise DataError(self.path, f"'CD/events' must be a table of t, x, y, p; it has {list(names)}.")
        creation = table.id.get_create_plist()
        filters = [creation.get_filter(number)[0] for number in range(creation.get_nfilters())]
        if _ECF_FILTER in filters and not h5py.h5z.filter_avail(_ECF_FILTER):
            raise DataError(
                self.path,
                "is compressed with Prophesee's ECF codec, which no Python package brings along. Install Prophesee's "
                "plugin for HDF5 (part of OpenEB and the Metavision SDK) and set HDF5_PLUGIN_PATH to its folder, or "
                "convert the recording with metavision_file_to_dat, or use the RAW file it was made from.",
            )
        return table

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

    def _find_size(self) -> tuple[int | None, int | None]:
        """(height, width) according to the file, as far as it tells them."""
        if self._table is not None:
            geometry = self._file.attrs.get("geometry", "")
            geometry = geometry.decode("ascii", "replace") if isinstance(geometry, bytes) else str(geometry)
            found = re.fullmatch(r"(\d+)x(\d+)", geometry)
            return (int(found[2]), int(found[1])) if found else (None, None)
        return self._size_field("height"), self._size_field("width")

    def _size_field(self, name: str) -> int | None:
        value = self._file["events"].get(name)
        return int(np.asarray(value[()]).reshape(-1)[0]) if isinstance(value, h5py.Dataset) else None

    def _read(self, start: int, stop: int) -> list[np.ndarray]:
        try:
            if self._table is None:
                return [self._columns[name][start:stop] for name in _COLUMNS]
            rows = self._table[start:stop]
        except OSError as error:
            raise DataError(self.path, f"events {start} to {stop} cannot be read: damaged ({error}).") from None
        return [np.ascontiguousarray(rows[name]) for name in _COLUMNS]

    def chunks(self, max_events: int = DEFAULT_CHUNK_EVENTS) -> Iterator[EventChunk]:
        """Read all events; see `Recording.chunks`."""
        checker = EventChecker(self.path, self.height, self.width)
        for start in range(0, self.num_events, max_events):
            stop = min(start + max_events, self.num_events)
            chunk = checker.check(*self._read(start, stop))
            self._events_read = stop
            yield chunk

    def close(self) -> None:
        """Close the file."""
        self._file.close()
