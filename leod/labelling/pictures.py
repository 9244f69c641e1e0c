"""Pictures of a moment: one to draw boxes on, and a sheet beside it that shows what moves.

The picture to label holds the events of a window that ends at the moment; it is clean, and every sensor pixel is a
square of whole pixels, so that places on it and on the sensor differ by one factor. A longer window makes slow objects
visible; its events older than `RECENT_US` are pale, so that objects are seen where they are at the end of it.

The sheet shows short windows some time before and after the moment, and other windows that end at it.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import numpy as np

from leod.drawing.pictures import THEMES, compose, paint_counts
from leod.errors import DataError
from leod.recordings.chunk import EventChunk, Recording

RECENT_US = 50_000
"""Events of the picture to label that are older than this are pale."""

_COMFORTABLE_WIDTH = 1024
_LARGEST_SCALE = 8
_PALENESS = 0.12
"""What an event of the pale part counts."""
_TILE_WIDTH = 400
_BORDER = 4
_COLUMNS = 3
_MOST_COUNTED = 255


@dataclass(frozen=True)
class PictureStyle:
    """What pictures look like.

    Attributes:
        windows_us: Lengths of the windows that end at the moment: the first is that of the picture to label, further
            ones stand in the sheet.
        neighbours: Number of windows before the moment that the sheet shows, and of windows after it; they are at most
            `RECENT_US` long.
        neighbour_step_us: How far they are apart.
        scale: Enlargement of the picture to label; 0: such that small sensors can be labelled.
        theme: Name of the colours, see `leod.drawing.pictures.THEMES`.
    """

    windows_us: tuple[int, ...] = (200_000, 500_000)
    neighbours: int = 2
    neighbour_step_us: int = 100_000
    scale: int = 0
    theme: str = "light"


@dataclass(frozen=True)
class MomentPictures:
    """The pictures of one moment.

    Attributes:
        t_us: The moment.
        picture: To draw boxes on, uint8 [H * scale, W * scale, 3], RGB.
        sheet: To look at, uint8 [H', W', 3], RGB; None if there is nothing beside the picture.
        events: Number of events in the window of the picture.
    """

    t_us: int
    picture: np.ndarray
    sheet: np.ndarray | None
    events: int


def labelling_scale(width: int) -> int:
    """The whole number by which to enlarge pictures of a sensor ``width`` pixels wide, so that one can draw on them."""
    return min(_LARGEST_SCALE, max(1, round(_COMFORTABLE_WIDTH / width)))


def moment_pictures(recording: Recording, times_us: SequenceOf[int], style: PictureStyle) -> Iterator[MomentPictures]:
    """Make the pictures of some moments, reading the recording once, up to the last of them, in bounded memory.

    Args:
        recording: An open recording.
        times_us: Moments on the recording's clock, in any order, each once.
        style: What pictures look like.

    Yields:
        The pictures, in order of time.

    Raises:
        DataError: The recording is damaged, or a moment lies before its first event or after its last one.
    """
    waiting = sorted(times_us, reverse=True)
    active: list[_Moment] = []
    spans = _spans(style)
    reach = max(end for _, end in spans)
    start = min(begin for begin, _ in spans)
    first_us = last_us = None
    for chunk in recording.chunks():
        if not len(chunk):
            continue
        if first_us is None:
            first_us = int(chunk.t[0])
            _check_begin(recording, waiting, first_us)
        last_us = int(chunk.t[-1])
        while waiting and waiting[-1] + start < last_us:
            active.append(_Moment(waiting.pop(), spans, recording.height, recording.width))
        for moment in active:
            moment.add(chunk)
        while active and active[0].t_us + reach < last_us:
            yield active.pop(0).paint(style)
        if not waiting and not active:
            return
    if last_us is None:
        raise DataError(recording.path, "holds no events.")
    active += [_Moment(t_us, spans, recording.height, recording.width) for t_us in reversed(waiting)]
    for moment in active:
        if moment.t_us > last_us + style.windows_us[0]:
            raise DataError(
                recording.path,
                f"the moment {moment.t_us} µs lies after the last event ({last_us} µs). Times of moments are "
                "microseconds on the clock of the recording; are they those of another one?",
            )
        yield moment.paint(style)


def _check_begin(recording: Recording, waiting: SequenceOf[int], first_us: int) -> None:
    if waiting and waiting[-1] < first_us:
        raise DataError(
            recording.path,
            f"the moment {waiting[-1]} µs lies before the first event ({first_us} µs). Times of moments are "
            "microseconds on the clock of the recording; are they those of another one?",
        )


def _spans(style: PictureStyle) -> list[tuple[int, int]]:
    """What is counted, (begin, end] relative to the moment, microseconds: recent and pale part, sheet's windows."""
    window = style.windows_us[0]
    recent = min(window, RECENT_US)
    around = [step * style.neighbour_step_us for step in range(-style.neighbours, style.neighbours + 1)]
    return [
        (-recent, 0),
        (-window, -recent),
        *((shift - recent, shift) for shift in around),
        *((-longer, 0) for longer in style.windows_us[1:]),
    ]


