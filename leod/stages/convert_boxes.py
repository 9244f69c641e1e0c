"""Tool `convert_boxes`: box files of recordings from one format into another, and classes merged or left out."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import numpy as np

from leod.boxes.box_files import read_boxes, write_boxes
from leod.boxes.dtypes import LEFT_OUT_CLASS_ID
from leod.config.schema import IGNORED_CLASS_NAME
from leod.errors import ConfigError
from leod.options import Argument

logger = logging.getLogger(__name__)


def convert_boxes(
    source: Annotated[Path, Argument()],
    output: Annotated[Path, Argument()],
    classes: str,
    class_map: str | None = None,
) -> None:
    """Convert the boxes of a recording between NumPy, CSV and COCO JSON, merge classes, and check every row.

    The same can be said of all recordings at once, without touching their box files: `class_map` in the data set file.

    Args:
        source: Box file: *.npy, *.csv or *.json (COCO).
        output: Box file to write; its suffix names the format.
        classes: Class names in label-id order, separated by commas. Ids in ``output`` count from 0 in this order.
        class_map: What other names or ids in ``source`` are, separated by commas: truck=car,bus=car merges two into
            car, rider=ignored makes boxes neither object nor background, sign= leaves them out. Where an id is mapped,
            every id that occurs must be. A moment of which nothing is left is no longer a label moment.

    Raises:
        ConfigError: A suffix names no format, or ``class_map`` cannot be understood.
        DataError: The file is missing, damaged, or holds boxes that cannot be, or classes that are not named.
        ResourceError: The disk is full or not writable.
    """
    names = tuple(name.strip() for name in classes.split(","))
    boxes = read_boxes(source, names, _parsed(class_map, names))
    left_out = boxes["class_id"] == LEFT_OUT_CLASS_ID
    kept = boxes[~left_out]
    if left_out.any():
        emptied = np.setdiff1d(boxes["t"], kept["t"])
        logger.info(
            "%s: %d of %d boxes left out; of %d label moments nothing is left",
            *(source, left_out.sum(), len(boxes), len(emptied)),
        )
    write_boxes(output, kept, names)


def _parsed(class_map: str | None, names: tuple[str, ...]) -> dict[str, str | None]:
    """Name or id in the file → class; None: left out."""
    mapping: dict[str, str | None] = {}
    for entry in class_map.split(",") if class_map else ():
        name, equals, target = (part.strip() for part in entry.partition("="))
        if not name or not equals:
            raise ConfigError(f"--class-map: {entry!r} is not NAME=CLASS (or NAME= to leave it out)")
        if name in mapping:
            raise ConfigError(f"--class-map: {name!r} is mapped twice")
        if target not in ("", IGNORED_CLASS_NAME, *names):
            raise ConfigError(
                f"--class-map: {entry.strip()!r} leads to no class; expected one of {', '.join(names)}, "
                f"{IGNORED_CLASS_NAME!r}, or nothing"
            )
        mapping[name] = target or None
    return mapping
