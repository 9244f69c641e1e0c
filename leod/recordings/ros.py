"""ROS recordings with arrays of events: bags of ROS 1, and files of ROS 2's bags (MCAP, SQLite).

The container is read by rosbags, which is an optional dependency. It would turn every event into a Python object, so
the messages are decoded here. Source of the formats: the definitions of `dvs_msgs` and `prophesee_event_msgs`, which
are alike, and the serializations of ROS 1 (packed) and ROS 2 (CDR: a number begins at a multiple of its length).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from leod.config.schema import RecordingTimesConfig, SensorSize
from leod.errors import DataError
from leod.recordings.checking import EventChecker
from leod.recordings.chunk import DEFAULT_CHUNK_EVENTS, TIMES_AS_RECORDED, EventChunk, Recording, resolve_sensor_size
from leod.recordings.times import require_microseconds

try:
    import rosbags.rosbag1
    import rosbags.rosbag2
except ImportError:
    rosbags = None

_ROS1_SUFFIX = ".bag"
_TYPES = ("dvs_msgs/msg/EventArray", "prophesee_event_msgs/msg/EventArray")
_PACKETS = ("event_camera_msgs/msg/EventPacket", "event_array_msgs/msg/EventArray")
_ROS1_EVENT = np.dtype([("x", "<u2"), ("y", "<u2"), ("s", "<u4"), ("ns", "<u4"), ("p", "u1")])
_CDR_STRIDE = 16
_CDR_PADDING = 8
_GATHERED_EVENTS = 50_000

Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


class RosRecording(Recording):
    """The only topic with arrays of events in a file of ROS, read message by message.

    Times are those of the events, not of the messages, rounded to microseconds; most drivers count from 1970.

    Args:
        path: The file: a bag of ROS 1 (.bag), or a file of a bag of ROS 2 (.mcap, .db3).
        sensor: Size of the sensor, compared with what the messages say.
        times: Shift of the clock, and which part is read.

    Raises:
        DataError: The file is damaged or has no such topic or several, contradicts ``sensor``, the unit of ``times`` is
            another one, or rosbags is not installed.
    """

    def __init__(
        self, path: Path, sensor: SensorSize | None = None, times: RecordingTimesConfig = TIMES_AS_RECORDED
    ) -> None:
        self.path = Path(path)
        self._times = times
        require_microseconds(self.path, times, "ROS")
        if rosbags is None:
            raise DataError(self.path, "reading files of ROS needs rosbags: pip install '.[ros]' in the clone.")
        self._is_ros1 = self.path.suffix.lower() == _ROS1_SUFFIX
        self._messages_read = 0
        try:
            self._reader: Any = (rosbags.rosbag1 if self._is_ros1 else rosbags.rosbag2).Reader(self.path)
            self._reader.open()
        except Exception as error:  # beside its own errors, the package raises whatever damaged files lead to
            raise DataError(
                self.path, f"cannot be read as a recording of ROS: damaged, cut off or not indexed ({error})."
            ) from None
        try:
            self._connections = self._find_connections()
            height, width = next((size for size, _ in self._messages()), (None, None))
            self.height, self.width = resolve_sensor_size(self.path, height, width, sensor)
        except BaseException:
            self.close()
            raise

    def _find_connections(self) -> list[Any]:
        connections = [connection for connection in self._reader.connections if connection.msgtype in _TYPES]
        topics = sorted({connection.topic for connection in connections})
        if len(topics) == 1:
            return connections
        known = ", ".join(name.replace("/msg/", "/") for name in _TYPES)
        if topics:
            raise DataError(
                self.path,
                f"has several topics with events: {', '.join(topics)}. Write one of them to a file of its own, for "
                f"example: rosbags-convert --src {self.path.name} --dst one --include-topic {topics[0]}.",
            )
        packed = sorted(each.topic for each in self._reader.connections if each.msgtype in _PACKETS)
        if packed:
            raise DataError(
                self.path,
                f"the events of {', '.join(packed)} are packed by the camera's driver (event_camera_msgs), which is "
                "not supported. Convert them to a RAW file with bag_to_raw of the ROS package event_camera_tools.",
            )
        there = sorted({f"{each.topic} ({each.msgtype.replace('/msg/', '/')})" for each in self._reader.connections})
        raise DataError(
            self.path, f"has no topic with events ({known}); its topics are {', '.join(there) or 'none at all'}."
        )

    @property
    def fraction_read(self) -> float:
        """Share of the messages that the latest `chunks` has gone through, 0..1."""
        return self._messages_read / max(sum(connection.msgcount for connection in self._connections), 1)

    def _messages(self) -> Iterator[tuple[tuple[int, int], Columns]]:
        """Size of the sensor (height, width) and events (times in microseconds, x, y, polarity) of each message."""
        messages = self._reader.messages(connections=self._connections)
        self._messages_read = 0
        while True:
            try:
                message = next(messages, None)
                if message is None:
                    return
                decoded = (_decode_ros1 if self._is_ros1 else _decode_cdr)(bytes(message[2]))
            except Exception as error:  # as above
                raise DataError(
                    self.path,
                    f"message {self._messages_read} of {self._connections[0].topic} cannot be read: damaged, cut off "
                    f"or of another definition ({error}).",
                ) from None
            self._messages_read += 1
            yield decoded

    def chunks(self, max_events: int = DEFAULT_CHUNK_EVENTS) -> Iterator[EventChunk]:
        """Read all events; see `Recording.chunks`."""
        checker = EventChecker(self.path, self.height, self.width, self._times)
        for columns in self._gathered():
            for start in range(0, len(columns[0]), max_events):
                chunk = checker.check(*(column[start : start + max_events] for column in columns))
                if len(chunk):
                    yield chunk
        checker.finish()

    def _gathered(self) -> Iterator[Columns]:
        """Events of as many messages as make checking them worth while."""
        waiting: list[Columns] = []
        count = 0
        for size, columns in self._messages():
            if all(size) and size != (self.height, self.width):
                raise DataError(
                    self.path,
                    f"message {self._messages_read - 1} of {self._connections[0].topic} says that the sensor is "
                    f"{size[0]} pixels high and {size[1]} wide, the first one says {self.height} and {self.width}.",
                )
            waiting.append(columns)
            count += len(columns[0])
            if count >= _GATHERED_EVENTS:
                yield tuple(map(np.concatenate, zip(*waiting, strict=True)))
                waiting, count = [], 0
        if waiting:
            yield tuple(map(np.concatenate, zip(*waiting, strict=True)))

    def close(self) -> None:
        """Close the file."""
        self._reader.close()


def _microseconds(seconds: np.ndarray, nanoseconds: np.ndarray) -> np.ndarray:
    return seconds.astype(np.int64) * 1_000_000 + (nanoseconds.astype(np.int64) + 500) // 1_000


def _decode_ros1(message: bytes) -> tuple[tuple[int, int], Columns]:
    """Size (height, width) and events of a message of ROS 1."""
    position = 16 + int.from_bytes(message[12:16], "little")
    height, width, count = np.frombuffer(message, "<u4", 3, position).tolist()
    if len(message) != position + 12 + count * _ROS1_EVENT.itemsize:
        raise ValueError(f"{len(message)} bytes do not fit {count} events")
    events = np.frombuffer(message, _ROS1_EVENT, count, position + 12)
    x, y, p = (np.ascontiguousarray(events[name]) for name in ("x", "y", "p"))
    return (height, width), (_microseconds(events["s"], events["ns"]), x, y, p)


def _decode_cdr(message: bytes) -> tuple[tuple[int, int], Columns]:
    """Size (height, width) and events of a message of ROS 2."""
    if message[:2] not in (b"\x00\x00", b"\x00\x01"):
        raise ValueError(f"it is not plain CDR but begins with {message[:2].hex()}")
    order = "<" if message[1] else ">"
    u2, u4 = np.dtype("u2").newbyteorder(order), np.dtype("u4").newbyteorder(order)
    body = message[4:]
    (name_length,) = np.frombuffer(body, u4, 1, 8).tolist()
    position = -(-(12 + name_length) // 4) * 4
    height, width, count = np.frombuffer(body, u4, 3, position).tolist()
    first = position + 12
    # An event is as long as 16 bytes, but its x and y, which need no multiple of 4, are moved up to the event before.
    end = first + _CDR_STRIDE * count - 3 if count else first
    if not 0 <= len(body) - end < _CDR_PADDING:
        raise ValueError(f"{len(message)} bytes do not fit {count} events")

    def column(dtype: np.dtype, offset: int, length: int) -> np.ndarray:
        return np.ndarray((length,), dtype, body, first + offset, (_CDR_STRIDE,)) if length else np.zeros(0, dtype)

    x, y = np.empty(count, np.uint16), np.empty(count, np.uint16)
    for values, offset in ((x, 0), (y, 2)):
        values[:1] = column(u2, offset, min(count, 1))
        values[1:] = column(u2, 14 + offset, max(count - 1, 0))
    t = _microseconds(column(u4, 4, count), column(u4, 8, count))
    return (height, width), (t, x, y, np.ascontiguousarray(column(np.dtype("u1"), 12, count)))
