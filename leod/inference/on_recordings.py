"""A detector and a recording that it was not made for: sizes that differ, or that nobody tells."""

from __future__ import annotations

import logging
from pathlib import Path

from leod.config.schema import RecordingTimesConfig, SensorSize, SequenceConfig
from leod.errors import SensorSizeUnknownError
from leod.models.detector import Detector
from leod.recordings.chunk import Recording
from leod.recordings.recording import open_recording

logger = logging.getLogger(__name__)


def open_for(path: Path, sensor: SensorSize | None, times: RecordingTimesConfig, config: SequenceConfig) -> Recording:
    """Open a recording; if nobody tells the size of its sensor, it is taken to be that of the detector's data set.

    Args:
        path: See `leod.recordings.recording.open_recording`, as for ``sensor`` and ``times``.
        sensor: Size of the sensor.
        times: The recording's clock.
        config: What the detector was trained on.

    Raises:
        DataError: The recording is missing or damaged, or contradicts ``sensor``.
    """
    try:
        return open_recording(path, sensor, times)
    except SensorSizeUnknownError:
        logger.warning(
            "%s does not tell the size of its sensor; taking %d x %d (height x width) of the detector's data set. Give "
            "the size (--sensor) if it is another.",
            *(path, config.sensor.height, config.sensor.width),
        )
        return open_recording(path, config.sensor, times)


def adapt(detector: Detector, recording: Recording, halve: bool) -> None:
    """Let the detector take a recording's frames; says so if they differ from those that it was trained on.

    Args:
        detector: Changed in place.
        recording: The recording.
        halve: Whether its frames are halved.
    """
    divisor = 2 if halve else 1
    height, width = recording.height // divisor, recording.width // divisor
    config = detector.sequence
    # An earlier recording may have had another size.
    if (height, width) != detector.frame_size:
        detector.accept_frame_size(height, width)
    if (recording.height, recording.width, halve) == (
        config.sensor.height,
        config.sensor.width,
        config.downsample_by_2,
    ):
        return
    logger.warning(
        "the detector was trained on frames of %d x %d pixels (height x width), this recording's are %d x %d%s. It "
        "runs with its attention windows as trained, but objects may differ in size from those it knows; a detector "
        "trained on this camera will do better.",
        *config.frame_size,
        *(height, width),
        " after halving" if halve else "",
    )
