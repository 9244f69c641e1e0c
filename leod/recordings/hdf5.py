"""HDF5 event files: as RVT and DSEC use them, as Prophesee's Metavision writes them, and their relatives."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 -- registers the filters that the published files are compressed with
import numpy as np

from leod.config.schema import US_PER_UNIT, RecordingTimesConfig, SensorSize
from leod.errors import DataError
from leod.recordings import ecf
from leod.recordings.checking import EventChecker
from leod.recordings.chunk import DEFAULT_CHUNK_EVENTS, TIMES_AS_RECORDED, EventChunk, Recording, resolve_sensor_size
from leod.recordings.times import to_microseconds

logger = logging.getLogger(__name__)

_PLACES = ("events", "CD/events", "/")
_NAMES = {
    "t": ("t", "ts", "time", "times", "timestamp", "timestamps"),
    "x": ("x", "xs", "x_pos"),
    "y": ("y", "ys", "y_pos"),
    "p": ("p", "ps", "pol", "polarity", "on"),
}
_KINDS = {"t": "iuf", "x": "iu", "y": "iu", "p": "iub"}
_MOST_LISTED = 20
_LARGEST_SHIFT_US = 1 << 62
_OTHER_NAMES = "; ".join(f"{name} (or {', '.join(others)})" for name, (_, *others) in _NAMES.items())
_LAYOUTS = (
    "Expected a group 'events' (or 'CD/events', or the top of the file) with lists of equal length, or a table of this "
    f"name with such fields: {_OTHER_NAMES}."
)


class Hdf5Recording(Recording):
    """An HDF5 event file.

    The events are four lists in a group, as in RVT's and DSEC's files, or a table with four fields, as in Metavision's,
    under one of the usual names. The size of the sensor is `height` and `width` beside them or at the top of the file,
    as number or attribute, or the attribute `geometry`. A single number `t_offset` beside them or at the top, as in
    DSEC's files, is added to all times; it counts in their unit. Metavision's ECF compression is decoded here.

    Args:
        path: The file.
        sensor: Size of the sensor where the file does not tell it.
        times: Unit and shift of the clock, and which part is read. Fractional times need a unit.

    Raises:
        DataError: The file is not HDF5, has no such layout, the columns' lengths or types do not fit, or the sensor
            size is unknown.
    """

    def __init__(
        self, path: Path, sensor: SensorSize | None = None, times: RecordingTimesConfig = TIMES_AS_RECORDED
    ) -> None:
        self.path = Path(path)
        self._times = times
        try:
            self._file = h5py.File(self.path, "r")
        except OSError as error:
            raise DataError(self.path, f"cannot be opened as HDF5: damaged or cut off ({error}).") from None
        try:
            self._place, events = self._find_events()
            self._is_table = isinstance(events, h5py.Dataset)
            self._events = events
            self._fields = self._find_fields()
            self._lists = [] if self._is_table else [events[self._fields[column]] for column in _NAMES]
            self.num_events = len(events if self._is_table else self._lists[0])
            self._check_times()
            self._shift_us = self._find_shift()
            self._codec_is_ecf = self._is_table and self._uses_ecf()
            self._events_read = 0
            self.height, self.width = resolve_sensor_size(self.path, *self._find_size(), sensor)
        except BaseException:
            self._file.close()
            raise

    @property
    def fraction_read(self) -> float:
        """Share of the file that the latest `chunks` has gone through, 0..1."""
        return self._events_read / max(self.num_events, 1)

    def _contents(self) -> str:
        """What the file holds, in words."""
        found: list[str] = []

        def note(name: str, item: h5py.Dataset | h5py.Group) -> None:
            if isinstance(item, h5py.Dataset):
                found.append(_describe(name, item))

        self._file.visititems(note)
        if not found:
            return f"It holds no data, only the groups {sorted(self._file)}." if len(self._file) else "It is empty."
        more = f" and {len(found) - _MOST_LISTED} more" if len(found) > _MOST_LISTED else ""
        return f"It holds {', '.join(found[:_MOST_LISTED])}{more}."

    def _find_events(self) -> tuple[str, h5py.Group | h5py.Dataset]:
        """The group or table of the events and its name."""
        for place in _PLACES:
            item = self._file.get(place)
            if isinstance(item, h5py.Dataset):
                if item.dtype.names is None:
                    raise DataError(
                        self.path,
                        f"{_describe(place, item)} is a plain array: nothing says which of its columns is which of t, "
                        "x, y and p. Write each column to a list of its own, with h5py such as file['events/t'] = "
                        "array[:, 0].",
                    )
                if item.ndim != 1:
                    raise DataError(self.path, f"{_describe(place, item)} must have a single dimension.")
                return place, item
            if isinstance(item, h5py.Group) and any(name in item for names in _NAMES.values() for name in names):
                return place, item
        raise DataError(self.path, f"no events were found. {_LAYOUTS} {self._contents()}")

    def _find_fields(self) -> dict[str, str]:
        """Name of each column's list or field."""
        available: Collection[str] = self._events.dtype.names if self._is_table else self._events
        fields: dict[str, str] = {}
        for column, names in _NAMES.items():
            found = [name for name in names if name in available]
            if not found:
                raise DataError(
                    self.path,
                    f"{self._place!r} has no {column}; it may be called {', '.join(names)}. {self._contents()}",
                )
            if len(found) > 1:
                raise DataError(
                    self.path,
                    f"{self._place!r} has several lists that could be {column}: {', '.join(found)}. Leave one of them.",
                )
            fields[column] = found[0]
            item = self._events if self._is_table else self._events[found[0]]
            kind = self._events.dtype[found[0]] if self._is_table else getattr(item, "dtype", None)
            if kind is None or item.ndim != 1 or kind.kind not in _KINDS[column]:
                name = f"{self._place.rstrip('/')}/{found[0]}"
                what = f"{name!r} ({kind})" if self._is_table else _describe(name, item)
                numbers = "numbers" if column == "t" else "whole numbers"
                raise DataError(self.path, f"{what} must be one list of {numbers}. {self._contents()}")
        if not self._is_table:
            lengths = {name: len(self._events[name]) for name in fields.values()}
            if len(set(lengths.values())) > 1:
                raise DataError(self.path, f"t, x, y and p differ in length: {lengths}. The file is incomplete.")
        return fields

    def _check_times(self) -> None:
        """Refuse fractional times of an unknown unit; warn of digits that are missing."""
        name = self._fields["t"]
        kind = self._events.dtype[name] if self._is_table else self._events[name].dtype
        if kind.kind != "f" or not self.num_events:
            return
        ends = np.concatenate([self._read(at, at + 1)[0] for at in (0, self.num_events - 1)])
        if self._times.unit is None:
            raise DataError(
                self.path,
                f"the times '{name}' are fractional numbers ({kind}), from {ends[0]} to {ends[1]}, and nothing "
                "says what they count. Give the unit in the data set file, for seconds recording_times: {unit: s} "
                "(leod detect: --time-unit s); others are ms, us and ns.",
            )
        if np.isfinite(ends).all():
            step_us = float(np.spacing(np.abs(ends).max())) * US_PER_UNIT[self._times.unit]
            if step_us > 1:
                logger.warning(
                    "%s: the times are of the type %s, which cannot tell apart what lies closer than %.3g us around "
                    "%s. Write them with more digits.",
                    *(self.path, kind, step_us, ends[1]),
                )

    def _beside(self, name: str) -> list[h5py.Dataset]:
        """Data of this name beside the events and at the top of the file."""
        groups = [self._events.parent] if self._is_table else [self._events, self._events.parent]
        found = {item.name: item for item in (group.get(name) for group in (*groups, self._file)) if item is not None}
        return [item for item in found.values() if isinstance(item, h5py.Dataset)]

    def _find_shift(self) -> int:
        """What `t_offset` adds to all times, microseconds; 0 where there is none."""
        found = self._beside("t_offset")
        shifts = []
        for item in found:
            if item.size != 1 or item.dtype.kind not in "iu":
                raise DataError(
                    self.path,
                    f"{_describe(item.name, item)} must be a single whole number, which is added to all times.",
                )
            value = np.asarray(item[()]).reshape(1)
            shift = int(to_microseconds(self.path, value, self._times.unit)[0])
            if abs(shift) > _LARGEST_SHIFT_US:
                raise DataError(self.path, f"{_describe(item.name, item)} is {value[0]}, which is no time.")
            shifts.append(shift)
        if len(set(shifts)) > 1:
            raise DataError(
                self.path, f"{' and '.join(item.name for item in found)} contradict each other: {shifts}. Keep one."
            )
        if shifts and shifts[0]:
            logger.info("%s: %d us are added to all times (t_offset)", self.path, shifts[0])
        return shifts[0] if shifts else 0

    def _uses_ecf(self) -> bool:
        """Whether the table is compressed with ECF and nothing else."""
        creation = self._events.id.get_create_plist()
        filters = [creation.get_filter(number)[0] for number in range(creation.get_nfilters())]
        if ecf.FILTER_ID not in filters:
            return False
        if filters != [ecf.FILTER_ID] or set(self._fields) != set(self._fields.values()):
            raise DataError(
                self.path,
                f"{self._place!r} is compressed with Prophesee's ECF codec in an unusual way (HDF5 filters {filters}, "
                f"fields {list(self._fields.values())}). Convert the recording with metavision_file_to_dat.",
            )
        return True

    def _find_size(self) -> tuple[int | None, int | None]:
        """(height, width) according to the file, as far as it tells them."""
        geometry = self._file.attrs.get("geometry", "")
        geometry = geometry.decode("ascii", "replace") if isinstance(geometry, bytes) else str(geometry)
        found = re.fullmatch(r"(\d+)x(\d+)", geometry)
        if found:
            return int(found[2]), int(found[1])
        return self._size_field("height"), self._size_field("width")

    def _size_field(self, name: str) -> int | None:
        values = [item[()] for item in self._beside(name)]
        values += [item.attrs[name] for item in (self._events, self._file) if name in item.attrs]
        for value in values:
            number = np.asarray(value).reshape(-1)
            if number.size != 1 or number.dtype.kind not in "iu" or number[0] < 0:
                raise DataError(self.path, f"{name!r} must be a single whole number of pixels; it is {value!r}.")
            return int(number[0])
        return None

    def _read(self, start: int, stop: int) -> list[np.ndarray]:
        try:
            if not self._is_table:
                return [values[start:stop] for values in self._lists]
            rows = self._events[start:stop]
        except OSError as error:
            raise DataError(self.path, f"events {start} to {stop} cannot be read: damaged ({error}).") from None
        return [np.ascontiguousarray(rows[self._fields[column]]) for column in _NAMES]

    def _decode(self, start: int) -> tuple[np.ndarray, ...]:
        """The events of the ECF chunk that begins with event ``start``."""
        count = min(self._events.chunks[0], self.num_events - start)
        try:
            skipped_filters, content = self._events.id.read_direct_chunk((start,))
        except (OSError, RuntimeError) as error:
            raise DataError(self.path, f"events from {start} on cannot be read: damaged ({error}).") from None
        if skipped_filters:
            rows = np.frombuffer(content, self._events.dtype)
            columns = tuple(np.ascontiguousarray(rows[name]) for name in _NAMES)
        else:
            columns = ecf.decode_chunk(content)
        if columns is None or len(columns[0]) < count:
            raise DataError(self.path, f"events from {start} on cannot be decoded (ECF): the file is damaged.")
        return tuple(column[:count] for column in columns)

    def _pieces(self, max_events: int) -> Iterator[tuple[np.ndarray, ...] | list[np.ndarray]]:
        if not self._codec_is_ecf:
            for start in range(0, self.num_events, max_events):
                yield self._read(start, min(start + max_events, self.num_events))
            return
        for start in range(0, self.num_events, self._events.chunks[0]):
            columns = self._decode(start)
            for first in range(0, len(columns[0]), max_events):
                yield tuple(column[first : first + max_events] for column in columns)

    def chunks(self, max_events: int = DEFAULT_CHUNK_EVENTS) -> Iterator[EventChunk]:
        """Read all events; see `Recording.chunks`."""
        checker = EventChecker(self.path, self.height, self.width, self._times, self._shift_us)
        for columns in self._pieces(max_events):
            chunk = checker.check(*columns)
            self._events_read = checker.count
            if len(chunk):
                yield chunk
        checker.finish()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _describe(name: str, item: h5py.Dataset | h5py.Group) -> str:
    """A part of a file in words: its name, shape and type."""
    if isinstance(item, h5py.Group):
        return f"{name!r} (a group of {sorted(item)})"
    kind = str(list(item.dtype.names)) if item.dtype.names else str(item.dtype)
    return f"{name!r} ({kind}, shape {list(item.shape or ())})"
