"""What every recording format has in common: chunks of events and the order of their times."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from leod.config.schema import RecordingTimesConfig, SensorSize
from leod.errors import DataError, SensorSizeUnknownError

DEFAULT_CHUNK_EVENTS = 4_000_000
MAXIMUM_LATENESS_US = 1_000_000
"""An event may come this much after later ones; it then counts at the latest time seen before it."""
MAXIMUM_GAP_US = 600_000_000
"""Two neighbouring events further apart than this are a damaged clock, not a pause."""
TIMES_AS_RECORDED = RecordingTimesConfig()
"""The file's own unit, no shift, all of it."""


@dataclass(frozen=True, slots=True)
class EventChunk:
    """Some consecutive events of a recording.

    Attributes:
        t: int64 [n], microseconds, never decreasing.
        x: uint16 [n], pixels to the right.
        y: uint16 [n], pixels downwards.
        p: uint8 [n], polarity: 1 = brighter, 0 = darker.
    """

    t: np.ndarray
    x: np.ndarray
    y: np.ndarray
    p: np.ndarray

    def __len__(self) -> int:
        return len(self.t)


class Recording(abc.ABC):
    """An open file of events, read in order and in bounded memory. A context manager.

    Attributes:
        path: The file.
        height: Sensor height in pixels.
        width: Sensor width in pixels.
    """

    path: Path
    height: int
    width: int

    @property
    def fraction_read(self) -> float | None:
        """Share of the file that the latest `chunks` has gone through, 0..1; None where the format cannot tell."""
        return None

    @abc.abstractmethod
    def chunks(self, max_events: int = DEFAULT_CHUNK_EVENTS) -> Iterator[EventChunk]:
        """Read all events from the first one on.

        Times never decrease: an event up to `MAXIMUM_LATENESS_US` late gets the latest time before it. Events outside
        of the part that was asked for (`RecordingTimesConfig`) are left out before anything about them is checked.

        Args:
            max_events: Upper limit of events in one chunk.

        Raises:
            DataError: The file is damaged; the message names the first event that is. Or it has events, but none in the
                part that was asked for.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Free the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def resolve_sensor_size(
    path: Path, height: int | None, width: int | None, sensor: SensorSize | None
) -> tuple[int, int]:
    """Settle the sensor size from what a file says and what the caller says.

    Args:
        path: The file, for messages.
        height: Pixels according to the file; None or 0 if it is silent.
        width: Pixels according to the file; None or 0 if it is silent.
        sensor: What the caller knows.

    Returns:
        (height, width).

    Raises:
        SensorSizeUnknownError: Nobody knows the size.
        DataError: File and caller contradict each other.
    """
    if height and width:
        if sensor is not None and (sensor.height, sensor.width) != (height, width):
            raise DataError(
                path,
                f"the file says that the sensor is {height} pixels high and {width} wide, the configuration says "
                f"{sensor.height} and {sensor.width}. Correct the data set's 'sensor'.",
            )
        return height, width
    if sensor is None:
        raise SensorSizeUnknownError(
            path, "the file does not tell the size of its sensor. Give the sensor's height and width."
        )
    return sensor.height, sensor.width
