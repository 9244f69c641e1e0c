"""CVAT for images 1.1: one XML file; sheets become contextual images of the task."""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from leod.errors import DataError
from leod.files import atomic_file, write_json
from leod.labelling.annotations import (
    Box,
    DrawnPicture,
    Export,
    ExportFiles,
    number,
    refuse_rotation,
    refuse_shape,
    refuse_shares,
)

NAME = "cvat"

_SHAPES = ("polygon", "polyline", "points", "ellipse", "mask", "cuboid", "skeleton")


def write(folder: Path, export: Export) -> None:
    """Write `annotations.xml`, `labels.json` for the task's raw editor, and `data/` to make the task from.

    `data/` holds the pictures, and the sheets in the folder `related_images` in which CVAT looks for images that are
    shown beside a picture.
    """
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    task = ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task")
    for key, text in (
        ("name", f"leod export {export.export_id}"),
        ("size", str(len(export.pictures))),
        ("mode", "annotation"),
        ("overlap", "0"),
        ("start_frame", "0"),
        ("stop_frame", str(max(len(export.pictures) - 1, 0))),
    ):
        ElementTree.SubElement(task, key).text = text
    labels = ElementTree.SubElement(task, "labels")
    for name in export.labels:
        label = ElementTree.SubElement(labels, "label")
        ElementTree.SubElement(label, "name").text = name
        ElementTree.SubElement(label, "attributes")
    for position, picture in enumerate(sorted(export.pictures, key=lambda entry: entry.file)):
        image = ElementTree.SubElement(
            root,
            "image",
            {
                "id": str(position),
                "name": picture.file,
                "width": str(picture.size[1]),
                "height": str(picture.size[0]),
            },
        )
        for box in picture.boxes:
            ElementTree.SubElement(
                image,
                "box",
                {
                    "label": box.label,
                    "source": "auto",
                    "occluded": "0",
                    "xtl": f"{box.x:.4f}",
                    "ytl": f"{box.y:.4f}",
                    "xbr": f"{box.x + box.w:.4f}",
                    "ybr": f"{box.y + box.h:.4f}",
                    "z_order": "0",
                },
            )
    ElementTree.indent(root)
    with atomic_file(folder / "annotations.xml") as temporary:
        ElementTree.ElementTree(root).write(temporary, encoding="utf-8", xml_declaration=True)
    write_json(
        folder / "labels.json", [{"name": name, "type": "rectangle", "attributes": []} for name in export.labels]
    )
    data = folder / "data"
    data.mkdir()
    for picture in export.pictures:
        shutil.copyfile(export.images / picture.file, data / picture.file)
        if picture.sheet is not None:
            beside = data / "related_images" / picture.file.replace(".", "_")
            beside.mkdir(parents=True)
            shutil.copyfile(export.context / picture.sheet, beside / picture.sheet)


def recognise(files: ExportFiles) -> list[str]:
    """Names of the files that are CVAT's."""
    return [name for name in files.names if name.lower().endswith(".xml") and root_tag(files, name) == "annotations"]


def root_tag(files: ExportFiles, name: str) -> str | None:
    """Name of the outermost element; None if it is no XML."""
    try:
        return ElementTree.fromstring(files.text(name)).tag
    except ElementTree.ParseError:
        return None


def export_ids(files: ExportFiles, names: list[str]) -> set[str]:
    """CVAT has no place for it that survives."""
    return set()


def read(files: ExportFiles, names: list[str]) -> list[DrawnPicture]:
    """Read annotated pictures.

    Raises:
        DataError: Something in a file is not as CVAT for images 1.1 has it.
    """
    return [picture for name in names for picture in _read_file(files.place(name), files.text(name))]


def _read_file(file: Path, text: str) -> list[DrawnPicture]:
    root = ElementTree.fromstring(text)
    if root.find("track") is not None:
        raise DataError(file, 'holds tracks, so it is "CVAT for video 1.1". Export as "CVAT for images 1.1".')
    pictures = []
    for position, image in enumerate(root.iter("image")):
        name = image.get("name")
        if not name:
            raise DataError(file, f"image {position}: has no name, so it is not known which picture it is.")
        where = f"image {name!r}"
        boxes = []
        for count, shape in enumerate((entry for entry in image if entry.tag in (*_SHAPES, "box")), start=1):
            place = f"{where}, shape {count}"
            if shape.tag != "box":
                refuse_shape(file, place, shape.tag)
            refuse_rotation(file, place, shape.get("rotation"))
            left, top, right, bottom = (
                number(file, place, key, shape.get(key)) for key in ("xtl", "ytl", "xbr", "ybr")
            )
            boxes.append(Box(left, top, right - left, bottom - top, shape.get("label") or "", where=place))
        size = tuple(round(number(file, where, side, image.get(side))) for side in ("height", "width"))
        pictures.append(DrawnPicture(name, file, where, tuple(boxes), size))
    refuse_shares(file, [box for picture in pictures for box in picture.boxes], "pixels")
    return pictures
