"""Things along the street that resemble cars and pedestrians; compiled."""

from __future__ import annotations

import math

import numpy as np

from leod.jit import compiled
from leod.simulation.patterns import hash_number, hazed
from leod.simulation.shapes import fill_capsule, fill_ellipse, fill_rectangle

# Columns of a row of clutter.
CLUTTER_KIND, CLUTTER_X, CLUTTER_Z, CLUTTER_WIDTH, CLUTTER_HEIGHT, CLUTTER_VALUE, CLUTTER_VARIANT = range(7)
CLUTTER_COLUMNS = 7
POLE, TREE, BOLLARD, SIGN, CONTAINER, FENCE, COLUMN = range(7)


@compiled
def draw_clutter(
    image: np.ndarray,
    owner: np.ndarray,
    mark: int,
    item: np.ndarray,
    x: float,
    ground: float,
    scale: float,
    distance: float,
    seconds: float,
    wind: float,
) -> None:  # pragma: no cover
    """Draw one thing.

    Args:
        image: float64 [H, W], drawn onto.
        owner: int64 [H, W], see `leod.simulation.shapes`.
        mark: Written to ``owner``.
        item: float64 [CLUTTER_COLUMNS].
        x: Column of its middle.
        ground: Row where it stands.
        scale: Pixels per metre at its distance.
        distance: Metres.
        seconds: Time, for what sways.
        wind: 0..1, how much it sways.
    """
    kind = int(item[CLUTTER_KIND])
    width, height = item[CLUTTER_WIDTH] * scale, item[CLUTTER_HEIGHT] * scale
    variant = item[CLUTTER_VARIANT]
    value = hazed(item[CLUTTER_VALUE], distance)
    other = hazed(0.12 + 0.75 * hash_number(variant, 1.0), distance)
    left, right, top = x - width / 2, x + width / 2, ground - height
    if kind == POLE:
        fill_capsule(image, owner, mark, x, ground, x, top, width / 2, value)
        arm = (0.9 if variant < 0.5 else -0.9) * scale
        fill_capsule(image, owner, mark, x, top, x + arm, top, 0.06 * scale, value)
        fill_ellipse(image, owner, mark, x + arm, top, 0.3 * scale, 0.12 * scale, other, 1.0)
    elif kind == TREE:
        sway = wind * 0.05 * height * math.sin(6.283 * (0.5 + 0.8 * variant) * seconds + 40.0 * variant)
        fill_capsule(image, owner, mark, x, ground, x + 0.3 * sway, ground - 0.6 * height, 0.09 * scale, 0.6 * value)
        for lobe in range(4):
            offset = hash_number(variant, lobe + 2.0) - 0.5
            rise = 0.55 + 0.35 * hash_number(variant, lobe + 9.0)
            flutter = wind * 0.02 * height * math.sin(6.283 * (1.1 + offset) * seconds + 9.0 * lobe)
            fill_ellipse(
                image,
                owner,
                mark,
                x + 0.7 * offset * width + sway * rise + flutter,
                ground - rise * height,
                0.32 * width,
                0.16 * height,
                value * (0.75 + 0.5 * hash_number(variant, lobe + 4.0)),
                1.0,
            )
    elif kind == BOLLARD:
        fill_rectangle(image, owner, mark, left, ground - 0.8 * height, right, ground, value, 0.8 * value)
        fill_ellipse(image, owner, mark, x, ground - 0.85 * height, 0.45 * width, 0.15 * height, other, 1.0)
        fill_rectangle(image, owner, mark, left, ground - 0.55 * height, right, ground - 0.4 * height, other, other)
    elif kind == SIGN:
        fill_capsule(image, owner, mark, x, ground, x, top, 0.05 * scale, 0.5 * value)
        if variant < 0.5:
            fill_ellipse(image, owner, mark, x, top + width / 2, width / 2, width / 2, value, 1.0)
            fill_ellipse(image, owner, mark, x, top + width / 2, 0.3 * width, 0.3 * width, other, 1.0)
        else:
            fill_rectangle(image, owner, mark, left, top, right, top + 1.3 * width, value, other)
            fill_rectangle(image, owner, mark, left, top + 1.5 * width, right, top + 2.1 * width, other, other)
    elif kind == CONTAINER:
        fill_rectangle(image, owner, mark, left, top, right, ground, value, 0.7 * value)
        fill_rectangle(image, owner, mark, left, top + 0.15 * height, right, top + 0.25 * height, other, other)
        for panel in range(3):
            if hash_number(variant, panel + 5.0) < 0.6:
                start = left + (0.08 + 0.31 * panel) * width
                fill_rectangle(
                    image,
                    owner,
                    mark,
                    start,
                    top + 0.32 * height,
                    start + 0.22 * width,
                    top + 0.6 * height,
                    other,
                    0.8 * other,
                )
        for wheel in (0.2, 0.8):
            if variant < 0.5:
                centre = left + wheel * width
                fill_ellipse(image, owner, mark, centre, ground - 0.1 * height, 0.1 * height, 0.1 * height, 0.08, 1.0)
    elif kind == FENCE:
        fill_rectangle(image, owner, mark, left, top, right, top + 0.12 * height, value, value)
        slats = max(3, int(item[CLUTTER_WIDTH] / 0.45))
        for slat in range(slats):
            centre = left + (slat + 0.5) / slats * width
            fill_rectangle(
                image, owner, mark, centre - 0.08 * scale, top, centre + 0.08 * scale, ground, value, 0.7 * value
            )
    else:
        fill_rectangle(image, owner, mark, left, top, right, ground, value, 0.7 * value)
        fill_ellipse(image, owner, mark, x, top, 0.6 * width, 0.12 * height, 0.6 * value, 1.0)
        fill_rectangle(
            image, owner, mark, left + 0.12 * width, top + 0.2 * height, right - 0.12 * width, top + 0.6 * height,
            other, other,
        )  # fmt: skip
