"""Write pictures as a video."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.codec import codecs_available
from av.error import FFmpegError

from leod.errors import ResourceError
from leod.files import atomic_file

logger = logging.getLogger(__name__)

_CODECS = ("libx264", "libopenh264", "mpeg4")
"""H.264 if this build of FFmpeg has it; every build has MPEG-4."""
_H264_OPTIONS = {"crf": "18", "preset": "medium"}
_MPEG4_BITS_PER_PIXEL = 6.0


def _choose_codec() -> str:
    return next(name for name in _CODECS if name in codecs_available)


def write_video(path: Path, pictures: Iterable[np.ndarray], frames_per_second: float) -> int:
    """Write an MP4 file atomically.

    Args:
        path: The file to make.
        pictures: uint8 [H, W, 3], RGB, all of one size. The pixel format of videos wants even sizes; odd ones get
            their last row or column twice.
        frames_per_second: Pictures per second of playing.

    Returns:
        Number of pictures written.

    Raises:
        ValueError: There is no picture, or their sizes differ.
        ResourceError: FFmpeg cannot write the file.
    """
    rate = Fraction(frames_per_second).limit_denominator(1000)
    count = 0
    with atomic_file(path) as temporary:
        try:
            with av.open(str(temporary), "w", format="mp4") as container:
                stream = None
                shape: tuple[int, ...] = ()
                for picture in pictures:
                    if stream is None:
                        shape = picture.shape
                        stream = _add_stream(container, rate, shape)
                    elif picture.shape != shape:
                        raise ValueError(f"picture {count} is {picture.shape}, the ones before are {shape}")
                    padded = np.pad(picture, ((0, shape[0] % 2), (0, shape[1] % 2), (0, 0)), mode="edge")
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(padded), "rgb24")))
                    count += 1
                if stream is None:
                    raise ValueError("a video needs at least one picture")
                container.mux(stream.encode())
        except FFmpegError as error:
            raise ResourceError(f"{path}: FFmpeg could not write the video ({error}).") from error
    return count


def _add_stream(
    container: av.container.OutputContainer, rate: Fraction, shape: tuple[int, ...]
) -> av.video.stream.VideoStream:
    codec = _choose_codec()
    stream = container.add_stream(codec, rate=rate)
    stream.height, stream.width = shape[0] + shape[0] % 2, shape[1] + shape[1] % 2
    stream.pix_fmt = "yuv420p"
    if codec == "libx264":
        stream.options = dict(_H264_OPTIONS)
    else:
        logger.info("this FFmpeg has no libx264; the video is written with %s", codec)
        stream.bit_rate = int(_MPEG4_BITS_PER_PIXEL * stream.height * stream.width * float(rate))
    return stream