class _Moment:
    """Events around a moment, counted as they come."""

    def __init__(self, t_us: int, spans: SequenceOf[tuple[int, int]], height: int, width: int) -> None:
        self.t_us = t_us
        self._spans = spans
        # Pictures show no difference beyond a few events, and bytes keep many moments in little memory.
        self._counts = np.zeros((len(spans), 2, height, width), np.uint8)
        self._events = 0

    def add(self, chunk: EventChunk) -> None:
        _, _, height, width = self._counts.shape
        for number, (begin, end) in enumerate(self._spans):
            first, stop = np.searchsorted(chunk.t, (self.t_us + begin, self.t_us + end), side="right")
            if first == stop:
                continue
            part = slice(first, stop)
            places = (chunk.p[part].astype(np.int64) * height + chunk.y[part]) * width + chunk.x[part]
            counts = np.bincount(places, minlength=2 * height * width).reshape(2, height, width)
            counts += self._counts[number]
            self._counts[number] = np.minimum(counts, _MOST_COUNTED)
            if number < 2:
                self._events += int(stop - first)

    def paint(self, style: PictureStyle) -> MomentPictures:
        """The pictures, once all events have come."""
        theme = THEMES[style.theme]
        scale = style.scale or labelling_scale(self._counts.shape[-1])
        fresh, pale = self._counts[0].astype(np.float32), self._counts[1].astype(np.float32)
        # A pixel's pale events must not outshine fresh ones elsewhere, however many they are.
        shown = fresh + _PALENESS * np.minimum(pale, 1)
        picture = paint_counts(shown[1], shown[0], theme, scale)
        return MomentPictures(self.t_us, picture, self._sheet(style), self._events)

    def _sheet(self, style: PictureStyle) -> np.ndarray | None:
        longer = style.windows_us[1:]
        around = range(-style.neighbours, style.neighbours + 1)
        tiles = []
        if style.neighbours:
            step_ms = style.neighbour_step_us / 1000
            for number, step in enumerate(around):
                tiles.append(self._tile(2 + number, f"{step * step_ms:+g} ms" if step else "the moment", style))
        start = 2 + len(around)
        tiles += [
            self._tile(start + number, f"the last {window / 1000:g} ms", style) for number, window in enumerate(longer)
        ]
        if not tiles:
            return None
        tiles += [np.full_like(tiles[0], THEMES[style.theme].background)] * (-len(tiles) % min(_COLUMNS, len(tiles)))
        columns = min(_COLUMNS, len(tiles))
        rows = [tiles[first : first + columns] for first in range(0, len(tiles), columns)]
        return np.concatenate([np.concatenate(row, axis=1) for row in rows])

    def _tile(self, number: int, caption: str, style: PictureStyle) -> np.ndarray:
        """One window of the sheet with its caption; large sensors are shown smaller."""
        theme = THEMES[style.theme]
        _, height, width = self._counts[number].shape
        block = max(1, -(-width // (2 * _TILE_WIDTH)))
        counts = self._counts[number].astype(np.float32)
        if block > 1:
            counts = np.pad(counts, ((0, 0), (0, -height % block), (0, -width % block)))
            counts = counts.reshape(2, counts.shape[1] // block, block, counts.shape[2] // block, block).sum((2, 4))
            counts /= block
        scale = max(1, round(_TILE_WIDTH / counts.shape[2]))
        tile = compose(paint_counts(counts[1], counts[0], theme, scale), [], (), scale, caption, theme=theme)
        return np.pad(tile, ((0, _BORDER), (0, _BORDER), (0, 0)), constant_values=128)
