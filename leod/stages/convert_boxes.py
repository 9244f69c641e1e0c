"""Tool `convert_boxes`: box files of recordings from one format into another, and classes merged or left out."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import numpy as np

from leod.boxes.box_files import read_boxes, write_boxes
from leod.boxes.dtypes import LEFT_OUT_CLASS_ID
from leod.config.schema import IGNORED_CLASS_NAME
from leod.errors import ConfigError
from leod.options import Argument, Names

logger = logging.getLogger(__name__)

_LEFT_OUT = "null"


def convert_boxes(
    source: Annotated[Path, Argument()],
    output: Annotated[Path, Argument()],
    classes: str,
    mapping: Annotated[list[str] | None, Names("--map")] = None,
) -> None:
    """Convert the boxes of a recording between NumPy, CSV and COCO JSON, merge classes, and check every row.

    The same can be said of all recordings at once, without touching their box files: `class_map` in the data set file.

    Args:
        source: Box file: *.npy, *.csv or *.json (COCO).
        output: Box file to write; its suffix names the format.
        classes: Class names in label-id order, separated by commas. Ids in ``output`` count from 0 in this order.
        mapping: NAME[,NAME...]=CLASS, what other names or ids in ``source`` are; several times for several classes.
            truck,bus=car merges two into car, rider=ignored makes boxes neither object nor background, sign=null leaves
            them out. Where an id is mapped, every id that occurs must be. A moment of which nothing is left is no
            longer a label moment.

    Raises:
        ConfigError: A suffix names no format, or ``mapping`` cannot be understood.
        DataError: The file is missing, damaged, or holds boxes that cannot be, or classes that are not named.
        ResourceError: The disk is full or not writable.
    """
    names = tuple(name.strip() for name in classes.split(","))
    boxes = read_boxes(source, names, _parsed(mapping or (), names))
    left_out = boxes["class_id"] == LEFT_OUT_CLASS_ID
    kept = boxes[~left_out]
    if left_out.any():
        emptied = np.setdiff1d(boxes["t"], kept["t"])
        logger.info(
            "%s: %d of %d boxes left out; of %d label moments nothing is left",
            *(source, left_out.sum(), len(boxes), len(emptied)),
        )
    write_boxes(output, kept, names)


def _parsed(entries: Iterable[str], classes: tuple[str, ...]) -> dict[str, str | None]:
    """Name or id in the file → class; None: left out."""
    mapping: dict[str, str | None] = {}
    for entry in entries:
        names, equals, target = (part.strip() for part in entry.partition("="))
        sources = [name.strip() for name in names.split(",")]
        if not equals or not target or not all(sources):
            raise ConfigError(
                f"--map {entry!r}: expected NAME[,NAME...]=CLASS, for example truck,bus=car; =ignored makes boxes "
                "neither object nor background, =null leaves them out"
            )
        if target not in (*classes, IGNORED_CLASS_NAME, _LEFT_OUT):
            raise ConfigError(f"--map {entry!r}: {target!r} is not one of the classes {list(classes)}")
        for name in sources:
            if name in mapping:
                raise ConfigError(f"--map {entry!r}: {name!r} is mapped twice")
            mapping[name] = None if target == _LEFT_OUT and _LEFT_OUT not in classes else target
    return mapping
