"""Events and boxes as pictures.

A picture is uint8 [H, W, 3], RGB. Events are painted in the colours of their polarity, the more the stronger; boxes
differ in colour and line style, so that ground truth, detections, pseudo-labels, ignored and inpainted boxes can be
told apart in print and by colour-blind readers as well. Small sensors are enlarged by a whole number, so that single
pixels stay sharp and text is legible.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from leod.boxes.dtypes import IGNORED_CLASS_ID

_COUNT_OF_HALF_STRENGTH = 1.0
_FONT_SIZE = 12
_TEXT_MARGIN = 2
_KINDS_BESIDE_CAPTION = 2
_COMFORTABLE_WIDTH = 640
_LARGEST_SCALE = 8

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Theme:
    """Colours of a picture."""

    background: Colour
    positive: Colour
    """Events of rising brightness."""
    negative: Colour
    """Events of falling brightness."""
    text: Colour
    boxes: dict[BoxKind, Colour]


class BoxKind(StrEnum):
    """What a box means; its value is its name in legends."""

    GROUND_TRUTH = "ground truth"
    DETECTION = "detection"
    PSEUDO_LABEL = "pseudo-label"
    IGNORED = "ignored"
    INPAINTED = "inpainted"


# Lengths of line and gap in pixels of the enlarged picture, in turn; empty: a solid line.
_DASHES: dict[BoxKind, tuple[int, ...]] = {
    BoxKind.GROUND_TRUTH: (),
    BoxKind.DETECTION: (10, 5),
    BoxKind.PSEUDO_LABEL: (14, 4, 3, 4),
    BoxKind.IGNORED: (3, 3),
    BoxKind.INPAINTED: (5, 7),
}

LIGHT = Theme(
    background=(255, 255, 255),
    positive=(44, 92, 206),
    negative=(226, 106, 84),
    text=(30, 30, 30),
    boxes={
        BoxKind.GROUND_TRUTH: (0, 128, 60),
        BoxKind.DETECTION: (178, 0, 140),
        BoxKind.PSEUDO_LABEL: (200, 110, 0),
        BoxKind.IGNORED: (80, 80, 80),
        BoxKind.INPAINTED: (0, 130, 160),
    },
)
DARK = Theme(
    background=(18, 20, 26),
    positive=(120, 180, 255),
    negative=(214, 92, 72),
    text=(235, 235, 235),
    boxes={
        BoxKind.GROUND_TRUTH: (70, 230, 120),
        BoxKind.DETECTION: (255, 110, 220),
        BoxKind.PSEUDO_LABEL: (255, 196, 60),
        BoxKind.IGNORED: (170, 170, 170),
        BoxKind.INPAINTED: (70, 220, 240),
    },
)
THEMES = {"light": LIGHT, "dark": DARK}


def comfortable_scale(width: int) -> int:
    """The whole number by which to enlarge a picture ``width`` pixels wide so that text on it is legible."""
    return min(_LARGEST_SCALE, max(1, round(_COMFORTABLE_WIDTH / width)))


def paint_counts(positive: np.ndarray, negative: np.ndarray, theme: Theme = LIGHT, scale: int = 1) -> np.ndarray:
    """Paint numbers of events per pixel.

    Args:
        positive: Events of rising brightness, any real type [H, W], >= 0.
        negative: Events of falling brightness, [H, W].
        theme: Colours.
        scale: Enlargement.

    Returns:
        uint8 [H * scale, W * scale, 3], RGB.
    """
    up, down = np.asarray(positive, np.float32)[..., None], np.asarray(negative, np.float32)[..., None]
    total = up + down
    colour = (up * np.array(theme.positive) + down * np.array(theme.negative)) / np.maximum(total, 1e-6)
    strength = total / (total + _COUNT_OF_HALF_STRENGTH)
    strength = np.where(total > 0, 0.35 + 0.65 * strength, 0.0)
    picture = np.array(theme.background) * (1.0 - strength) + colour * strength
    return np.round(picture).astype(np.uint8).repeat(scale, axis=0).repeat(scale, axis=1)


def paint_frame(frame: np.ndarray, theme: Theme = LIGHT, scale: int = 1) -> np.ndarray:
    """Paint one frame of a sequence.

    Args:
        frame: Stacked histogram, uint8 [2 * bins, H, W], falling brightness first; or mixed-density stack, int8
            [bins, H, W], whose last channel holds the sum of all polarities.
        theme: Colours.
        scale: Enlargement.

    Returns:
        uint8 [H * scale, W * scale, 3], RGB.
    """
    if frame.dtype == np.int8:
        balance = frame[-1].astype(np.int32)
        return paint_counts(np.maximum(balance, 0), np.maximum(-balance, 0), theme, scale)
    bins = len(frame) // 2
    counts = frame.astype(np.int32)
    return paint_counts(counts[bins:].sum(axis=0), counts[:bins].sum(axis=0), theme, scale)


def kind_of(box: np.void) -> BoxKind:
    """What a row of a label file means: see `leod.boxes.dtypes`; ignored boxes without any score are inpainted."""
    if box["class_id"] == IGNORED_CLASS_ID:
        scored = box["objectness"] > 0 or box["class_confidence"] > 0
        return BoxKind.IGNORED if scored else BoxKind.INPAINTED
    return BoxKind.GROUND_TRUTH if box["t"] > 0 else BoxKind.PSEUDO_LABEL


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


class _Canvas:
    """A picture that is drawn on, and the places where text stands already."""

    def __init__(self, picture: np.ndarray, theme: Theme) -> None:
        self.image = Image.fromarray(np.ascontiguousarray(picture, np.uint8))
        self.theme = theme
        self._draw = ImageDraw.Draw(self.image)
        self._occupied: list[tuple[float, float, float, float]] = []

    def _dash(self, points: list[tuple[float, float]], kind: BoxKind, width: int) -> None:
        """Draw a closed line through ``points``; all sides are upright or level."""
        colour, dashes = self.theme.boxes[kind], _DASHES[kind]
        for (x0, y0), (x1, y1) in zip(points, [*points[1:], points[0]], strict=True):
            length = max(abs(x1 - x0), abs(y1 - y0))
            if not dashes or length == 0:
                self._draw.line([(x0, y0), (x1, y1)], fill=colour, width=width)
                continue
            position, part = 0.0, 0
            while position < length:
                end = min(length, position + dashes[part % len(dashes)])
                if part % 2 == 0:
                    start_xy, end_xy = (
                        (x0 + (x1 - x0) * share / length, y0 + (y1 - y0) * share / length) for share in (position, end)
                    )
                    self._draw.line([start_xy, end_xy], fill=colour, width=width)
                position, part = end, part + 1

    def box(self, x: float, y: float, w: float, h: float, kind: BoxKind, text: str, width: int = 2) -> None:
        """Draw one box in pixels of this picture, with its text where nothing else is written."""
        right, bottom = self.image.width - 1, self.image.height - 1
        x0, y0 = min(max(x, 0), right), min(max(y, 0), bottom)
        x1, y1 = min(max(x + w, 0), right), min(max(y + h, 0), bottom)
        self._dash([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], kind, width)
        if text:
            self._label(x0, y0, x1, y1, text, self.theme.boxes[kind])

    def _label(self, x0: float, y0: float, x1: float, y1: float, text: str, colour: Colour) -> None:
        font = _font(_FONT_SIZE)
        left, top, text_right, text_bottom = self._draw.textbbox((0, 0), text, font=font)
        width, height = text_right - left + 2 * _TEXT_MARGIN, text_bottom - top + 2 * _TEXT_MARGIN
        places = [(x0, y0 - height - 1), (x0, y1 + 2), (x1 - width, y0 - height - 1), (x1 - width, y1 + 2), (x0, y0)]
        best, least = places[0], float("inf")
        for place_x, place_y in places:
            place_x = min(max(place_x, 0), max(0, self.image.width - width))
            outside = place_y < 0 or place_y + height > self.image.height
            area = (place_x, place_y, place_x + width, place_y + height)
            cost = sum(_shared_area(area, other) for other in self._occupied) + (1e9 if outside else 0.0)
            if cost < least:
                best, least = (place_x, place_y), cost
        area = (*best, best[0] + width, best[1] + height)
        self._occupied.append(area)
        self._draw.rectangle(area, fill=colour)
        # Dark text on light colours, light text on dark ones.
        luminance = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
        ink = (0, 0, 0) if luminance > 140 else (255, 255, 255)
        self._draw.text((best[0] + _TEXT_MARGIN - left, best[1] + _TEXT_MARGIN - top), text, fill=ink, font=font)

    def with_caption(self, caption: str, kinds: SequenceOf[BoxKind]) -> np.ndarray:
        """The picture with a strip beneath it: caption and a sample of each kind of box."""
        font, line = _font(_FONT_SIZE), _FONT_SIZE + 10
        # The size must not depend on the caption, whose length changes within one video.
        own_line = len(kinds) > _KINDS_BESIDE_CAPTION
        strip = _Canvas(
            np.full((line * (2 if own_line else 1), self.image.width, 3), self.theme.background), self.theme
        )
        strip._draw.text((4, 4), caption, fill=self.theme.text, font=font)
        top = line if own_line else 0
        x = float(self.image.width)
        for kind in reversed(kinds):
            x -= strip._draw.textlength(str(kind), font=font) + 44
            strip._dash([(x, top + 6), (x + 28, top + 6), (x + 28, top + line - 7), (x, top + line - 7)], kind, 2)
            strip._draw.text((x + 34, top + 4), str(kind), fill=self.theme.text, font=font)
        return np.concatenate([np.asarray(self.image), np.asarray(strip.image)])


def _shared_area(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _text_of(box: np.void, kind: BoxKind, classes: SequenceOf[str]) -> str:
    class_id = int(box["class_id"])
    # There may be many of them over one object, and their line tells what they are.
    if kind in (BoxKind.INPAINTED, BoxKind.IGNORED):
        return ""
    name = classes[class_id] if class_id < len(classes) else str(kind)
    if kind is BoxKind.GROUND_TRUTH:
        return name
    # Objectness times class confidence is what detections are ranked by.
    return f"{name} {float(box['objectness']) * float(box['class_confidence']):.2f}"


def _draw_on(canvas: _Canvas, boxes: np.ndarray, classes: SequenceOf[str], scale: int, kind: BoxKind | None) -> None:
    kinds = [kind or kind_of(box) for box in boxes]
    # What counts most is drawn last, on top.
    order = sorted(range(len(boxes)), key=lambda row: -list(BoxKind).index(kinds[row]))
    for row in order:
        box = boxes[row]
        x, y, w, h = (float(box[name]) * scale for name in ("x", "y", "w", "h"))
        canvas.box(x, y, w, h, kinds[row], _text_of(box, kinds[row], classes))


def compose(
    picture: np.ndarray,
    layers: Iterable[tuple[np.ndarray, BoxKind | None]],
    classes: SequenceOf[str],
    scale: int,
    caption: str,
    legend: Iterable[BoxKind] = (),
    theme: Theme = LIGHT,
) -> np.ndarray:
    """Draw several sets of boxes onto one picture and write a caption beneath.

    Args:
        picture: uint8 [H * scale, W * scale, 3], RGB; not changed.
        layers: Boxes, `LABEL_DTYPE` [n] in pixels before the enlargement with top-left corners, each set with its kind
            or None: each row tells, see `kind_of`. Later ones lie on top.
        classes: Class names in label-id order.
        scale: Enlargement of the picture.
        caption: Text beneath the picture.
        legend: Kinds of boxes that are explained beneath the picture.
        theme: Colours.

    Returns:
        uint8 [H * scale + one or two lines of text, W * scale, 3], RGB.
    """
    canvas = _Canvas(picture, theme)
    for boxes, kind in layers:
        _draw_on(canvas, boxes, classes, scale, kind)
    return canvas.with_caption(caption, list(legend))
