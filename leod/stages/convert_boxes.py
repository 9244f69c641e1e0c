"""Tool `convert_boxes`: box files of recordings from one format into another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from leod.boxes.box_files import read_boxes, write_boxes
from leod.options import Argument


def convert_boxes(source: Annotated[Path, Argument()], output: Annotated[Path, Argument()], classes: str) -> None:
    """Convert the boxes of a recording between NumPy, CSV and COCO JSON, and check every row.

    Args:
        source: Box file: *.npy, *.csv or *.json (COCO).
        output: Box file to write; its suffix names the format.
        classes: Class names in label-id order, separated by commas.

    Raises:
        ConfigError: A suffix names no format.
        DataError: The file is missing, damaged, or holds boxes that cannot be.
        ResourceError: The disk is full or not writable.
    """
    names = tuple(name.strip() for name in classes.split(","))
    write_boxes(output, read_boxes(source, names), names)
