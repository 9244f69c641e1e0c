"""Options of commands that read recordings."""

from __future__ import annotations

from leod.config.load import validate
from leod.config.schema import RecordingTimesConfig, SensorSize
from leod.errors import ConfigError


def sensor_size(sensor: str | None = None) -> SensorSize | None:
    """The size of a sensor.

    Args:
        sensor: Size of the sensor, HEIGHTxWIDTH, if the recording does not tell it; without it the detector's is
            assumed.
    """
    if sensor is None:
        return None
    height, _, width = sensor.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise ConfigError(f"--sensor {sensor!r}: expected HEIGHTxWIDTH in pixels, for example 720x1280")
    return SensorSize(height=int(height), width=int(width))


def recording_times(
    time_unit: str | None = None, time_offset_us: int = 0, start_us: int | None = None, end_us: int | None = None
) -> RecordingTimesConfig:
    """The clock of a recording and the part that is read.

    Args:
        time_unit: What the file's times count: s, ms, us or ns; default: as the format says, us.
        time_offset_us: Added to every time, microseconds. Boxes are on the clock after it.
        start_us: Events before this time (after the offset) are left out.
        end_us: Events after this time are left out.
    """
    return validate(
        RecordingTimesConfig,
        {"unit": time_unit, "offset_us": time_offset_us, "start_us": start_us, "end_us": end_us},
        "--time-unit, --time-offset-us, --start-us, --end-us",
    )
