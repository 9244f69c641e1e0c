"""Tool `convert_boxes`: box files of recordings from one format into another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from leod.boxes.box_files import read_boxes, write_boxes
from leod.labelling.class_names import parse_mapping
from leod.labelling.merging import drop_left_out
from leod.options import Argument, Names


def convert_boxes(
    source: Annotated[Path, Argument()],
    output: Annotated[Path, Argument()],
    classes: str,
    mapping: Annotated[list[str] | None, Names("--map")] = None,
) -> None:
    """Convert the boxes of a recording between NumPy, CSV and COCO JSON, check every row, and merge classes.

    Args:
        source: Box file: *.npy, *.csv or *.json (COCO).
        output: Box file to write; its suffix names the format.
        classes: Class names in label-id order, separated by commas.
        mapping: What other names (or ids) in the file stand for: NAME[,NAME...]=CLASS, for example truck,bus=car;
            =ignored: neither object nor background; =null: left out, where a moment without other boxes becomes one
            found empty. May be given several times.

    Raises:
        ConfigError: A suffix names no format, or the mapping is wrong.
        DataError: The file is missing, damaged, or holds boxes that cannot be.
        ResourceError: The disk is full or not writable.
    """
    names = tuple(name.strip() for name in classes.split(","))
    boxes = read_boxes(source, names, parse_mapping(mapping or (), names))
    write_boxes(output, drop_left_out(boxes), names)
