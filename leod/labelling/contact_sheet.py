"""All chosen moments on one picture, to look them through before anybody labels them."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from leod.drawing.pictures import LIGHT, BoxKind, Theme, compose, paint_counts
from leod.files import atomic_file
from leod.recordings.chunk import EventChunk

_TILE_WIDTH = 360
_LEAST_WIDTH = 320
_COLUMNS = 4
_FONT_SIZE = 14
_LINE = 19
_MARGIN = 5
_GAP = 8
_WEAKEST_SHOWN = 0.1
_FRAME_COLOUR = (150, 150, 150)


@dataclass(frozen=True)
class Tile:
    """One moment.

    Attributes:
        picture: uint8 [h, w, 3], RGB, at most 360 pixels wide.
        lines: Text beneath; lines that are too long are cut in their middle.
    """

    picture: npt.NDArray[np.uint8]
    lines: tuple[str, ...]


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(_FONT_SIZE)


def paint_events(events: EventChunk, height: int, width: int, theme: Theme = LIGHT) -> npt.NDArray[np.uint8]:
    """Paint a window's events at a size that fits a tile; of a larger sensor, events of neighbouring pixels are added.

    Args:
        events: Inside the sensor.
        height: Of the sensor, in pixels.
        width: Of the sensor, in pixels.
        theme: Colours.

    Returns:
        uint8 [h, w, 3], RGB.
    """
    shrink = -(-width // _TILE_WIDTH)
    rows, columns = -(-height // shrink), -(-width // shrink)
    place = (events.y.astype(np.int64) // shrink) * columns + events.x // shrink
    up, down = (
        np.bincount(place[events.p == polarity], minlength=rows * columns).reshape(rows, columns) for polarity in (1, 0)
    )
    return paint_counts(up, down, theme, max(1, _TILE_WIDTH // width))


def paint_objects(
    picture: npt.NDArray[np.uint8], objects: np.ndarray, classes: SequenceOf[str], width: int, theme: Theme = LIGHT
) -> npt.NDArray[np.uint8]:
    """Draw what a detector sees onto a picture of `paint_events`.

    Args:
        picture: uint8 [h, w, 3], RGB.
        objects: `LABEL_DTYPE` [n] in pixels of the sensor; weak ones are left out.
        classes: Class names in label-id order.
        width: Of the sensor, in pixels.
        theme: Colours.

    Returns:
        uint8 [h, w, 3], RGB.
    """
    boxes = objects[objects["objectness"] * objects["class_confidence"] >= _WEAKEST_SHOWN]
    shrink = -(-width // _TILE_WIDTH)
    factor = max(1, _TILE_WIDTH // width) / shrink
    for name in ("x", "y", "w", "h"):
        boxes[name] *= np.float32(factor)
    return compose(picture, [(boxes, BoxKind.DETECTION)], classes, 1, "", (), theme)[: len(picture)]


def _shortened(text: str, width: int) -> str:
    """A text that fits; what is left out is in its middle."""
    font = _font()
    if font.getlength(text) <= width:
        return text
    kept = len(text) - 1
    while kept > 1 and font.getlength(f"{text[: kept // 2]}…{text[len(text) - (kept - kept // 2) :]}") > width:
        kept -= 1
    return f"{text[: kept // 2]}…{text[len(text) - (kept - kept // 2) :]}"


def draw_contact_sheet(tiles: SequenceOf[Tile], theme: Theme = LIGHT) -> npt.NDArray[np.uint8]:
    """Arrange tiles in rows, in their order.

    Args:
        tiles: At least one.
        theme: Colours.

    Returns:
        uint8 [H, W, 3], RGB.
    """
    columns = min(_COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    width = max(_LEAST_WIDTH, *(tile.picture.shape[1] for tile in tiles))
    picture_height = max(tile.picture.shape[0] for tile in tiles)
    height = picture_height + max(len(tile.lines) for tile in tiles) * _LINE + 2 * _MARGIN
    size = columns * (width + _GAP) + _GAP, rows * (height + _GAP) + _GAP
    sheet = Image.new("RGB", size, theme.background)
    draw = ImageDraw.Draw(sheet)
    for number, tile in enumerate(tiles):
        left = _GAP + (number % columns) * (width + _GAP)
        top = _GAP + (number // columns) * (height + _GAP)
        inset = (width - tile.picture.shape[1]) // 2
        sheet.paste(Image.fromarray(tile.picture), (left + inset, top))
        draw.rectangle(
            (left + inset - 1, top - 1, left + inset + tile.picture.shape[1], top + tile.picture.shape[0]),
            outline=_FRAME_COLOUR,
        )
        for line, text in enumerate(tile.lines):
            place = (left + inset + 1, top + tile.picture.shape[0] + _MARGIN + line * _LINE)
            draw.text(place, _shortened(text, width - inset - 2), fill=theme.text, font=_font())
    return np.asarray(sheet)


def write_contact_sheet(path: Path, tiles: SequenceOf[Tile], theme: Theme = LIGHT) -> None:
    """Write `draw_contact_sheet` as PNG, atomically.

    Raises:
        ResourceError: The disk is full or not writable.
    """
    sheet = draw_contact_sheet(tiles, theme)
    with atomic_file(path) as temporary:
        Image.fromarray(sheet).save(temporary, format="PNG")
